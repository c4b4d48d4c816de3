"""The rows of a gallery in SQLite."""

# ruff: noqa: S608 -- the names of tables and columns are constants

from __future__ import annotations

from collections.abc import Sequence

from face_detection.gallery.sql.tables import TENANTS, Row, Table
from face_detection.gallery.sqlite.connections import Connections


class SQLiteTables:
    """The ``Tables`` of one SQLite database."""

    def __init__(self, connections: Connections) -> None:
        """The tables of an open database, which whoever opened it closes."""
        self._connections = connections

    def count(self, table: Table) -> int:
        """See ``Tables``."""
        with self._connections.reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()[0][0])

    def page(self, table: Table, after: Row | None, limit: int) -> Sequence[Row]:
        """See ``Tables``."""
        key = ", ".join(table.columns[: table.key])
        beginning = "" if after is None else f"WHERE ({key}) > ({', '.join('?' * table.key)})"
        statement = f"SELECT {', '.join(table.columns)} FROM {table.name} {beginning} ORDER BY {key} LIMIT ?"
        with self._connections.reading() as connection:
            return connection.execute(statement, (*(after or ()), limit)).fetchall()

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Tables``."""
        how = "REPLACE" if table is TENANTS else "INSERT"
        places = ", ".join("?" * len(table.columns))
        statement = f"{how} INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})"
        with self._connections.writing() as connection:
            connection.executemany(statement, rows)
