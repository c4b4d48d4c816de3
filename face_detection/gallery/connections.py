"""Connections to one SQLite database, and the only place where sqlite3's exceptions are translated.

A file is opened in WAL mode, where readers and the one writer do not wait for each other. ``synchronous=FULL``
syncs the log at every commit, so that an answered change survives a power failure and not only the death of the
process; it costs one fsync per request that changes something, little beside computing an embedding.
``:memory:`` has a single connection, since SQLite's shared cache would lock whole tables between connections.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from face_detection.gallery.migrations import migrate
from shared.errors import InvalidRequest, StartupError, StorageError, StorageUnavailable

BUSY_TIMEOUT = 10.0
"""Seconds that a connection waits for another process's transaction."""

MEMORY = ":memory:"

_REASONS = {
    sqlite3.SQLITE_FULL: "The disk that holds the database is full.",
    sqlite3.SQLITE_IOERR: "The disk that holds the database failed.",
    sqlite3.SQLITE_READONLY: "The database is read-only.",
    sqlite3.SQLITE_CORRUPT: "The database is damaged.",
    sqlite3.SQLITE_NOTADB: "The database is damaged.",
}


class Connections:
    """A writer, and readers that are opened as needed and kept for the next use. Safe between threads."""

    def __init__(self, database: str) -> None:
        """Open and migrate a database.

        Args:
            database: a path, whose folder and file are created if missing, or ``:memory:``. The file is made
                readable by its owner only.

        Raises:
            StartupError: the database cannot be used.
        """
        self._database = database
        self._write_lock = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            self._writer = _open_memory() if database == MEMORY else _open_file(Path(database))
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StartupError(f"DATABASE={database} cannot be opened: {error}.") from error
        except StartupError as error:
            raise StartupError(f"DATABASE={database} cannot be opened: {error.message}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading. Fetch every row before leaving, or the log cannot be folded into the file.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        with _translated():
            if self._database == MEMORY:
                with self._write_lock:
                    yield self._writer
                return
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection)

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """The writer, outside a transaction.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        with _translated(), self._write_lock:
            yield self._writer

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The writer within one transaction, which is committed at the end and rolled back on any error.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        with self.exclusive() as connection, _transaction(connection):
            yield connection

    def close(self) -> None:
        """Close every connection; one in use is closed when it is given back."""
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        with self._write_lock:
            self._writer.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the store is closed")
            if self._idle:
                return self._idle.pop()
        return _connect(self._database)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _open_memory() -> sqlite3.Connection:
    connection = _connect(MEMORY)
    with _transaction(connection):
        migrate(connection)
    return connection


def _open_file(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = _connect(str(path))
    try:
        _enter_wal_mode(connection)
        with _transaction(connection):
            migrate(connection)
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(database: str) -> sqlite3.Connection:
    # Transactions are begun and ended explicitly. A connection moves between threads, one at a time.
    connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        connection.execute("PRAGMA temp_store = MEMORY")  # no embedding in a folder for temporary files
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    """Switch to WAL, which needs the file alone; SQLite does not wait for that by itself."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            break
    if mode != "wal":
        raise StartupError("its file system does not support SQLite's write-ahead log.")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the write lock first: a transaction that reads before it writes could not be upgraded later.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageUnavailable("The database is busy.") from error
        raise StorageError(_REASONS.get(code, "The database failed.")) from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The text is not valid Unicode.") from error
