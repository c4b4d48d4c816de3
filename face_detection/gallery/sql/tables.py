"""The rows of a gallery as they are, for copying one database into another."""

# ruff: noqa: S608 -- the names of tables and columns are constants

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from face_detection.gallery.sql.database import Connections, Kind
from face_detection.gallery.sql.statements import COUNT_UP
from shared.errors import Conflict

Row = tuple[Any, ...]

PAGE = 1000


@dataclass(frozen=True)
class Table:
    """A table of every database; its first ``key`` columns are the primary key, in whose order it is copied."""

    name: str
    columns: tuple[str, ...]
    key: int = 1

    def key_of(self, row: Row) -> Row:
        """The primary key of a row."""
        return row[: self.key]


TENANTS = Table("tenants", ("id", "name", "settings", "created_at"))
PEOPLE = Table("people", ("key", "tenant", "id", "name", "metadata", "action", "created_at", "updated_at", "search"))
SAMPLES = Table("samples", ("key", "tenant", "number", "change", "revision", "person", "space", "vector"))
SPACES = Table("spaces", ("number", "name", "dimensions"))

_KEYS = (
    *("id", "tenant", "name", "rights", "salt", "hash", "requests_per_minute", "max_samples"),
    *("created_at", "expires_at", "revoked_at"),
)
_EVENTS = (
    *("tenant", "number", "at", "kind", "person", "distance", "api_key", "device", "latitude", "longitude"),
    "crop",
)

TABLES = (
    TENANTS,
    Table("collections", ("tenant", "name", "gallery", "created_at"), key=2),
    SPACES,
    PEOPLE,
    SAMPLES,
    Table("keys", _KEYS),
    Table("sectors", ("tenant", "code", "name"), key=2),
    Table("devices", ("tenant", "code", "name", "sector"), key=2),
    Table("events", _EVENTS, key=2),
    Table("last_numbers", ("tenant", "event")),
    Table("horizons", ("tenant", "change", "revision")),
    Table("marks", ("number", "change", "mark")),
    Table("answers", ("key", "tenant", "fingerprint", "at", "status", "headers", "body")),
    Table("answers_about", ("person", "answer"), key=2),
)
"""All tables, each after those that it refers to."""


_PUT_TENANT = """
    INSERT INTO tenants (id, name, settings, created_at) VALUES (:id, :name, :settings, :created_at)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, settings = excluded.settings, created_at = excluded.created_at
"""

# Of what it numbers by itself, SQLite goes on after the largest number there is.
_GO_ON_AFTER: Mapping[Kind, Sequence[str]] = {
    "sqlite": (),
    "postgres": ("SELECT setval(pg_get_serial_sequence(:table, :column), CAST(:last AS BIGINT))",),
}


