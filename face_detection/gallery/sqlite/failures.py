"""What the failures of a database file mean, and what whoever runs the service can do about them."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from shared.disks import nearest_folder, try_writing
from shared.errors import StorageError, StorageRefused, StorageUnavailable

LOG_FILES = ("-wal", "-shm")
"""What SQLite adds to the name of a database for the files beside it."""

BUSY = "The database is busy."
BUSY_ADVICE = "Another process holds it: look which one has the file open (fuser -v FILE), and end what hangs."

DAMAGED = "The database is damaged."
DAMAGED_ADVICE = (
    "Stop the service and restore the database from a copy (python -m face_detection restore FILE), or delete it and "
    "import a file of export. A copy that was put there by hand must not meet the gallery.db-wal of the database "
    "before it."
)

_ENOUGH = 1 << 18
"""Bytes that SQLite wants at least: a little for the log, and its index at once."""

_FULL = (
    "The disk that holds the database is full.",
    "Make room on it (df -h and df -i tell), or move the database to another disk and let DATABASE name it. What is "
    "stored is not harmed; the service goes on by itself once there is room.",
)
_READ_ONLY = (
    "The database is read-only.",
    "The user who runs the service must be allowed to write its file, those beside it (-wal and -shm) and their "
    "folder: look at owner and rights (ls -la), and whether the file system is mounted read-only.",
)
_DISK_FAILED = (
    "The disk that holds the database failed.",
    "Look at the system's log for errors of the disk or network drive (dmesg). When it works again, "
    "python -m face_detection doctor --integrity tells whether the database is whole.",
)
_NO_FILE = ("The database is not a file that can be opened.", "Let DATABASE name a file in a folder that can be made.")
_TOO_MANY_FILES = (
    "The process may not open more files.",
    "Allow it more: ulimit -n, or LimitNOFILE= in a unit of systemd.",
)
_FAILED = ("The database failed.", "See the log of the service.")

_BY_CODE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: _DISK_FAILED,
    sqlite3.SQLITE_CANTOPEN: _NO_FILE,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: (DAMAGED, DAMAGED_ADVICE),
    sqlite3.SQLITE_NOTADB: (DAMAGED, DAMAGED_ADVICE),
}
_OF_THE_PLACE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
"""These codes leave open what the system said; it is asked again."""

_BY_ERRNO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _READ_ONLY),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _TOO_MANY_FILES),
    **dict.fromkeys(
        (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP), _NO_FILE
    ),
}

_OF_VALUES = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)


def translation(error: sqlite3.Error | OSError, database: Path | None) -> StorageError:
    """What a failure of the database means to its users.

    Args:
        error: what SQLite said, or the system of a file.
        database: its file, None for one in memory.
    """
    if isinstance(error, OSError):
        return StorageError(*_BY_ERRNO.get(error.errno or 0, _DISK_FAILED))
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageUnavailable(BUSY, BUSY_ADVICE)
    # A value of a type that the driver does not know has no code.
    if code in _OF_VALUES or str(error).startswith("Error binding parameter"):
        return StorageRefused("The database refuses a value.")
    if code in _OF_THE_PLACE and database is not None and (found := obstacle(database)):
        return found
    return StorageError(*_BY_CODE.get(code, _FAILED))


def obstacle(database: Path) -> StorageError | None:
    """What keeps a database file and those beside it from being written, found by trying; None when nothing does.

    Args:
        database: it need not exist, nor its folder. Nothing is left, and nothing in it is changed. It is not opened
            either: with the first descriptor that is closed, this process would lose its locks of the file.
    """
    try:
        for file in (database, *(database.with_name(database.name + suffix) for suffix in LOG_FILES)):
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(file.stat().st_mode):
                    return StorageError(*_NO_FILE)
                if not os.access(file, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
                    return StorageError(*_READ_ONLY)
        try_writing(nearest_folder(database.parent), _ENOUGH)
    except OSError as error:
        return StorageError(*_BY_ERRNO.get(error.errno or 0, _DISK_FAILED))
    return None
