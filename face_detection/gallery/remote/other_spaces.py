"""Indexes of embedding spaces that a gallery was used with before, which nobody may be bringing up to date any more.

Whoever is deleted must be gone from them too. Each index records itself up to which change that is so, so that nothing
is missed, whatever was running and whatever died. One that has come so late that deletions are no longer known is
dropped, and made anew when its space is used again. One that is being brought up to date is left to those who do it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from face_detection.gallery.coordination import Locks
from face_detection.gallery.remote.index import IndexState, VectorIndex, lock_to_apply, lock_to_rebuild
from face_detection.gallery.sql.store import Store
from shared.errors import CursorExpired, SearchUnavailable, ServiceError

log = logging.getLogger(__name__)

CHUNK = 4096
"""Changes whose samples are removed at once."""

_PAUSE = 0.25
"""Seconds between two chunks, in which those who search an index get their turn to bring it up to date."""

_REST = 10.0
"""Seconds between two looks while there is nothing to do."""


class OtherSpaces:
    """Frees the other indexes of a gallery of what was removed, and all of what killed rebuilds have left.

    For one thread. Another that does the same, in this or another process, does no harm.
    """

    def __init__(self, store: Store, locks: Locks, index: VectorIndex) -> None:
        """See ``Follower``; the index is the one that this process searches."""
        self._store = store
        self._locks = locks
        self._indexes = index.indexes
        self._next = 0.0
        self._failed = False

    def look(self) -> None:
        """Do a little of what there is to do, unless it is too early. Failures are logged, and tried again."""
        if time.monotonic() < self._next:
            return
        pause = _REST
        try:
            for state in self._indexes.states():
                if state.leftovers:
                    self._drop_leftovers(state)
                if state.name != self._indexes.own and self._free(state):
                    pause = _PAUSE
            self._failed = False
        except ServiceError as error:
            if not self._failed:
                log.warning("what was removed stays in former search indexes for now: %s", error.message)
            self._failed = True
        self._next = time.monotonic() + pause

    def _drop_leftovers(self, state: IndexState) -> None:
        lock = lock_to_apply(state.name)
        # Both locks: who applies changes to an index that is not there begins with one that is not published yet.
        with self._locks.take(lock) as applying, self._locks.take(lock_to_rebuild(lock)) as rebuilding:
            if applying and rebuilding:
                self._indexes.drop_leftovers(state.name)

    def _free(self, state: IndexState) -> bool:
        """Whether there was something to remove, so that there may be more."""
        if state.reached is None or state.reached >= self._store.last_change():
            return False
        with self._locks.take(lock_to_apply(state.name)) as taken:
            if not taken:
                return False
            try:
                changes = self._store.changes(state.reached, CHUNK)
            except CursorExpired:
                return self._give_up(state)
            if not changes:
                return False
            self._indexes.remove(state.name, changes, changes[-1].number)
        return True

    def _give_up(self, state: IndexState) -> bool:
        """Drop an index of which nobody knows any more what is to be removed, unless it is just being made anew."""
        with self._locks.take(lock_to_rebuild(lock_to_apply(state.name))) as taken:
            if taken:
                log.warning("a former search index has missed deletions and is dropped", extra={"index": state.name})
                self._indexes.drop(state.name)
            return taken


def drop_former(locks: Locks, index: VectorIndex) -> Iterator[tuple[str, str]]:
    """Drop the indexes of all other spaces of the gallery.

    Yields:
        The name of each of them, and why it stays, which is empty for one that was dropped.

    Raises:
        SearchUnavailable, StorageError: the place of the indexes or the database failed.
    """
    for state in index.indexes.states():
        if state.name != index.indexes.own:
            with locks.take(lock_to_apply(state.name)) as taken:
                yield state.name, _dropped(index, state.name) if taken else "A service is bringing it up to date."


def _dropped(index: VectorIndex, name: str) -> str:
    try:
        index.indexes.drop(name)
    except SearchUnavailable as error:
        return error.message
    return ""