class Tables:
    """The rows of one database. Raises as ``Store`` does."""

    def __init__(self, connections: Connections) -> None:
        """The tables of an open database, which whoever opened it closes."""
        self._connections = connections

    def count(self, table: Table) -> int:
        """How many rows there are."""
        with self._connections.reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()[0][0])

    def page(self, table: Table, after: Row | None, limit: int) -> Sequence[Row]:
        """At most ``limit`` rows whose primary keys come after ``after``, in their order; None is the beginning."""
        key = table.columns[: table.key]
        beginning = "" if after is None else f"WHERE ({', '.join(key)}) > ({_places(key)})"
        statement = f"""
            SELECT {", ".join(table.columns)} FROM {table.name} {beginning} ORDER BY {", ".join(key)} LIMIT :limit
        """
        place = {} if after is None else _named(key, after)
        with self._connections.reading() as connection:
            return connection.execute(statement, {**place, "limit": limit}).fetchall()

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows that come after all others, in one transaction. A tenant of the same id is replaced.

        What the database counts up by itself goes on after them.
        """
        columns = table.columns
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({_places(columns)})"
        with self._connections.writing() as connection:
            connection.executemany(
                _PUT_TENANT if table is TENANTS else statement, (_named(columns, row) for row in rows)
            )
            if table in (SPACES, PEOPLE, SAMPLES):
                last = {"table": table.name, "column": columns[0], "last": rows[-1][0]}
                for go_on in _GO_ON_AFTER[connection.kind]:
                    connection.execute(go_on, last)
            if table is SAMPLES:
                change = columns.index("change")
                for count_up in COUNT_UP[connection.kind]:
                    connection.execute(count_up, {"change": max(row[change] for row in rows)})


def _places(columns: Sequence[str]) -> str:
    return ", ".join(f":{column}" for column in columns)


def _named(columns: Sequence[str], values: Row) -> dict[str, Any]:
    return dict(zip(columns, values, strict=True))


Progress = Callable[[Table, int], None]
"""Is told how many further rows of a table have been copied or found in place."""


def copy(source: Tables, target: Tables, progress: Progress) -> Mapping[str, int]:
    """Copy a gallery into an empty one, or go on with a copy that was interrupted; then compare the two.

    Args:
        source: what to copy; nothing else may change it meanwhile.
        target: where to; it has nothing but the beginning of a copy of ``source``.
        progress: see ``Progress``.

    Returns:
        How many rows each table has.

    Raises:
        Conflict: ``target`` has something else in it; or one of the two was changed meanwhile.
        StorageError, InvalidRequest: see ``Store``; what has been copied stays.
    """
    wanted = {table: _copy_table(table, source, target, progress) for table in TABLES}
    for table, (digest, count) in wanted.items():
        if source.count(table) != count:
            raise Conflict("The source was changed meanwhile: stop its services, and copy into an empty database.")
        if _digest(target, table) != (digest, count):
            raise Conflict(f"The copies of {table.name} differ: something else writes to one of the databases.")
    return {table.name: count for table, (_, count) in wanted.items()}


def ids_of_people(tables: Tables) -> Iterator[tuple[str, str]]:
    """Tenant and id of everybody."""
    for rows in _pages(tables, Table("people", ("key", "tenant", "id")), None, None):
        yield from ((tenant, id) for _, tenant, id in rows)


def _copy_table(table: Table, source: Tables, target: Tables, progress: Progress) -> tuple[bytes, int]:
    """Copy what is missing; the digest of the rows of the source, and how many there are."""
    held, present = (b"", 0) if table is TENANTS and _is_new(target) else _digest(target, table)
    digest, count, last = hashlib.sha256(), 0, None
    for rows in _pages(source, table, None, present):
        _update(digest, rows)
        count += len(rows)
        last = table.key_of(rows[-1])
        progress(table, len(rows))
    if present and digest.digest() != held:
        raise Conflict("The target has other data in it: name an empty database, or one with an interrupted copy.")
    # All tenants at once, so that the default one of a new database is never among others.
    for rows in _pages(source, table, last, None, source.count(table) if table is TENANTS else PAGE):
        target.insert(table, rows)
        _update(digest, rows)
        count += len(rows)
        progress(table, len(rows))
    return digest.digest(), count


def _is_new(tables: Tables) -> bool:
    """Whether there is nothing but the default tenant, as a new database has it."""
    if any(tables.count(table) for table in TABLES if table is not TENANTS):
        return False
    return [row[:3] for row in tables.page(TENANTS, None, 2)] == [("default", "default", "{}")]


def _pages(
    tables: Tables, table: Table, after: Row | None, most: int | None, size: int = PAGE
) -> Iterator[Sequence[Row]]:
    """Pages of rows after a primary key, altogether at most so many."""
    while most is None or most > 0:
        rows = tables.page(table, after, size if most is None else min(size, most))
        if not rows:
            return
        yield rows
        after = table.key_of(rows[-1])
        most = None if most is None else most - len(rows)


def _digest(tables: Tables, table: Table) -> tuple[bytes, int]:
    digest, count = hashlib.sha256(), 0
    for rows in _pages(tables, table, None, None):
        _update(digest, rows)
        count += len(rows)
    return digest.digest(), count


def _update(digest: hashlib._Hash, rows: Sequence[Row]) -> None:
    for row in rows:
        for value in row:
            data = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(b"%d %s:" % (len(data), type(value).__name__.encode()))
            digest.update(data)
