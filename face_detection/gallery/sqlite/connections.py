"""Connections to one SQLite database, which raise what is announced instead of the driver's exceptions.

A file is opened in WAL mode, where readers and the one writer do not wait for each other. ``synchronous=FULL``
syncs the log at every commit, so that an answered change survives a power failure and not only the death of the
process; it costs one fsync per request that changes something, little beside computing an embedding.
``:memory:`` has a single connection, since SQLite's shared cache would lock whole tables between connections.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

from face_detection.gallery.sql import database as sql
from face_detection.gallery.sql.database import Kind, Wordings
from face_detection.gallery.sqlite.failures import BUSY, DAMAGED_ADVICE, LOG_FILES, translation
from face_detection.gallery.sqlite.migrations import migrate
from shared.errors import InvalidRequest, StartupError, StorageError, StorageUnavailable

BUSY_TIMEOUT = 10.0
"""Seconds that a connection waits for another process's transaction."""

MEMORY = ":memory:"

_CHECKED_AT_START = 64 << 20
"""Bytes of a database up to which its start reads it wholly: some tenths of a second."""

_REPLACED = "The database file was replaced or removed while in use: restart the service."


class Connection(sqlite3.Connection):
    """A ``sql.Connection``, of which one thread at a time makes use."""

    kind: Kind = "sqlite"

    def execute_batch(
        self, statements: Wordings, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any], /
    ) -> None:
        """Write many rows, each by an execution of its own."""
        self.executemany(statements["sqlite"], ({**common, **row} for row in rows))

    @contextmanager
    def stream(self, statement: str, parameters: Mapping[str, Any], /) -> Iterator[Iterable[tuple[Any, ...]]]:
        """Rows as SQLite comes across them."""
        with closing(self.execute(statement, parameters)) as rows:
            yield rows

    def be_patient(self) -> None:
        """Nothing has a limit here but the wait for another transaction."""


class Connections(sql.Connections):
    """Those of a file: a writer, and readers that are opened as needed and kept."""

    def __init__(self, database: str) -> None:
        """Open and migrate a database.

        Args:
            database: a path, whose folder and file are created if missing, or ``:memory:``. The file is made
                readable by its owner only.

        Raises:
            StartupError: the database cannot be used.
        """
        self._database = database
        self._file = None if database == MEMORY else Path(database)
        self._write_lock = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False
        try:
            self._writer = _open_memory() if self._file is None else _open_file(self._file)
        except (sqlite3.Error, OSError) as error:
            meaning = translation(error, self._file)
            reason = getattr(error, "strerror", None) or error
            text = f"DATABASE={database} cannot be opened: {meaning.text.rstrip('.')} ({reason})."
            raise StartupError(text, meaning.advice) from error
        except ValueError as error:
            raise StartupError(f"DATABASE={database} cannot be opened: {error}.") from error
        except StartupError as error:
            raise StartupError(f"DATABASE={database} cannot be opened: {error.text}", error.advice) from error
        self._place = self._find()

    @override
    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """With a row that was not fetched, the log could not be folded into the file."""
        with self._translated():
            if self._database == MEMORY:
                with self._write_lock:
                    yield self._writer
                return
            self._check_place()
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection)

    @override
    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._exclusive() as connection, _transaction(connection):
            yield connection

    @override
    def compact(self) -> None:
        """The log is emptied, too."""
        with self._exclusive() as connection:
            # secure_delete overwrites what is freed, but leaves copies where rows had moved between pages.
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageUnavailable(BUSY)

    @override
    def close(self) -> None:
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        with self._write_lock:
            self._writer.close()

    @contextmanager
    def _exclusive(self) -> Iterator[Connection]:
        """The writer, outside a transaction."""
        with self._translated():
            if not self._write_lock.acquire(timeout=BUSY_TIMEOUT):
                raise StorageUnavailable(BUSY)
            try:
                self._check_place()
                yield self._writer
            finally:
                self._write_lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translation(error, self._file) from error
        except UnicodeEncodeError as error:
            raise InvalidRequest("The text is not valid Unicode.") from error
        except OverflowError as error:
            raise InvalidRequest("A number is too large.") from error

    def _find(self) -> tuple[int, int] | None:
        """Device and inode of the file that the path leads to; None where there is none, as in memory."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """What is written to a file that has lost its name is lost with the last connection.

        The new one is not opened instead: it stands beside a write-ahead log that is not its own.
        """
        if self._find() != self._place:
            raise StorageError(_REPLACED)

    def _borrow(self) -> Connection:
        with self._idle_lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the store is closed")
            if self._idle:
                return self._idle.pop()
        return _connect(self._database)

    def _give_back(self, connection: Connection) -> None:
        with self._idle_lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _open_memory() -> Connection:
    connection = _connect(MEMORY)
    with _transaction(connection):
        migrate(connection)
    return connection


def _open_file(path: Path) -> Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = _connect(str(path))
    try:
        _enter_wal_mode(connection)
        if path.stat().st_size <= _CHECKED_AT_START and (found := damage(connection)):
            raise StartupError(f"it is damaged ({found}).", DAMAGED_ADVICE)
        with _transaction(connection):
            migrate(connection)
            # Of a file that may only be read, SQLite begins a transaction that only reads, and says so no earlier.
            connection.execute("DELETE FROM _sqlite_migrations WHERE false")
        for file in (path, *(path.with_name(path.name + suffix) for suffix in LOG_FILES)):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def damage(connection: sqlite3.Connection, thorough: bool = False) -> str | None:
    """What SQLite finds wrong with a database, in its words; None when all is well.

    Args:
        connection: to the database.
        thorough: compare each index with its table, too, which takes several times as long.

    Raises:
        sqlite3.DatabaseError: the file cannot even be read as a database.
    """
    statement = "PRAGMA integrity_check(1)" if thorough else "PRAGMA quick_check(1)"
    found = str(connection.execute(statement).fetchall()[0][0])
    return None if found == "ok" else found.replace("\n", " ")


def _connect(database: str) -> Connection:
    # Transactions are begun and ended explicitly. A connection moves between threads, one at a time.
    connection = sqlite3.connect(
        database, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, factory=Connection
    )
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
        raise StartupError(
            "its file system does not support SQLite's write-ahead log.",
            "Let DATABASE name a file on a disk of this machine: network drives seldom do.",
        )


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
