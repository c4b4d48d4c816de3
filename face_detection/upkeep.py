"""What is removed once nobody has to know of it any more: the tombstones of those who were deleted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from face_detection.gallery.coordination import Locks
from face_detection.gallery.sql.history import BATCH, Tombstones
from face_detection.gallery.sql.store import Store
from shared.background import start_thread
from shared.errors import ServiceError

log = logging.getLogger(__name__)

TURN = "upkeep"

_FIRST_PAUSE = 60.0
"""Seconds in which a process that starts has better things to do."""

_PAUSE = 3600.0
_REST = 0.1
"""Seconds between two batches, for others who want to write."""

_LAST = 1.0
"""Seconds for which the end of the service waits for a batch."""

_DAY = 86_400 * 1_000_000


def removable(days: int) -> int:
    """The time, in microseconds since 1970, before which tombstones have been kept for so many days."""
    return time.time_ns() // 1000 - days * _DAY


class Upkeep:
    """Removes old tombstones, in a thread of its own; of all processes one at a time.

    Args:
        store, tombstones, locks: of the gallery.
        days: for which tombstones are kept.
        lag: how many of the last changes the search index does not have yet, whose tombstones stay.
    """

    def __init__(self, store: Store, tombstones: Tombstones, locks: Locks, days: int, lag: Callable[[], int]) -> None:
        self._store = store
        self._tombstones = tombstones
        self._locks = locks
        self._days = days
        self._lag = lag
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a while."""
        self._thread = start_thread("upkeep", self._run, self._closed)

    def close(self) -> None:
        """Stop; a batch that is being removed is waited for, for a moment, and done or undone by itself."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_LAST)

    def remove(self) -> None:
        """Remove all there are by now, unless another process does.

        Raises:
            StorageError: the database failed.
        """
        before, known = removable(self._days), self._store.last_change() - self._lag()
        with self._locks.take(TURN) as taken:
            while taken and self._tombstones.remove(before, known) == BATCH and not self._closed.wait(_REST):
                pass

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.wait(pause):
            pause = _PAUSE
            try:
                self.remove()
            except ServiceError as error:
                log.warning("old tombstones stay for now: %s", error.message)
