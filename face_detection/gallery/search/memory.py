"""Exact search in memory: per tenant one matrix, and an int8 copy that tells which of its rows need a look.

Readers work on a snapshot that never changes (``snapshot``). A replaced sample is a new row and a dead old one, and
both show in the same new snapshot, so the sample is never missing. An index that comes too late to learn of all
deletions, or whose database was replaced, is filled anew, beside the snapshots that are searched until it is complete.
For very large galleries a thread of its own builds an approximate index of the rows (``approximate``), which later
snapshots have; until then they do without.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.gallery.people import Change
from face_detection.gallery.search.distances import prepare
from face_detection.gallery.search.int8_scan import BLOCK
from face_detection.gallery.search.searcher import Nearest, Searcher, check_probes
from face_detection.gallery.search.snapshot import Builder, Snapshot
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store, follow
from shared.errors import CursorExpired
from shared.models import Metric
from shared.settings import available_cores

log = logging.getLogger(__name__)

_LOAD_CHUNK = 4096


class MemoryIndex(Searcher):
    """A ``Searcher`` that keeps the samples of one embedding space in memory."""

    name = "memory"
    lag = 0

    def __init__(self, store: Store, space: str, metric: Metric, approximate_above: int = 0) -> None:
        """An empty index; ``refresh`` or the first search fills it.

        Args:
            store: whose samples.
            space: samples of other embedding spaces are ignored.
            metric: how embeddings are compared.
            approximate_above: a tenant with more samples than this is searched approximately, 0 is never.
        """
        self._store = store
        self._space = space
        self._metric = metric
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="search")
        self._applied = 0
        self._loaded = 0  # the same of the builders, which are further while the index is filled anew
        self._begun = 0
        self._position: Position | None = None  # of the database, when it was followed last
        self._dimensions: int | None = None
        self._approximate_above = approximate_above
        self._builders: dict[str, Builder] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._making = self._snapshots  # others, while the index is filled anew
        self._due: set[str] = set()  # tenants that want codes
        self._building: threading.Thread | None = None

    @property
    @override
    def applied(self) -> int:
        return self._applied

    @override
    def refresh(self, position: Position | None = None) -> None:
        """With a position that was read a moment ago, what was committed since then may be missing."""
        if self._has_seen(position or self._store.position()):
            return
        with self._lock:
            position = self._store.position()  # before the changes: whatever happens in between shows the next time
            if self._has_seen(position):
                return
            if self._position is not None and not self._store.has_passed(self._position.mark):
                self._start_over()
            self._position = position
            while not self._load(position.change):
                self._start_over()
            self._build_next()

    @override
    def nearest(
        self, tenant: str, probes: NDArray[np.float32], k: int = 1, position: Position | None = None
    ) -> Nearest:
        self.refresh(position)
        return self.search(tenant, probes, k)

    def search(self, tenant: str, probes: NDArray[np.float32], k: int) -> Nearest:
        """The same among the changes that were applied already."""
        check_probes(probes, self._dimensions)
        snapshot = self._snapshots.get(tenant)
        if snapshot is None:
            return Nearest(([] for _ in probes), exact=True)
        return snapshot.nearest(prepare(probes, self._metric), self._metric, k, self._pool)

    @override
    def size(self, tenant: str) -> int:
        snapshot = self._snapshots.get(tenant)
        return 0 if snapshot is None else snapshot.size

    @override
    def close(self) -> None:
        """What is left ends with the last search."""

    def _has_seen(self, position: Position) -> bool:
        whole = self._making is self._snapshots
        return whole and position == self._position and self._loaded >= position.change

    def _load(self, target: int) -> bool:
        """Apply the changes up to a number, at least; whether all were still known. Called with the lock."""
        self._begun = self._begun or self._store.last_change()
        try:
            for changes, position in follow(self._store, self._loaded, self._begun, _LOAD_CHUNK):
                self._apply(changes)
                self._loaded = position
                if self._making is self._snapshots:
                    self._applied = position
                if position >= target:
                    break
        except CursorExpired:
            return False
        self._snapshots = self._making
        self._applied = self._loaded
        return True

    def _start_over(self) -> None:
        """Let the next load fill the index anew. Called with the lock."""
        log.warning("the database was replaced, or the index has come too late; it is filled anew")
        self._loaded = self._begun = 0
        self._builders = {}
        self._due.clear()
        self._making = {}

    def _apply(self, changes: Sequence[Change]) -> None:
        by_tenant: defaultdict[str, list[Change]] = defaultdict(list)
        for change in changes:
            by_tenant[change.tenant].append(change)
        for tenant, own in by_tenant.items():
            touched = np.array([change.key for change in own], np.int64)
            present = [(c.key, c.vector) for c in own if c.vector is not None and c.space == self._space]
            builder = self._builders.get(tenant)
            if builder is not None:
                builder.remove(touched)
            if present:
                vectors = np.concatenate([vector for _, vector in present]).reshape(len(present), -1)
                self._dimensions = vectors.shape[1]
                if builder is None:
                    capacity = self._capacity(tenant, len(present))
                    builder = self._builders[tenant] = Builder(
                        self._dimensions, capacity, self._metric, BLOCK, self._approximate_above
                    )
                builder.append(np.array([key for key, _ in present], np.int64), prepare(vectors, self._metric))
            if builder is None:
                continue
            if builder.size:
                builder.compact()
                self._making[tenant] = builder.snapshot()
                if builder.wants_codes:
                    self._due.add(tenant)
            else:
                del self._builders[tenant]
                self._making.pop(tenant, None)

    def _capacity(self, tenant: str, least: int) -> int:
        """Rows to make room for, where so many are known to come."""
        # Room for all of them at once spares copying a large gallery again and again while it is loaded.
        return max(least, self._store.count(tenant, self._space))

    def _build_next(self) -> None:
        """Start building codes for a tenant that wants them, unless some are being built. Called with the lock."""
        while self._due and self._building is None and threading.main_thread().is_alive():
            tenant = self._due.pop()
            builder = self._builders.get(tenant)
            if builder is not None and builder.wants_codes:
                arguments = (tenant, builder, builder.numbering, builder.snapshot())
                building = threading.Thread(target=self._build_codes, args=arguments, name="codes")
                building.start()
                self._building = building

    def _build_codes(self, tenant: str, builder: Builder, numbering: int, snapshot: Snapshot) -> None:
        def outdated() -> bool:
            # When the main thread has ended, the process waits for this one.
            current = self._builders.get(tenant) is builder and builder.numbering == numbering
            return not current or not threading.main_thread().is_alive()

        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)  # of this thread; searches go first
        try:
            codes = snapshot.build_codes(outdated)
            with self._lock:
                if codes is not None and not outdated():
                    builder.use(codes)
                    self._making[tenant] = builder.snapshot()
        except Exception:  # there will be another attempt
            log.exception("no approximate index could be built; searches are exact until the next attempt")
        finally:
            with self._lock:
                self._building = None
                self._build_next()
