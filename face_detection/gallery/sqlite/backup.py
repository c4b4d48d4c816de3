"""Copies of an SQLite database: taken while it is in use, verified, and put back.

A copy is one file, complete without a write-ahead log beside it. It appears under its name only when it is whole, on
disk and verified.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from face_detection.gallery.sqlite.connections import damage
from face_detection.gallery.sqlite.failures import DAMAGED, translation
from face_detection.gallery.sqlite.migrations import migrate
from shared.errors import Conflict, StartupError, StorageError, StorageUnavailable

_PAGES = 2_000
"""Pages that are copied at a time; between them others write."""

_LOG_FILES = ("-wal", "-shm", "-journal")

_IS_OURS = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"

# https://www.sqlite.org/src/file/src/os.h: who has the database open in WAL mode holds a shared lock on these bytes.
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510


def find_damage(database: Path, thorough: bool = False) -> str | None:
    """What SQLite finds wrong with a database file, in its words; None when all is well.

    Args:
        database: an existing file.
        thorough: compare each index with its table, too (``integrity_check`` instead of ``quick_check``), which takes
            several times as long.

    Raises:
        StorageError: it cannot be read, which says nothing about what it holds.
    """
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return damage(connection, thorough)
    except sqlite3.DatabaseError as error:
        meaning = translation(error, database)
        if meaning.text != DAMAGED:
            raise StorageError(f"{database} cannot be read: {meaning.text}", meaning.advice) from error
        return str(error)


def back_up(database: Path, target: Path, overwrite: bool = False) -> int:
    """Copy a database to a file, also while others read and write it; returns the size of the copy in bytes.

    Raises:
        Conflict: the target exists, and is not to be overwritten.
        StorageError: the database is damaged, or the copy cannot be written; no file is left.
    """
    if target.exists() and not overwrite:
        raise Conflict(f"{target} exists already; --force overwrites it.")
    with _appearing(target) as copy, _worded(f"{database} cannot be copied to {target}"):
        _copy(database, copy)
        _standalone(copy)
    return target.stat().st_size


def restore(copy: Path, database: Path) -> Path | None:
    """Put a copy in the place of a database; returns where the former database is kept, None when there was none.

    The database counts as another gallery from then on, so that indexes elsewhere and clients which had followed the
    former one begin anew.

    Raises:
        StorageUnavailable: a process has the database open.
        StorageError: the copy is damaged or of a newer release, or cannot be written; the database is as it was.
    """
    if found := find_damage(copy, thorough=True):
        raise StorageError(f"{copy} is damaged ({found}).")
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    former = database.with_name(f"{database.name}.before-restore-{at}")
    with (
        _closed_to_others(database),
        _worded(f"{copy} cannot be restored to {database}"),
        _appearing(database, lambda: _set_aside(database, former)) as new,
    ):
        _copy(copy, new)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            if not connection.execute(_IS_OURS).fetchone()[0]:
                raise StorageError(f"{copy} is no database of this service.")
            connection.execute("BEGIN IMMEDIATE")
            migrate(connection)
            connection.execute("UPDATE gallery SET id = ?", (secrets.token_hex(16),))
            connection.execute("COMMIT")
        _standalone(new)
    return former if former.exists() else None


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing, pages=_PAGES, sleep=0.01)


def _standalone(copy: Path) -> None:
    """Fold the log into the file, and see that the file is whole."""
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    if found := find_damage(copy, thorough=True):
        raise StorageError(f"The copy is damaged ({found}): so is the database, or the disk.")


@contextmanager
def _appearing(target: Path, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A file to be written beside ``target``, which takes its name at the end, when it is on disk."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield part
        _sync(part)
        before()
        part.replace(target)
        _sync(target.parent)
    finally:
        for name in (part, *(part.with_name(part.name + suffix) for suffix in _LOG_FILES)):
            name.unlink(missing_ok=True)


def _set_aside(database: Path, former: Path) -> None:
    """Keep the former database under another name, with the log that belongs to it and to no other."""
    with suppress(FileNotFoundError):
        os.link(database, former)
    for suffix in _LOG_FILES:
        with suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(former.with_name(former.name + suffix))


@contextmanager
def _closed_to_others(database: Path) -> Iterator[None]:
    """Keeps other processes from opening the database while the context is open; it need not exist, nor be whole."""
    try:
        file = database.open("r+b")
    except FileNotFoundError:
        database.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except BlockingIOError:
            raise StorageUnavailable(f"{database} is in use: stop the service first.") from None
        yield


@contextmanager
def _worded(failure: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"{failure}: {error}.") from error
    except StartupError as error:
        raise StorageError(f"{failure}: {error.message}", error.advice) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
