"""HNSW indexes of large tenants in pgvector: made in the background, one at a time in a database.

Each is a partial index of one tenant, so that a search visits nobody else's samples. Until it is there the tenant is
searched by scanning; neither searches nor changes wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from functools import partial

import psycopg

from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.remote.pgvector import statements as sql
from face_detection.gallery.remote.pgvector.catalogue import Catalogue
from shared.background import start_thread
from shared.errors import StorageError

_log = logging.getLogger(__name__)

KNOWN_FOR = 2.0
"""Seconds for which a process remembers whether a tenant has an index."""

PAUSE = 2.0
"""Seconds over which the pace of changes is watched."""

PACE = 500
"""Changes in a second with which an HNSW index barely keeps up: it is made when they come slower."""

RETRY = 30.0
"""Seconds after which a process tries again that has failed, or has found another one at it."""

_LOCK = 0x66616367
_WORKERS = "4"
_LEAST_MEMORY, _MOST_MEMORY = 64 << 20, 2 << 30
_MOST_TENANTS = 100_000


class Graphs:
    """The HNSW indexes of one index of vectors. Safe between threads and processes.

    Args:
        connections: to the database.
        catalogue: the generations.
        dimensions: of the vectors.
        half: whether they hold half precision; None makes none at all.
        exact_below: a tenant with fewer samples has none.
    """

    def __init__(
        self, connections: Connections, catalogue: Catalogue, dimensions: int, half: bool | None, exact_below: int
    ) -> None:
        self._connections = connections
        self._catalogue = catalogue
        self._dimensions = dimensions
        self._half = half
        self._least = max(1, exact_below)
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._session: Session | None = None

    def ready(self, session: Session, generation: str, tenant: str) -> bool:
        """Whether a tenant is to be searched by HNSW. If it should be but has no index yet, that is made."""
        if self._half is None:
            return False
        known_until, ready = self._known.get((generation, tenant), (0.0, False))
        now = time.monotonic()
        if now < known_until:
            return ready
        graph = sql.graph_name(self._catalogue.table(generation), tenant)
        values = {"generation": generation, "tenant": tenant, "graph": graph}
        rows = session.execute(sql.STATE, values).fetchall()
        samples, valid = rows[0] if rows else (0, False)
        ready = bool(valid) and self.is_large(samples)
        if len(self._known) >= _MOST_TENANTS:
            self._known.clear()
        self._known[generation, tenant] = (now + KNOWN_FOR, ready)
        if self.is_large(samples) and not valid:
            self._start(generation)
        return ready

    def is_large(self, samples: int) -> bool:
        """Whether a tenant with so many samples should have an index."""
        return samples >= self._least

    def make(self, session: Session, generation: str, concurrently: bool) -> None:
        """Make the indexes that are missing, and remove what is left of others.

        Args:
            session: a patient one.
            generation: whose tenants.
            concurrently: whether others use the table.
        """
        if self._half is None:
            return
        table = self._catalogue.table(generation)
        tenants = dict(session.execute(sql.LARGE, (generation, (self._least + 1) // 2)).fetchall())
        kept = {sql.graph_name(table, tenant) for tenant in tenants}
        present = dict(session.execute(sql.GRAPHS, (table,)).fetchall())
        for graph, valid in present.items():
            if not valid or graph not in kept:  # one that is not valid is of a process that died
                session.execute(sql.drop_graph(graph))
        for tenant, samples in tenants.items():
            if self._closing.is_set():
                return
            if self.is_large(samples) and not present.get(sql.graph_name(table, tenant), False):
                self._make_one(session, table, tenant, samples, concurrently)

    def close(self) -> None:
        """End what is being made; the next process makes it anew."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        while thread is not None and thread.is_alive():
            session = self._session
            if session is not None:
                with suppress(psycopg.Error):  # the server is away, and with it what it was making
                    session.cancel_safe(timeout=5.0)
            thread.join(0.5)

    def _make_one(self, session: Session, table: str, tenant: str, samples: int, concurrently: bool) -> None:
        # What does not fit goes to disk, which takes three times as long.
        size = samples * (self._dimensions * (2 if self._half else 4) + 900)
        memory = min(max(size, _LEAST_MEMORY), _MOST_MEMORY)
        statement = sql.create_graph(table, tenant, self._dimensions, bool(self._half), concurrently)
        started = time.monotonic()
        session.execute(sql.BUILDING, {"workers": _WORKERS, "bytes": memory})
        try:
            session.execute(statement)
        except psycopg.errors.DiskFull:  # most likely of /dev/shm, which is small in a container
            _log.warning("PostgreSQL has too little shared memory to make an HNSW index with several processes")
            session.execute(sql.drop_graph(sql.graph_name(table, tenant)))
            session.execute(sql.BUILDING, {"workers": "0", "bytes": memory})
            session.execute(statement)
        _log.info("made the HNSW index of %d samples in %.0f s", samples, time.monotonic() - started)

    def _start(self, generation: str) -> None:
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._closing.is_set() or time.monotonic() < self._not_before:
                return
            self._thread = start_thread("pgvector", partial(self._run, generation), self._closing)

    def _run(self, generation: str) -> None:
        try:
            with self._connections.patient() as session:  # ends with the turn that it has taken
                self._session = session
                try:
                    self._make_when_quiet(session, generation)
                finally:
                    self._session = None
        except StorageError as error:
            self._not_before = time.monotonic() + RETRY
            if not self._closing.is_set():
                _log.warning("an HNSW index could not be made: %s", error.message)

    def _make_when_quiet(self, session: Session, generation: str) -> None:
        if not session.execute("SELECT pg_try_advisory_lock(%s::bigint)", (_LOCK,)).fetchall()[0][0]:
            self._not_before = time.monotonic() + RETRY
            return
        while (before := self._catalogue.published(session)) is not None and before.id == generation:
            if self._closing.wait(PAUSE):
                return
            after = self._catalogue.published(session)
            if after is not None and after.id == generation and after.position - before.position < PACE * PAUSE:
                self.make(session, generation, concurrently=True)
                self._known.clear()
                break
        self._catalogue.sweep(session)
