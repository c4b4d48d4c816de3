"""Keeps an index outside of the process up to date with the database, and knows what it lacks.

Every process follows the index; whichever has the lock also applies changes to it. Applying is idempotent, so that
neither a process that dies in the middle nor one that was halted for a while does harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence, Set

from face_detection.gallery.coordination import Locks
from face_detection.gallery.people import Change
from face_detection.gallery.remote.index import VectorIndex, lock_to_rebuild
from face_detection.gallery.remote.other_spaces import OtherSpaces
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store, follow
from shared.background import start_thread
from shared.errors import CursorExpired, SearchUnavailable, ServiceError
from shared.models import Metric

log = logging.getLogger(__name__)

_PAUSE = 0.25
"""Seconds between two looks at what there is to do."""

_LONGEST_PAUSE = 5.0
"""The same while the database or the index fails."""

_FIRST_LOOK = 15.0
"""Seconds within which a process must have looked at the index for the first time."""


class PendingChanges(MemoryIndex):
    """What an index elsewhere does not have yet: the samples that the latest changes have touched, exactly, in memory.

    Whatever the index says of these samples is outdated.
    """

    def __init__(self, store: Store, space: str, metric: Metric, base: int, begun: int) -> None:
        """No pending changes yet; ``refresh`` or the first search finds them.

        Args:
            store, space, metric: see ``MemoryIndex``.
            base: number of the last change that the index has.
            begun: number of the change up to which the index has nothing that was deleted.
        """
        super().__init__(store, space, metric)
        self.base = self._applied = self._loaded = base
        self._begun = begun
        self._position = store.position()
        self._touched: defaultdict[str, set[int]] = defaultdict(set)

    def touched(self, tenant: str) -> Set[int]:
        """Keys of a tenant's samples that were changed, deleted ones included."""
        return self._touched.get(tenant, set())

    def _apply(self, changes: Sequence[Change]) -> None:
        super()._apply(changes)
        # Last, so that whoever reads these and then searches never misses a sample.
        for change in changes:
            self._touched[change.tenant].add(change.key)

    def _start_over(self) -> None:  # another takes its place
        raise SearchUnavailable("The search index has yet to catch up with the database.")

    def _capacity(self, tenant: str, least: int) -> int:
        return least


