"""The rows of a gallery in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composed, Identifier, Placeholder

from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.sql.tables import PEOPLE, SAMPLES, SPACES, TENANTS, Row, Table


class PostgresTables:
    """The ``Tables`` of one PostgreSQL database."""

    def __init__(self, connections: Connections) -> None:
        """The tables of an open database, which whoever opened it closes."""
        self._connections = connections

    def count(self, table: Table) -> int:
        """See ``Tables``."""
        with self._connections.reading() as connection:
            rows = connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table.name))).fetchall()
        return int(rows[0][0])

    def page(self, table: Table, after: Row | None, limit: int) -> Sequence[Row]:
        """See ``Tables``."""
        key = _names(table.columns[: table.key])
        beginning: SQL | Composed = SQL("")
        if after is not None:
            beginning = SQL("WHERE ({}) > ({})").format(key, _places(table.key))
        statement = SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT {}").format(
            _names(table.columns), Identifier(table.name), beginning, key, Placeholder()
        )
        with self._connections.reading() as connection:
            return connection.execute(statement, (*(after or ()), limit), binary=True).fetchall()

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Tables``."""
        statement = SQL("INSERT INTO {} ({}) VALUES ({})").format(
            Identifier(table.name), _names(table.columns), _places(len(table.columns))
        )
        with self._connections.writing() as connection:
            connection.cursor().executemany(sql.PUT_TENANT if table is TENANTS else statement, rows)
            if table in (SPACES, PEOPLE, SAMPLES):
                connection.execute(sql.GO_ON_AFTER, (table.name, table.columns[0], rows[-1][0]))
            if table is SAMPLES:
                change = table.columns.index("change")
                connection.execute(sql.COUNT_UP_TO, (max(row[change] for row in rows),))


def _names(columns: Sequence[str]) -> Composed:
    return SQL(", ").join(map(Identifier, columns))


def _places(count: int) -> Composed:
    return SQL(", ").join([Placeholder()] * count)
