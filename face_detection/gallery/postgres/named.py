"""PostgreSQL's connections for those who write parameters as ``:name`` (see ``gallery.sql.database``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from psycopg import Cursor

from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import Session

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@cache
def pyformat(statement: str) -> str:
    """A statement with its parameters as psycopg has them: ``%(name)s``.

    Args:
        statement: one of the project's own, without colons in literals or comments.
    """
    return _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))


class NamedSession:
    """A ``gallery.sql.Connection``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> Cursor[tuple[Any, ...]]:
        """See ``Connection``; ``binary`` spares pictures their way through text."""
        return self._session.execute(pyformat(statement), parameters or {}, binary=True)

    def executemany(self, statement: str, parameters: Iterable[Mapping[str, Any]], /) -> Cursor[tuple[Any, ...]]:
        """See ``Connection``."""
        cursor = self._session.cursor()
        cursor.executemany(pyformat(statement), parameters)
        return cursor


class NamedConnections:
    """The ``gallery.sql.Connections`` of an open database, which whoever opened it closes."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @contextmanager
    def reading(self) -> Iterator[NamedSession]:
        """See ``Connections``."""
        with self._connections.reading() as session:
            yield NamedSession(session)

    @contextmanager
    def writing(self) -> Iterator[NamedSession]:
        """See ``Connections``."""
        with self._connections.writing() as session:
            yield NamedSession(session)
