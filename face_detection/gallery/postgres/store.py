"""The store in PostgreSQL (see ``migrations`` for the schema and ``connections`` for durability and threads)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.writing import Transaction
from face_detection.gallery.rows import changes_of, entry_of, page_of, person_of, sample_of
from face_detection.gallery.sql_store import SQLStore
from face_detection.gallery.store import Change, Page, Person, Sample, Tombstone
from shared.errors import NotFound


class PostgresStore(SQLStore):
    """A ``Store`` in one PostgreSQL database."""

    def __init__(self, connections: Connections) -> None:
        """A store on an open database; closing the store closes it."""
        self._connections = connections

    def get(self, tenant: str, id: str) -> Person:
        """See ``Store``."""
        rows = self._rows(sql.GET, tenant=tenant, id=id)
        if not rows:
            raise NotFound("There is nobody with this id.")
        return person_of(*rows[0])

    def samples(self, tenant: str, id: str) -> Sequence[Sample]:
        """See ``Store``."""
        return [sample_of(*row) for row in self._rows(sql.SAMPLES, tenant=tenant, id=id)]

    def sample(self, tenant: str, number: int) -> Sample:
        """See ``Store``."""
        rows = self._rows(sql.BY_NUMBERS, tenant=tenant, numbers=[number])
        if not rows:
            raise NotFound("There is no sample with this number.")
        return sample_of(*rows[0])

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """See ``Store``."""
        return {row[0]: sample_of(*row) for row in self._rows(sql.BY_KEYS, tenant=tenant, keys=list(keys))}

    def page(self, tenant: str, limit: int, after: str | None = None, text: str | None = None) -> Page:
        """See ``Store``."""
        # One more than asked for tells whether there is a next page. No id is empty.
        rows = self._rows(sql.PAGE, tenant=tenant, after=after or "", limit=limit + 1, text=text)
        return page_of(rows, limit)

    def count(self, tenant: str, space: str | None = None) -> int:
        """See ``Store``."""
        statement = sql.COUNT if space is None else sql.COUNT_SPACE
        return int(self._rows(statement, tenant=tenant, space=space)[0][0])

    def identity(self) -> str:
        """See ``Store``."""
        return str(self._rows(sql.IDENTITY)[0][0])

    def last_change(self) -> int:
        """See ``Store``."""
        return int(self._rows(sql.LAST_CHANGE)[0][0])

    def changes(self, since: int, limit: int) -> Sequence[Change]:
        """See ``Store``."""
        rows = self._rows(sql.CHANGES, since=since, limit=limit)
        return changes_of(rows)

    def feed(self, tenant: str, since: int, limit: int) -> Sequence[Sample | Tombstone]:
        """See ``Store``."""
        rows = self._rows(sql.FEED, tenant=tenant, since=since, limit=limit)
        return [entry_of(*row) for row in rows]

    def compact(self) -> None:
        """See ``Store``."""
        with self._connections.patient() as connection:
            # VACUUM alone leaves what was deleted in the free space of its pages.
            connection.execute(sql.COMPACT)

    def close(self) -> None:
        """See ``Store``."""
        self._connections.close()

    @contextmanager
    def _transaction(self, tenant: str) -> Iterator[Transaction]:
        with self._connections.writing() as connection:
            transaction = Transaction(connection, tenant)
            yield transaction
            transaction.finish()

    def _rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(statement, values, binary=True).fetchall()
