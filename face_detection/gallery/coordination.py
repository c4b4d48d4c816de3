"""What the processes on one database agree upon: who does a piece of work, and how many requests a key has had."""

from __future__ import annotations

import fcntl
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from typing_extensions import override


class Locks(Protocol):
    """Locks by name: of all processes that work on one database, one at a time does a certain piece of work.

    A lock ends at the latest with the process, or with its connection to the database.
    """

    def take(self, name: str) -> AbstractContextManager[bool]:
        """Take the lock called ``name`` if nobody else has it, for as long as the context is open; whether it was.

        Raises:
            StorageError: the database failed.
        """


class FileLocks(Locks):
    """Locks of files beside a database file; without one, within this process."""

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    @override
    def take(self, name: str) -> Iterator[bool]:
        if not self._locks[name].acquire(blocking=False):
            yield False
            return
        try:
            if self._database is None:
                yield True
            else:
                with _locked(self._database.with_name(f"{self._database.name}.{name}")) as taken:
                    yield taken
        finally:
            self._locks[name].release()


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class RateLimits(Protocol):
    """Counts requests. Safe between threads."""

    def hit(self, key: str, per_minute: int) -> float | None:
        """Count a request, unless there have been so many within the last 60 seconds.

        Args:
            key: id of an API key that exists.
            per_minute: most requests within any 60 seconds, at least 1.

        Returns:
            None when the request was counted; otherwise the seconds until another will be.

        Raises:
            StorageError: the database failed.
        """


class ProcessRateLimits(RateLimits):
    """The ``RateLimits`` of one process, in its memory: N processes together let N times as many requests pass."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @override
    def hit(self, key: str, per_minute: int) -> float | None:
        item = RateLimitItemPerMinute(per_minute)
        if self._limiter.hit(item, key):
            return None
        return max(0.0, self._limiter.get_window_stats(item, key).reset_time - time.time())
