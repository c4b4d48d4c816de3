"""The store in SQLite (see ``migrations`` for the schema and ``connections`` for durability and threads)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from face_detection.gallery.metadata import Condition, fragments
from face_detection.gallery.sql import history, tombstones
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.rows import changes_of, feed_of, page_of, person_of, sample_of
from face_detection.gallery.sql.writing import SQLStore
from face_detection.gallery.sqlite import statements as sql
from face_detection.gallery.sqlite.connections import Connections
from face_detection.gallery.sqlite.writing import Transaction, number_of
from face_detection.gallery.store import Change, Feed, Page, Person, Sample
from face_detection.naming import folded
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

    def samples(self, tenant: str, id: str, after: int = -1, limit: int | None = None) -> Sequence[Sample]:
        """See ``Store``."""
        wanted = (tenant, id, after, -1 if limit is None else limit)
        with self._connections.reading() as connection:
            rows = connection.execute(sql.SAMPLES, wanted).fetchall()
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
        wanted = {
            "tenant": tenant,
            "after": after or "",
            "text": None if text is None else folded(text),
            "fragments": json.dumps(fragments(metadata)),
            "limit": -1 if metadata else limit + 1,
        }
        statement = sql.PAGE if text is None else sql.PAGE_OF_TEXT
        with self._connections.reading() as connection, closing(connection.execute(statement, wanted)) as rows:
            return page_of(rows, limit, metadata)

    def count(self, tenant: str, space: str | None = None) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            if space is None:
                rows = connection.execute(sql.COUNT, (tenant,)).fetchall()
            else:
                rows = connection.execute(sql.COUNT_SPACE, (tenant, space)).fetchall()
        return int(rows[0][0])

    def people_without(self, space: str, tenant: str | None = None) -> Mapping[str, int]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return dict(connection.execute(sql.PEOPLE_WITHOUT, {"space": space, "tenant": tenant}).fetchall())

    def identity(self) -> str:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return str(connection.execute(sql.IDENTITY).fetchone()[0])

    def last_change(self) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return number_of(connection, sql.LAST_CHANGE)

    def position(self) -> Position:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return history.position_of(connection)

    def has_passed(self, mark: int) -> bool:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return history.has_passed(connection, mark)

    def changes(self, since: int, limit: int, begun: int = 0) -> Sequence[Change]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.CHANGES, {"since": since, "limit": limit, "begun": begun}).fetchall()
            tombstones.check_change(connection, max(since, begun))
        return changes_of(rows)

    def feed(self, tenant: str, since: int, limit: int, begun: int = 0) -> Feed:
        """See ``Store``."""
        with self._connections.reading() as connection:
            with closing(connection.execute(sql.FEED, (tenant, since, limit + 1))) as rows:
                feed = feed_of(rows, limit)
            tombstones.check_revision(connection, tenant, max(since, begun))
        return feed

    def horizon(self) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return number_of(connection, tombstones.HORIZON)

    def last_revision(self, tenant: str) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return number_of(connection, sql.LAST_REVISION, tenant)

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
            transaction = Transaction(connection, tenant)
            yield transaction
            transaction.finish()
