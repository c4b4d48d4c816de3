"""One connection to PostgreSQL, of which nothing waits for ever; one for those who write parameters as ``:name``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Self, TypeVar

import psycopg
from psycopg import Connection, Cursor
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from typing_extensions import override

from face_detection.gallery.sql import database as sql
from face_detection.gallery.sql.database import Kind, Wordings
from shared.errors import StartupError

STATEMENT_TIMEOUT = 60.0
"""Seconds that a statement may take, unless it is one that works on everything."""

_GRACE = 10.0
"""Seconds after that in which the server must have ended it; a server that is frozen does not."""

_CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,  # seconds for each address of the host
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds without an acknowledgement, after which a host counts as gone
    "client_encoding": "utf8",
    "application_name": "face-recognition",
}

# A plan that was made for an empty table and is kept reads a large one from end to end: every execution gets its own.
_SESSION = """
    SELECT current_setting('server_encoding'),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('plan_cache_mode', 'force_custom_plan', false),
        set_config('statement_timeout', %(statement)s, false),
        set_config('lock_timeout', %(busy)s, false),
        set_config('idle_in_transaction_session_timeout', '30s', false),
        CASE current_setting('synchronous_commit')
            WHEN 'off' THEN set_config('synchronous_commit', 'on', false)
        END
"""

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)( AS BYTEA\[\])?")

_ROWS_AT_ONCE = 64

RV = TypeVar("RV")


class Session(Connection[tuple[Any, ...]]):
    """A connection in autocommit mode, whose statements and transactions have limits in time."""

    patient = False
    """Whether statements may take any time."""

    @classmethod
    def open(cls, database: str, busy_timeout: float) -> Self:
        """Connect.

        Args:
            database: URL.
            busy_timeout: seconds to wait for another transaction.

        Raises:
            psycopg.Error: no connection.
            StartupError: the database has another encoding than UTF8.
        """
        session = cls.connect(database, autocommit=True, **_CONNECTING)
        try:
            limits = {"statement": _milliseconds(STATEMENT_TIMEOUT), "busy": _milliseconds(busy_timeout)}
            ((encoding, *_),) = session.execute(_SESSION, limits).fetchall()
            if encoding != "UTF8":
                raise StartupError(f"its encoding is {encoding} and not UTF8.")
        except BaseException:
            session.close()
            raise
        return session

    def be_patient(self) -> None:
        """Let statements take their time from now on."""
        self.execute("SET statement_timeout = 0")
        self.patient = True

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server; whatever takes too long ends the connection."""
        if timeout is None and not self.patient:
            timeout = STATEMENT_TIMEOUT + _GRACE
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise


class NamedSession(sql.Connection):
    """A session for those who write parameters as ``:name`` (see ``gallery.sql.database``)."""

    kind: Kind = "postgres"

    def __init__(self, session: Session) -> None:
        self._session = session

    @override
    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> Cursor[tuple[Any, ...]]:
        """``binary`` spares vectors and pictures their way through text."""
        return self._session.execute(pyformat(statement), parameters or {}, binary=True)

    @override
    def executemany(self, statement: str, parameters: Iterable[Mapping[str, Any]], /) -> Cursor[tuple[Any, ...]]:
        cursor = self._session.cursor()
        cursor.executemany(pyformat(statement), parameters)
        return cursor

    @override
    def execute_batch(
        self, statements: Wordings, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any], /
    ) -> None:
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            self.execute(statements["postgres"], {**common, **columns})

    @override
    @contextmanager
    def stream(self, statement: str, parameters: Mapping[str, Any], /) -> Iterator[Iterable[tuple[Any, ...]]]:
        with self._session.transaction(), self._session.cursor("stream", binary=True) as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            yield cursor.execute(pyformat(statement), parameters)

    @override
    def be_patient(self) -> None:
        self._session.be_patient()


@cache
def pyformat(statement: str) -> str:
    """A statement with its parameters as psycopg has them: ``%(name)s``, and ``%(name)b`` for an array of bytes.

    Args:
        statement: one of the project's own, without colons in literals or comments.
    """
    return _PARAMETER.sub(_placeholder, statement.replace("%", "%%"))


def _placeholder(found: re.Match[str]) -> str:
    name, of_bytes = found.groups()
    return f"%({name})b{of_bytes}" if of_bytes else f"%({name})s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
