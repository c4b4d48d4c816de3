"""Locks: of all processes that work on one database, one at a time does a certain piece of work."""

from __future__ import annotations

import fcntl
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from typing_extensions import override


class Locks(Protocol):
    """Locks by name. One ends at the latest with the process, or with its connection to the database."""

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
