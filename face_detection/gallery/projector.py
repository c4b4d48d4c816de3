"""Keeps an index outside of the process up to date with the database, and knows what it lacks.

Every process follows the index; whichever has the turn also applies changes to it. Applying is idempotent, so that
neither a process that dies in the middle nor one that was halted for a while does harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from face_detection.gallery.former import FormerIndexes
from face_detection.gallery.overlay import Overlay
from face_detection.gallery.store import Store
from face_detection.gallery.turns import Turns
from face_detection.gallery.vectors import VectorIndex, turn_to_rebuild
from shared.errors import SearchUnavailable, ServiceError

log = logging.getLogger(__name__)

CHUNK = 4096
"""Changes that are applied at once."""

_PAUSE = 0.25
"""Seconds between two looks at what there is to do."""

_LONGEST_PAUSE = 5.0
"""The same while the database or the index fails."""

_FIRST_LOOK = 15.0
"""Seconds within which a process must have looked at the index for the first time."""


class Projector:
    """Follows one index. Safe between threads.

    Args:
        store: whose changes.
        turns: whose turn it is to apply them.
        turn: name of the turn.
        index: what is kept up to date; whoever made it closes it, after this.
        open_overlay: makes an overlay of all changes after a number.
        most_overlaid: most changes in an overlay.
    """

    def __init__(
        self,
        store: Store,
        turns: Turns,
        turn: str,
        index: VectorIndex,
        open_overlay: Callable[[int], Overlay],
        most_overlaid: int,
    ) -> None:
        self._store = store
        self._turns = turns
        self._turn = turn
        self._index = index
        self._open_overlay = open_overlay
        self._most_overlaid = most_overlaid
        self._former = FormerIndexes(store, turns, index)
        self._overlay: Overlay | None = None
        self._seen: deque[tuple[float, int]] = deque()  # positions of the index, and when each was seen first
        self._settled = 0
        self._trouble = ""
        self._looked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)
        self._thread.start()

    @property
    def lag(self) -> int:
        """Changes that the index does not have, or may not show yet.

        Raises:
            StorageError: the database failed.
        """
        return max(0, self._store.last_change() - self._settled)

    def overlay(self) -> Overlay:
        """What the index lacks; it has all changes up to the overlay's base.

        Raises:
            SearchUnavailable: the index has not been seen yet, or lacks more than is kept in memory.
        """
        self._looked.wait(_FIRST_LOOK)
        overlay = self._overlay
        if overlay is None:
            raise SearchUnavailable(self._trouble or "The search index has yet to catch up with the database.")
        return overlay

    def close(self) -> None:
        """Stop; a batch that is being applied is finished first."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            try:
                if self._look(self._index.position()):
                    self._apply()
                pause, self._trouble = _PAUSE, ""
                self._looked.set()
                self._former.look()
            except ServiceError as error:
                if not self._trouble:
                    log.warning("the search index does not follow the database: %s", error.message)
                self._trouble = error.message
                pause = min(_LONGEST_PAUSE, 2 * (pause or _PAUSE))
            except Exception:
                # Whatever it is, searches go on with an overlay that grows, and the next look may go well.
                log.exception("the search index does not follow the database")
                pause = _LONGEST_PAUSE
            self._looked.set()

    def _look(self, position: int) -> bool:
        """Take notice of the index's position; whether there is something to apply.

        Raises:
            SearchUnavailable: the index is ahead of the database, which must have been replaced by an older one.
            StorageError: the database failed.
        """
        now = time.monotonic()
        last = self._store.last_change()
        if position > last:
            self._overlay = None
            raise SearchUnavailable("The search index is ahead of the database and must be rebuilt.")
        if self._seen and position < self._seen[-1][1]:
            log.warning("the search index was lost and is made again", extra={"position": position})
            self._seen.clear()
            self._settled = 0
            self._overlay = None
        if not self._seen or position > self._seen[-1][1]:
            self._seen.append((now, position))
        while self._seen and now - self._seen[0][0] >= self._index.settling:
            self._settled = self._seen[0][1]
            if len(self._seen) == 1:
                break
            self._seen.popleft()
        self._renew(last)
        return position < last

    def _renew(self, last: int) -> None:
        """Let go of what the index has by now."""
        overlay = self._overlay
        if last - self._settled > self._most_overlaid:
            self._overlay = None
        elif overlay is None:
            self._overlay = self._open_overlay(self._settled)
        elif self._settled > overlay.base and 2 * (self._settled - overlay.base) >= overlay.applied - overlay.base:
            renewed = self._open_overlay(self._settled)
            renewed.refresh()
            self._overlay = renewed

    def _apply(self) -> None:
        """Apply what the index lacks, if it is this process's turn."""
        with self._turns.take(self._turn) as taken:
            if not taken:
                return
            position = self._index.position()
            while not self._closed.is_set() and (changes := self._store.changes(position, CHUNK)):
                since, position = position, changes[-1].number
                self._index.apply(changes, since, position)
                self._look(position)
                self._looked.set()
                self._former.look()


def rebuild(
    store: Store, turns: Turns, turn: str, index: VectorIndex, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Make an index again from the database, while the present one goes on serving, then put it in its place.

    Args:
        store, turns, turn, index: see ``Projector``.
        progress: told the number of the change that was applied last, and of the last one there is.

    Returns:
        The number of the last change that it has.

    Raises:
        SearchUnavailable, StorageError: the index or the database failed, or another process is doing the same; the
            present index stays.
    """
    with turns.take(turn_to_rebuild(turn)) as taken:
        if not taken:
            raise SearchUnavailable("Another process is making the search index again.")
        return _rebuild(store, turns, turn, index, progress)


def _rebuild(store: Store, turns: Turns, turn: str, index: VectorIndex, progress: Callable[[int, int], None]) -> int:
    fresh = index.fresh()
    try:
        position = _load(store, fresh, 0, progress)
        fresh.complete()
        position = _load(store, fresh, position, progress)
        while True:
            with turns.take(turn) as taken:
                if not taken:
                    time.sleep(_PAUSE)
                    continue
                # From here on nobody brings the present index any further, so no overlay begins where the fresh one
                # does not reach.
                position = _load(store, fresh, position, progress)
                time.sleep(fresh.settling)
                fresh.publish()
                return position
    except BaseException:
        fresh.drop()
        raise


def _load(store: Store, index: VectorIndex, position: int, progress: Callable[[int, int], None]) -> int:
    while changes := store.changes(position, CHUNK):
        since, position = position, changes[-1].number
        index.apply(changes, since, position)
        progress(position, max(position, store.last_change()))
    return position
