"""The gallery: where samples (``sql.store``), tenants (``sql.directory``) and what happened (``events``) are kept, and
how the nearest samples are found (``search``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared.errors import SettingsError, StartupError

if TYPE_CHECKING:  # imported when a database is opened: what only asks a service needs none
    from face_detection.gallery.coordination import Locks, RateLimits
    from face_detection.gallery.events import EventLog
    from face_detection.gallery.sql import database
    from face_detection.gallery.sql.answers import Answers
    from face_detection.gallery.sql.collections import Collections
    from face_detection.gallery.sql.directory import Directory
    from face_detection.gallery.sql.history import Tombstones
    from face_detection.gallery.sql.store import Store
    from face_detection.gallery.sql.tables import Tables

T = TypeVar("T")

_THREADS = 8

_WRITERS = 32
"""Threads that write: they mostly wait for one another, and give up together when the database stays locked."""


@dataclass(frozen=True)
class Gallery:
    """The parts of one database."""

    store: Store
    directory: Directory
    collections: Collections
    events: EventLog
    tables: Tables
    locks: Locks
    rates: RateLimits
    answers: Answers
    tombstones: Tombstones

    def close(self) -> None:
        """Close the database; using any part afterwards raises StorageError."""
        self.store.close()


class GalleryPool:
    """Threads for searches and for the database, away from the event loop: some that read, others that write.

    Apart from those that decode, and from each other, so that a write that waits for the database's lock holds up
    neither a picture nor a search.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gallery")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of some work that does not write; log lines that it writes have the request's id."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)

    async def write(self, work: Callable[[], T]) -> T:
        """The same of work that changes the database, and so may have to wait for whoever else does."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, copy_context().run, work)

    def close(self) -> None:
        """Finish what runs; what has not begun is dropped."""
        self._writers.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)


def open_gallery(database: str) -> Gallery:
    """Open what a DATABASE setting names, and create or migrate it where needed.

    Args:
        database: path of an SQLite database, ``:memory:`` for one that ends with the process, or the URL of a
            PostgreSQL database.

    Raises:
        SettingsError: a URL of another kind, or one that cannot be understood.
        StartupError: the database cannot be opened, is damaged, or was written by a newer release; or the driver for
            PostgreSQL is not installed.
    """
    if is_postgres(database):
        return _open_postgres(database)
    if "://" in database:
        raise SettingsError("DATABASE must be a path, :memory: or postgresql://user:password@host/name.")
    from face_detection.gallery.coordination import FileLocks, ProcessRateLimits
    from face_detection.gallery.sqlite.connections import MEMORY, Connections

    file = None if database == MEMORY else Path(database)
    return _gallery(Connections(database), FileLocks(file), ProcessRateLimits())


def is_postgres(database: str) -> bool:
    """Whether a DATABASE setting is the URL of a PostgreSQL database, which may have a password in it."""
    return database.startswith(("postgresql://", "postgres://"))


def _open_postgres(url: str) -> Gallery:
    try:
        import psycopg  # noqa: F401 -- is it there?
    except ImportError as error:
        raise StartupError(
            "DATABASE names a PostgreSQL database, whose driver is missing: pip install -r requirements-postgres.txt"
        ) from error
    from face_detection.gallery.postgres.connections import Connections, NamedConnections
    from face_detection.gallery.postgres.coordination import PostgresLocks, PostgresRateLimits

    connections = Connections(url)
    return _gallery(NamedConnections(connections), PostgresLocks(connections), PostgresRateLimits(connections))


def _gallery(connections: database.Connections, locks: Locks, rates: RateLimits) -> Gallery:
    from face_detection.gallery.events import EventLog
    from face_detection.gallery.sql.answers import Answers
    from face_detection.gallery.sql.collections import Collections
    from face_detection.gallery.sql.directory import Directory
    from face_detection.gallery.sql.history import Tombstones
    from face_detection.gallery.sql.store import Store
    from face_detection.gallery.sql.tables import Tables

    return Gallery(
        Store(connections),
        Directory(connections),
        Collections(connections),
        EventLog(connections),
        Tables(connections),
        locks,
        rates,
        Answers(connections),
        Tombstones(connections),
    )