class Follower:
    """Follows one index. Safe between threads.

    Args:
        store: whose changes.
        locks: who applies the changes.
        lock: its name.
        index: what is kept up to date; whoever made it closes it, after this.
        space, metric: of the pending changes, see ``MemoryIndex``.
        most_pending: most changes that are kept in memory.
    """

    def __init__(
        self,
        store: Store,
        locks: Locks,
        lock: str,
        index: VectorIndex,
        space: str,
        metric: Metric,
        most_pending: int,
    ) -> None:
        self._store = store
        self._locks = locks
        self._lock = lock
        self._index = index
        self._space = space
        self._metric = metric
        self._most_pending = most_pending
        self._former = OtherSpaces(store, locks, index)
        self._pending: PendingChanges | None = None
        self._seen: deque[tuple[float, int]] = deque()  # positions of the index, and when each was seen first
        self._settled = 0
        self._followed: Position | None = None  # of the database, when it was looked at last
        self._trouble = ""
        self._looked = threading.Event()
        self._closed = threading.Event()
        self._thread = start_thread("follower", self._run, self._closed)

    @property
    def lag(self) -> int:
        """Changes that the index does not have, or may not show yet.

        Raises:
            StorageError: the database failed.
        """
        return max(0, self._store.last_change() - self._settled)

    def pending(self) -> PendingChanges:
        """What the index lacks; it has all changes up to their base.

        Raises:
            SearchUnavailable: the index has not been seen yet, or lacks more than is kept in memory.
        """
        self._looked.wait(_FIRST_LOOK)
        pending = self._pending
        if pending is None:
            raise SearchUnavailable(self._trouble or "The search index has yet to catch up with the database.")
        return pending

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
                # Whatever it is, searches go on with ever more pending changes, and the next look may go well.
                log.exception("the search index does not follow the database")
                pause = _LONGEST_PAUSE
            self._looked.set()

    def _look(self, position: int) -> bool:
        """Take notice of the index's position; whether there is something to apply.

        Raises:
            SearchUnavailable: the database was replaced, now or before this process began to look.
            StorageError: the database failed.
        """
        now = time.monotonic()
        current = self._store.position()
        if self._followed not in (None, current) and not self._store.has_passed(self._followed.mark):
            self._begin_anew()
            raise SearchUnavailable("The database was replaced while in use; the search index is made anew.")
        self._followed = current
        last = current.change
        if position > last:
            self._pending = None
            raise SearchUnavailable("The search index is ahead of the database and must be rebuilt.")
        if self._seen and position < self._seen[-1][1]:
            log.warning("the search index was lost and is made again", extra={"position": position})
            self._seen.clear()
            self._settled = 0
            self._pending = None
        if not self._seen or position > self._seen[-1][1]:
            self._seen.append((now, position))
        horizon = self._store.horizon()
        begun = self._begun(position, horizon)
        if begun < horizon:
            self._pending = None  # what it has missed is no longer known
            return True
        while self._seen and now - self._seen[0][0] >= self._index.settling:
            self._settled = self._seen[0][1]
            if len(self._seen) == 1:
                break
            self._seen.popleft()
        self._renew(last, begun if self._settled < horizon else self._settled)
        return position < last

    def _begin_anew(self) -> None:
        """Drop all indexes of the gallery, if it is this process's turn; whoever follows them finds them lost."""
        self._pending = None
        with self._locks.take(self._lock) as taken:
            if taken:
                log.error("the database was replaced while in use; the search index is made anew")
                for state in self._index.indexes.states():
                    self._index.indexes.drop(state.name)
                self._followed = None

    def _begun(self, position: int, horizon: int) -> int:
        """Number of the change up to which the index has nothing that was deleted; at least where it matters."""
        if position >= horizon:
            return position
        indexes = self._index.indexes
        return max([position, *(state.reached or 0 for state in indexes.states() if state.name == indexes.own)])

    def _renew(self, last: int, begun: int) -> None:
        """Let go of what the index has by now."""
        pending = self._pending
        if last - self._settled > self._most_pending:
            self._pending = None
        elif pending is None:
            self._pending = self._pending_from(begun)
        elif self._settled > pending.base and 2 * (self._settled - pending.base) >= pending.applied - pending.base:
            renewed = self._pending_from(begun)
            renewed.refresh()
            self._pending = renewed

    def _pending_from(self, begun: int) -> PendingChanges:
        return PendingChanges(self._store, self._space, self._metric, self._settled, begun)

    def _apply(self) -> None:
        """Apply what the index lacks, if it is this process's turn."""
        with self._locks.take(self._lock) as taken:
            if not taken:
                return
            position = self._index.position()
            store = self._store
            begun = self._begun(position, store.horizon()) if position else self._index.begin(store.last_change())
            try:
                for changes, reached in follow(store, position, begun):
                    self._index.apply(changes, position, reached)
                    position = reached
                    self._look(position)
                    self._looked.set()
                    self._former.look()
                    if self._closed.is_set():
                        return
            except CursorExpired:
                self._start_over()

    def _start_over(self) -> None:
        """Drop the index, which the next look makes anew, unless somebody is making it anew already."""
        with self._locks.take(lock_to_rebuild(self._lock)) as taken:
            if taken:
                log.warning("the search index has missed deletions and is made anew")
                self._index.indexes.drop(self._index.indexes.own)


def rebuild(
    store: Store, locks: Locks, lock: str, index: VectorIndex, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Make an index again from the database, while the present one goes on serving, then put it in its place.

    Args:
        store, locks, lock, index: see ``Follower``.
        progress: told the number of the change that was applied last, and of the last one there is.

    Returns:
        The number of the last change that it has.

    Raises:
        SearchUnavailable, StorageError: the index or the database failed, or another process is doing the same; the
            present index stays.
        CursorExpired: the same, because it took longer than deletions are known.
    """
    with locks.take(lock_to_rebuild(lock)) as taken:
        if not taken:
            raise SearchUnavailable("Another process is making the search index again.")
        return _rebuild(store, locks, lock, index, progress)


def _rebuild(store: Store, locks: Locks, lock: str, index: VectorIndex, progress: Callable[[int, int], None]) -> int:
    fresh = index.fresh()
    try:
        position = _load(store, fresh, 0, store.last_change(), progress)
        fresh.complete()
        position = _load(store, fresh, position, position, progress)
        while True:
            with locks.take(lock) as taken:
                if not taken:
                    time.sleep(_PAUSE)
                    continue
                # From here on nobody brings the present index any further, so none are pending from where the fresh one
                # does not reach.
                position = _load(store, fresh, position, position, progress)
                time.sleep(fresh.settling)
                fresh.publish()
                return position
    except BaseException:
        fresh.drop()
        raise


def _load(store: Store, index: VectorIndex, position: int, begun: int, progress: Callable[[int, int], None]) -> int:
    for changes, reached in follow(store, position, begun):
        index.apply(changes, position, reached)
        position = reached
        progress(position, max(position, store.last_change()))
    return position
