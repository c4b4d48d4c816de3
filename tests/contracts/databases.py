"""Every kind of database that a gallery may be in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from face_detection.gallery.sql.tables import TABLES


def _file(request: pytest.FixtureRequest) -> str:
    folder: Path = request.getfixturevalue("tmp_path")
    return str(folder / "gallery.db")


def _postgres(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    return url


DATABASES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite file": _file,
    "sqlite memory": lambda request: ":memory:",
    "postgresql": _postgres,
}
"""What DATABASE is set to, by kind."""

SHARED = ("sqlite file", "postgresql")
"""Kinds of which several processes can open the same one."""


def copied(database: str) -> Callable[[], None]:
    """Take a copy of what is in a database; the answer puts it back behind the backs of those who have it open.

    As an administrator may do it: through another connection, into the place where the database is.
    """
    return _copied_postgres(database) if database.startswith("postgresql:") else _copied_file(database)


def _copied_file(database: str) -> Callable[[], None]:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(sqlite3.connect(database)) as live:
        live.backup(copy)

    def put_back() -> None:
        with closing(sqlite3.connect(database)) as live:
            copy.backup(live)

    return put_back


def _copied_postgres(url: str) -> Callable[[], None]:
    names = [*(table.name for table in TABLES), "counter"]
    with psycopg.connect(url) as connection:
        rows = {name: b"".join(map(bytes, _reading(connection, name))) for name in names}

    def put_back() -> None:
        with psycopg.connect(url) as connection:
            connection.execute(SQL("TRUNCATE {} CASCADE").format(SQL(", ").join(map(Identifier, names))))
            for name in names:
                with connection.cursor().copy(SQL("COPY {} FROM STDIN").format(Identifier(name))) as copy:
                    copy.write(rows[name])
            for name, column in (("spaces", "number"), ("people", "key"), ("samples", "key")):
                last = SQL("SELECT coalesce(max({}), 0) + 1 FROM {}").format(Identifier(column), Identifier(name))
                next_number = connection.execute(last).fetchall()[0][0]
                connection.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, %s), %s, false)", (name, column, next_number)
                )

    return put_back


def _reading(connection: psycopg.Connection, name: str) -> Iterator[bytes]:
    with connection.cursor().copy(SQL("COPY {} TO STDOUT").format(Identifier(name))) as copy:
        yield from copy
