"""PostgreSQL's connections for those who write parameters as ``:name`` (see ``gallery.sql.database``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from psycopg import Cursor
from typing_extensions import override

from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.sql import database
from face_detection.gallery.sql.database import Kind, Wordings

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)( AS BYTEA\[\])?")

_ROWS_AT_ONCE = 64

_COMPACT = (
    "VACUUM (FULL, ANALYZE) answers_about, answers, events, samples, people, devices, sectors, keys, tenants, "
    "last_numbers, horizons, marks, counter"
)


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


class NamedSession(database.Connection):
    """One that PostgreSQL's connections give out."""

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


class NamedConnections(database.Connections):
    """Those of an open database."""

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
