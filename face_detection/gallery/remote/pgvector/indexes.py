"""The indexes of one gallery in pgvector, of all embedding spaces: what is common to them, whatever their vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from typing_extensions import override

from face_detection.gallery.people import Change
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.remote.index import GALLERY_DIGITS, GalleryIndexes, IndexState
from face_detection.gallery.remote.pgvector import statements as sql
from face_detection.gallery.remote.pgvector.catalogue import Generation, sweep, take_turn
from shared.errors import SearchUnavailable, StorageError

_ROWS = 2000
"""Samples that are deleted by one statement."""


class PgvectorIndexes(GalleryIndexes):
    """``GalleryIndexes`` in a PostgreSQL database.

    Args:
        connections: to the database, whose user closes them.
        own: name of the index that is searched.
    """

    def __init__(self, connections: Connections, own: str) -> None:
        self.own = own
        self._connections = connections

    @override
    def states(self) -> Sequence[IndexState]:
        with self._session() as session:
            return [IndexState(*row) for row in session.execute(sql.STATES, (self.own[:GALLERY_DIGITS],)).fetchall()]

    @override
    def remove(self, name: str, changes: Sequence[Change], position: int) -> None:
        """Everything or nothing of it is done."""
        with self._session() as session, session.transaction():
            rows = session.execute(sql.LOCK_PUBLISHED, (name,)).fetchall()
            if not rows:
                return
            generation = Generation(*rows[0])
            keys = [change.key for change in changes if change.number > generation.position]
            table = sql.table_name(name, generation.id)
            gone: Counter[str] = Counter()
            for start in range(0, len(keys), _ROWS):
                gone.update(dict(session.execute(sql.delete(table), (keys[start : start + _ROWS],)).fetchall()))
            if gone:
                more = [-count for count in gone.values()]
                session.execute(sql.COUNT, {"generation": generation.id, "tenants": list(gone), "more": more})
            session.execute(sql.RECORD_REMOVALS, (generation.id, position))

    @override
    def drop_leftovers(self, name: str) -> None:
        """What somebody is still working on stays for the next time."""
        with self._session() as session:
            with session.transaction():
                take_turn(session)
                session.execute(sql.REMOVE_UNPUBLISHED, (name,))
            sweep(session, name)

    @override
    def drop(self, name: str) -> None:
        with self._session() as session, session.transaction():
            take_turn(session)
            session.execute(sql.REMOVE_ALL, (name,))
            for (table,) in session.execute(sql.TABLES, (name,)).fetchall():
                session.execute(sql.drop_table(table))

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with translated(), self._connections.reading() as session:
            yield session


@contextmanager
def translated() -> Iterator[None]:
    """Raise what ``VectorIndex`` announces instead of what connections do."""
    try:
        yield
    except SearchUnavailable:
        raise
    except StorageError as error:
        raise SearchUnavailable(f"The search index failed: {error.message}") from error
