"""Connections to one PostgreSQL database.

They are opened when they are needed, by whoever needs one: a database that is down fails a request at once, and the
first request after its return finds it again. (psycopg_pool connects in the background with growing pauses, while
requests wait in vain.) Whoever writes holds the row of ``counter``, in the process and in the database: changes become
visible in the order of their numbers, as in SQLite.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from typing_extensions import override

from face_detection.gallery.postgres.failures import BUSY, translated, translation
from face_detection.gallery.postgres.migrations import migrate
from face_detection.gallery.postgres.session import NamedSession, Session
from face_detection.gallery.sql import database as sql
from shared.errors import SettingsError, StartupError, StorageError, StorageUnavailable

_ADDRESS = (
    "write postgresql://user:password@host:port/name, with every character of the password that is neither a letter "
    "nor a digit percent-encoded (@ is %40, / is %2F, % is %25)"
)

_LOCK = "SELECT change FROM counter FOR UPDATE"

_COMPACT = (
    "VACUUM (FULL, ANALYZE) answers_about, answers, events, samples, people, devices, sectors, keys, tenants, "
    "last_numbers, horizons, marks, counter"
)

MAX_CONNECTIONS = 10
"""Most connections of one process."""

BUSY_TIMEOUT = 10.0
"""Seconds to wait for a connection, and for another transaction."""


class Connections:
    """Connections that are kept for the next use. Safe between threads."""

    def __init__(
        self, database: str, prepare: Callable[[Session], object] = migrate, setting: str = "DATABASE"
    ) -> None:
        """Open and migrate a database.

        Args:
            database: its URL, as libpq reads it.
            prepare: what brings it to the present schema, in a transaction.
            setting: where the URL comes from, for messages.

        Raises:
            SettingsError: the URL cannot be understood.
            StartupError: the database cannot be used.
        """
        self._database = database
        self._write_lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle_lock = threading.Lock()
        self._idle: list[Session] = []
        self._closed = False
        name = _shown(database, setting)
        try:
            with Session.open(database, BUSY_TIMEOUT) as session:
                session.be_patient()
                with session.transaction():
                    session.execute("SET LOCAL lock_timeout = 0")
                    prepare(session)
        except psycopg.Error as error:
            text = f"{setting}={name} cannot be opened: {_one_line(error)}."
            raise StartupError(text, translation(error).advice) from error
        except StartupError as error:
            raise StartupError(f"{setting}={name} cannot be opened: {error.text}", error.advice) from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A connection outside a transaction, so that each statement is one.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        if not self._places.acquire(timeout=BUSY_TIMEOUT):
            raise StorageUnavailable(BUSY)
        try:
            with translated():
                connection = self._borrow()
                try:
                    yield connection
                finally:
                    self._give_back(connection)
        finally:
            self._places.release()

    @contextmanager
    def patient(self) -> Iterator[Session]:
        """The same for statements that take their time.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        with self.reading() as connection:
            connection.be_patient()
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A connection within one transaction, which is committed at the end and rolled back on any error.

        Raises:
            StorageError, InvalidRequest: see ``Store``.
        """
        # Those who wait for their turn within the process leave connections to those who read.
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT):
            raise StorageUnavailable(BUSY)
        try:
            with self.reading() as connection, connection.transaction():
                connection.execute(_LOCK)
                yield connection
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Close every connection; one in use is closed when it is given back."""
        with self._idle_lock:
            self._closed = True
        self._close_idle()

    def _borrow(self) -> Session:
        while True:
            with self._idle_lock:
                if self._closed:
                    raise StorageError("The database is closed.")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Session.open(self._database, BUSY_TIMEOUT)
            if not _has_ended(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Session) -> None:
        if connection.info.transaction_status == TransactionStatus.IDLE and not connection.patient:
            with self._idle_lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        elif connection.broken:  # the others are most likely broken too
            self._close_idle()
        connection.close()

    def _close_idle(self) -> None:
        with self._idle_lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class NamedConnections(sql.Connections):
    """Those of an open database for all who write parameters as ``:name``."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @override
    @contextmanager
    def reading(self) -> Iterator[NamedSession]:
        with self._connections.reading() as session:
            yield NamedSession(session)

    @override
    @contextmanager
    def writing(self) -> Iterator[NamedSession]:
        with self._connections.writing() as session:
            yield NamedSession(session)

    @override
    def compact(self) -> None:
        with self._connections.patient() as session:
            # VACUUM alone leaves what was deleted in the free space of its pages.
            session.execute(_COMPACT)

    @override
    def close(self) -> None:
        self._connections.close()


def _shown(url: str, setting: str = "DATABASE") -> str:
    """The address without password and options, for messages.

    Raises:
        SettingsError: it cannot be understood; the message quotes nothing of it, since an unencoded character in a
            password moves parts of the password to other places.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SettingsError(f"{setting} is no address of a PostgreSQL database: {_ADDRESS}.") from None
    user, host, port, name = (str(parts.get(part, "")) for part in ("user", "host", "port", "dbname"))
    ports = port.split(",") if port else []
    if not all(one.isdecimal() and 0 < int(one) < 65536 for one in ports) or "@" in f"{host}{name}":
        raise SettingsError(f"{setting} is no address of a PostgreSQL database: {_ADDRESS}.")
    return f"postgresql://{user}{'@' if user else ''}{host}{':' if port else ''}{port}/{name}"


def _has_ended(connection: Session) -> bool:
    """Whether the server has closed an idle connection; costs no round trip.

    A server sends nothing to an idle client but its farewell.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _one_line(error: psycopg.Error) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or translation(error).message.rstrip(".")
