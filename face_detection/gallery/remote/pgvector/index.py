"""Indexes of vectors in PostgreSQL, by the extension pgvector.

Changes are applied in transactions which follow each other, in all processes, by the lock of a row that has the number
of the last one: a search sees a change as soon as it has been applied. Small tenants are scanned, large ones have an
HNSW index each (``graphs``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import psycopg
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.gallery.people import Change
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.remote.index import GALLERY_DIGITS, Candidates, GalleryIndexes, IndexState, VectorIndex
from face_detection.gallery.remote.pgvector import statements as sql
from face_detection.gallery.remote.pgvector.catalogue import Catalogue, Generation, sweep, take_turn
from face_detection.gallery.remote.pgvector.extension import Version, ensure_extension
from face_detection.gallery.remote.pgvector.graphs import Graphs
from face_detection.gallery.search.distances import compares_directions, prepare
from shared.errors import SearchUnavailable, StartupError, StorageError
from shared.models import Metric

MAX_VISITED = 1000
"""Most samples that HNSW looks at closely (hnsw.ef_search); for more neighbours the tenant is scanned."""

_ROWS = 2000
"""Samples that are deleted by one statement."""

_COPIED = 48 << 10
"""Bytes that are copied by one statement: they fit into the buffers of a TCP connection, which would count as broken
if a server that is busy with its HNSW indexes did not read for a while (``session``)."""

_REMEASURED = 16
"""So many more samples are measured exactly where an index holds half precision."""

_REPLACED = "The search index has been made anew."


class PgvectorIndex(VectorIndex):
    """A ``VectorIndex`` in a PostgreSQL database. Safe between threads and processes.

    ``nearest`` raises SearchUnavailable when the index was lost, or was replaced by one that has not come as far as
    this handle knew it to be: what is missing would not be found. ``position`` then tells where it is.
    """

    name = "pgvector"
    settling = 0.0

    def __init__(
        self,
        url: str,
        name: str,
        dimensions: int,
        space: str,
        metric: Metric,
        candidates: int,
        exact_below: int,
        setting: str = "SEARCH_URL",
    ) -> None:
        """Open an index; it is made if it does not exist.

        Args:
            url: of the PostgreSQL database.
            name: at most 20 hexadecimal digits, which tell gallery, embedding space and metric apart.
            dimensions: of the vectors.
            space: the embedding space whose samples it has.
            metric: how they are compared.
            candidates: samples that HNSW looks at closely for each probe, at most ``MAX_VISITED``.
            exact_below: a tenant with fewer samples is searched exactly.
            setting: where the URL comes from, for messages.

        Raises:
            SettingsError: the URL cannot be understood.
            StartupError: the database cannot be used, or does not have pgvector.
        """
        self._same = (url, name, dimensions, space, metric, candidates, exact_below, setting)
        self._dimensions = dimensions
        self._space = space
        self._metric = metric
        self._candidates = candidates
        self._catalogue = Catalogue(name, dimensions)
        self._gallery = name
        self._unpublished: str | None = None
        self._version: Version
        self._known: Generation

        def prepare_database(session: Session) -> None:
            self._version = ensure_extension(session)
            self._known = self._catalogue.create(session)

        self._connections = Connections(url, prepare_database, setting)
        self.indexes: GalleryIndexes = PgvectorIndexes(self._connections, name)
        self._half = self._version.graph(dimensions, compares_directions(metric))
        self._graphs = Graphs(self._connections, self._catalogue, dimensions, self._half, exact_below)

    @override
    def position(self) -> int:
        with _reading(self._connections) as session:
            self._known = self._present(session)
            return self._known.position

    @override
    def begin(self, change: int) -> int:
        with _reading(self._connections) as session:
            generation = self._present(session).id
            with session.transaction():
                session.execute(sql.BEGIN, {"generation": generation, "position": change})
                rows = session.execute(sql.REACHED, (generation,)).fetchall()
        if not rows:
            raise SearchUnavailable(_REPLACED)
        return int(rows[0][0])

    @override
    def apply(self, changes: Sequence[Change], since: int, position: int) -> None:
        with _reading(self._connections) as session:
            for _ in range(2):
                try:
                    with session.transaction():
                        generation = self._catalogue.lock(session, self._unpublished)
                        if generation is not None:
                            counts = self._apply(session, generation, changes, since, position)
                    if generation is not None:
                        self._known = Generation(generation.id, max(generation.position, position))
                        self._have_graphs(session, counts)
                        return
                except psycopg.errors.UndefinedTable:  # lost
                    pass
                self._present(session)
        raise SearchUnavailable(_REPLACED)

    @override
    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int) -> Candidates:
        """Several probes take one round trip."""
        if not len(probes):
            return Candidates([], [], exact=True)
        visited = k + _REMEASURED * bool(self._half)
        values = [{"tenant": tenant, "probe": str(probe.tolist()), "k": k, "visited": visited} for probe in probes]
        with _reading(self._connections) as session:
            for _ in range(3):
                generation = self._known.id
                try:
                    approximate = visited <= MAX_VISITED and self._has_graph(session, generation, tenant)
                    found = self._search(session, generation, values, approximate)
                    if found is not None and approximate and min(map(len, found)) < k:
                        # What was deleted stays in an HNSW index for a while, and takes the places of what was not.
                        approximate = False
                        found = self._search(session, generation, values, approximate)
                except psycopg.errors.UndefinedTable:  # replaced or lost
                    found = None
                if found is not None:
                    return Candidates(found, [len(keys) < k for keys in found], exact=not approximate)
                self._follow(session)
        raise SearchUnavailable(_REPLACED)

    @override
    def fresh(self) -> Self:
        """Removes what was not published before."""
        with _reading(self._connections) as session:
            generation = self._catalogue.replace_unpublished(session)
        try:
            index = type(self)(*self._same)
        except StartupError as error:
            raise SearchUnavailable("The search index cannot be opened.") from error
        index._unpublished = generation.id
        index._known = generation
        return index

    @override
    def complete(self) -> None:
        """Makes the HNSW indexes of large tenants."""
        with self._patient() as session:
            self._make_graphs(session)

    @override
    def publish(self) -> None:
        """Makes the HNSW indexes that are still missing first."""
        with self._patient() as session:
            self._make_graphs(session)
            if not self._catalogue.publish(session, self._known.id):
                raise SearchUnavailable(_REPLACED)
        self._unpublished = None

    @override
    def drop(self) -> None:
        with _reading(self._connections) as session:
            self._catalogue.remove(session, self._known.id)

    @override
    def close(self) -> None:
        """An HNSW index that is being made is given up."""
        self._graphs.close()
        self._connections.close()

    @contextmanager
    def _patient(self) -> Iterator[Session]:
        with _translated(), self._connections.patient() as session:
            session.execute("SET lock_timeout = 0")
            yield session

    def _make_graphs(self, session: Session) -> None:
        session.execute(sql.analyze(self._catalogue.table(self._known.id)))
        self._graphs.make(session, self._known.id, concurrently=False)

    def _present(self, session: Session) -> Generation:
        """The generation that this handle is for; one that was lost is made anew."""
        if self._unpublished is None:
            return self._catalogue.ensure(session)
        present = self._catalogue.unpublished(session, self._unpublished)
        if present is None:
            raise SearchUnavailable("Another process has begun to make the search index anew.")
        return present

    def _follow(self, session: Session) -> None:
        present = self._present(session)
        if present.position < self._known.position:
            raise SearchUnavailable(_REPLACED)
        self._known = present

    def _apply(
        self, session: Session, generation: Generation, changes: Sequence[Change], since: int, position: int
    ) -> list[tuple[str, int]]:
        """Returns the tenants whose samples changed, with how many they have now."""
        if generation.position < since:
            raise SearchUnavailable(_REPLACED)
        if generation.position >= position:
            return []
        table = self._catalogue.table(generation.id)
        latest = list({change.key: change for change in changes if change.number > generation.position}.values())
        more: Counter[str] = Counter()
        for start in range(0, len(latest), _ROWS):
            self._put(session, table, latest[start : start + _ROWS], more)
        session.execute(sql.ADVANCE, (position, generation.id))
        values = {"generation": generation.id, "tenants": list(more), "more": list(more.values())}
        return session.execute(sql.COUNT, values).fetchall()

    def _put(self, session: Session, table: str, changes: Sequence[Change], more: Counter[str]) -> None:
        gone = session.execute(sql.delete(table), ([change.key for change in changes],)).fetchall()
        more.subtract(dict(gone))
        present = [change for change in changes if change.vector is not None and change.space == self._space]
        if not present:
            return
        rows = prepare(np.stack([change.vector for change in present if change.vector is not None]), self._metric)
        at_once = max(1, _COPIED // (64 + 4 * self._dimensions))
        for start in range(0, len(present), at_once):
            part = slice(start, start + at_once)
            with session.cursor().copy(sql.copy(table)) as copy:
                copy.write(sql.copied([(c.key, c.tenant) for c in present[part]], rows[part]))
        more.update(change.tenant for change in present)

    def _have_graphs(self, session: Session, counts: Sequence[tuple[str, int]]) -> None:
        for tenant, samples in counts:
            if self._graphs.is_large(samples):
                self._has_graph(session, self._known.id, tenant)

    def _has_graph(self, session: Session, generation: str, tenant: str) -> bool:
        """Whether to search by HNSW; an index that is not published gets none before it is complete."""
        return self._unpublished is None and self._graphs.ready(session, generation, tenant)

    def _search(
        self, session: Session, generation: str, values: Sequence[dict[str, Any]], approximate: bool
    ) -> list[list[int]] | None:
        """Keys for each probe; None when the generation is no longer the present one."""
        table = self._catalogue.table(generation)
        statement = sql.walk(table, self._dimensions, bool(self._half)) if approximate else sql.scan(table)
        present, whose = (sql.PUBLISHED, self._gallery) if self._unpublished is None else (sql.UNPUBLISHED, generation)
        with session.pipeline(), session.transaction():
            if approximate:
                visited = max([self._candidates, *(value["visited"] for value in values)])
                session.execute(sql.APPROXIMATELY, (str(visited),))
                if self._version.iterative:
                    session.execute(sql.ITERATIVELY)
            else:
                session.execute(sql.EXACTLY)
            cursors = [session.execute(statement, value, binary=True) for value in values]
            still = session.execute(present, (whose,))
        if [row[0] for row in still.fetchall()] != [generation]:
            return None
        return [[row[0] for row in cursor.fetchall()] for cursor in cursors]


class PgvectorIndexes(GalleryIndexes):
    """``GalleryIndexes`` in a PostgreSQL database: what is common to them, whatever their vectors.

    Args:
        connections: to the database, whose user closes them.
        own: name of the index that is searched.
    """

    def __init__(self, connections: Connections, own: str) -> None:
        self.own = own
        self._connections = connections

    @override
    def states(self) -> Sequence[IndexState]:
        with _reading(self._connections) as session:
            return [IndexState(*row) for row in session.execute(sql.STATES, (self.own[:GALLERY_DIGITS],)).fetchall()]

    @override
    def remove(self, name: str, changes: Sequence[Change], position: int) -> None:
        """Everything or nothing of it is done."""
        with _reading(self._connections) as session, session.transaction():
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
        with _reading(self._connections) as session:
            with session.transaction():
                take_turn(session)
                session.execute(sql.REMOVE_UNPUBLISHED, (name,))
            sweep(session, name)

    @override
    def drop(self, name: str) -> None:
        with _reading(self._connections) as session, session.transaction():
            take_turn(session)
            session.execute(sql.REMOVE_ALL, (name,))
            for (table,) in session.execute(sql.TABLES, (name,)).fetchall():
                session.execute(sql.drop_table(table))


@contextmanager
def _reading(connections: Connections) -> Iterator[Session]:
    with _translated(), connections.reading() as session:
        yield session


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what ``VectorIndex`` announces instead of what connections do."""
    try:
        yield
    except SearchUnavailable:
        raise
    except StorageError as error:
        raise SearchUnavailable(f"The search index failed: {error.message}") from error
