"""The store in PostgreSQL (see ``migrations`` for the schema and ``connections`` for durability and threads)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from face_detection.gallery.metadata import Condition, fragments
from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.named import NamedSession
from face_detection.gallery.postgres.writing import Transaction
from face_detection.gallery.sql import history, tombstones
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.rows import changes_of, feed_of, page_of, person_of, sample_of
from face_detection.gallery.sql.writing import SQLStore
from face_detection.gallery.store import Change, Feed, Page, Person, Sample
from face_detection.naming import folded
from shared.errors import NotFound

_ROWS_AT_ONCE = 64


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

    def samples(self, tenant: str, id: str, after: int = -1, limit: int | None = None) -> Sequence[Sample]:
        """See ``Store``."""
        return [sample_of(*row) for row in self._rows(sql.SAMPLES, tenant=tenant, id=id, after=after, limit=limit)]

    def sample(self, tenant: str, number: int) -> Sample:
        """See ``Store``."""
        rows = self._rows(sql.BY_NUMBERS, tenant=tenant, numbers=[number])
        if not rows:
            raise NotFound("There is no sample with this number.")
        return sample_of(*rows[0])

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """See ``Store``."""
        return {row[0]: sample_of(*row) for row in self._rows(sql.BY_KEYS, tenant=tenant, keys=list(keys))}

    def page(
        self,
        tenant: str,
        limit: int,
        after: str | None = None,
        text: str | None = None,
        metadata: Sequence[Condition] = (),
    ) -> Page:
        """See ``Store``."""
        # No id is empty. What a condition comes to is found out row by row.
        limits = {"after": after or "", "limit": None if metadata else limit + 1}
        wanted = None if text is None else folded(text)
        with self._stream(sql.PAGE, tenant=tenant, text=wanted, fragments=fragments(metadata), **limits) as rows:
            return page_of(rows, limit, metadata)

    def count(self, tenant: str, space: str | None = None) -> int:
        """See ``Store``."""
        statement = sql.COUNT if space is None else sql.COUNT_SPACE
        return int(self._rows(statement, tenant=tenant, space=space)[0][0])

    def people_without(self, space: str, tenant: str | None = None) -> Mapping[str, int]:
        """See ``Store``."""
        return dict(self._rows(sql.PEOPLE_WITHOUT, space=space, tenant=tenant))

    def identity(self) -> str:
        """See ``Store``."""
        return str(self._rows(sql.IDENTITY)[0][0])

    def last_change(self) -> int:
        """See ``Store``."""
        return int(self._rows(sql.LAST_CHANGE)[0][0])

    def position(self) -> Position:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return history.position_of(NamedSession(connection))

    def has_passed(self, mark: int) -> bool:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return history.has_passed(NamedSession(connection), mark)

    def changes(self, since: int, limit: int, begun: int = 0) -> Sequence[Change]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            wanted = {"since": since, "limit": limit, "begun": begun}
            rows = connection.execute(sql.CHANGES, wanted, binary=True).fetchall()
            tombstones.check_change(NamedSession(connection), max(since, begun))
        return changes_of(rows)

    def feed(self, tenant: str, since: int, limit: int, begun: int = 0) -> Feed:
        """See ``Store``."""
        with self._stream(sql.FEED, tenant=tenant, since=since, limit=limit + 1) as rows:
            feed = feed_of(rows, limit)
        with self._connections.reading() as connection:
            tombstones.check_revision(NamedSession(connection), tenant, max(since, begun))
        return feed

    def horizon(self) -> int:
        """See ``Store``."""
        return int(self._rows(tombstones.HORIZON)[0][0])

    def last_revision(self, tenant: str) -> int:
        """See ``Store``."""
        return int(self._rows(sql.LAST_REVISION, tenant=tenant)[0][0])

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

    @contextmanager
    def _stream(self, statement: str, **values: object) -> Iterator[Iterable[tuple[Any, ...]]]:
        """Rows that are fetched a few at a time, for whoever may not need them all."""
        with (
            self._connections.reading() as connection,
            connection.transaction(),
            connection.cursor("stream", binary=True) as cursor,
        ):
            cursor.itersize = _ROWS_AT_ONCE
            yield cursor.execute(statement, values)
