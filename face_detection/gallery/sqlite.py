"""The store in SQLite (see ``migrations`` for the schema and ``connections`` for durability and threads)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from face_detection.gallery import sqlite_statements as sql
from face_detection.gallery.connections import Connections
from face_detection.gallery.rows import changes_of, entry_of, page_of, person_of, sample_of
from face_detection.gallery.sql_store import SQLStore
from face_detection.gallery.sqlite_writing import Transaction, number_of
from face_detection.gallery.store import Change, Page, Person, Sample, Tombstone
from shared.errors import NotFound, StorageUnavailable


class SQLiteStore(SQLStore):
    """A ``Store`` in one SQLite database."""

    def __init__(self, connections: Connections) -> None:
        """A store on an open database; closing the store closes it."""
        self._connections = connections

    def get(self, tenant: str, id: str) -> Person:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.GET, (tenant, id)).fetchall()
        if not rows:
            raise NotFound("There is nobody with this id.")
        return person_of(*rows[0])

    def samples(self, tenant: str, id: str) -> Sequence[Sample]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.SAMPLES, (tenant, id)).fetchall()
        return [sample_of(*row) for row in rows]

    def sample(self, tenant: str, number: int) -> Sample:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.BY_NUMBERS, (json.dumps([number]), tenant)).fetchall()
        if not rows:
            raise NotFound("There is no sample with this number.")
        return sample_of(*rows[0])

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.BY_KEYS, (json.dumps(list(keys)), tenant)).fetchall()
        return {row[0]: sample_of(*row) for row in rows}

    def page(self, tenant: str, limit: int, after: str | None = None, text: str | None = None) -> Page:
        """See ``Store``."""
        # One more than asked for tells whether there is a next page. No id is empty.
        wanted = {"tenant": tenant, "after": after or "", "limit": limit + 1, "text": text}
        with self._connections.reading() as connection:
            rows = connection.execute(sql.PAGE, wanted).fetchall()
        return page_of(rows, limit)

    def count(self, tenant: str, space: str | None = None) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            if space is None:
                rows = connection.execute(sql.COUNT, (tenant,)).fetchall()
            else:
                rows = connection.execute(sql.COUNT_SPACE, (tenant, space)).fetchall()
        return int(rows[0][0])

    def identity(self) -> str:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return str(connection.execute(sql.IDENTITY).fetchone()[0])

    def last_change(self) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return number_of(connection, sql.LAST_CHANGE)

    def changes(self, since: int, limit: int) -> Sequence[Change]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.CHANGES, (since, limit)).fetchall()
        return changes_of(rows)

    def feed(self, tenant: str, since: int, limit: int) -> Sequence[Sample | Tombstone]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.FEED, (tenant, since, limit)).fetchall()
        return [entry_of(*row) for row in rows]

    def compact(self) -> None:
        """See ``Store``."""
        with self._connections.exclusive() as connection:
            # secure_delete overwrites what is freed, but leaves copies where rows had moved between pages.
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageUnavailable("The database is busy.")

    def close(self) -> None:
        """See ``Store``."""
        self._connections.close()

    @contextmanager
    def _transaction(self, tenant: str) -> Iterator[Transaction]:
        with self._connections.writing() as connection:
            yield Transaction(connection, tenant)
