"""Exact search in memory: per tenant one matrix, and an int8 copy that tells which of its rows need a look.

Readers work on a snapshot that never changes (``snapshot``). A replaced sample is a new row and a dead old one, and
both show in the same new snapshot, so the sample is never missing. For very large galleries a thread of its own builds
an approximate index of the rows (``approximate``), which later snapshots have; until then they do without.
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

from face_detection.gallery.compact import BLOCK
from face_detection.gallery.distances import prepare
from face_detection.gallery.search import Nearest, check_probes
from face_detection.gallery.snapshot import Builder, Snapshot
from face_detection.gallery.store import Change, Store
from shared.models import Metric
from shared.settings import available_cores

log = logging.getLogger(__name__)

_LOAD_CHUNK = 4096


class MemoryIndex:
    """A ``Searcher`` that keeps the samples of one embedding space in memory."""

    name = "memory"
    lag = 0

    def __init__(self, store: Store, space: str, metric: Metric, approximate_above: int = 0, since: int = 0) -> None:
        """An empty index; ``refresh`` or the first search fills it.

        Args:
            store: whose samples.
            space: samples of other embedding spaces are ignored.
            metric: how embeddings are compared.
            approximate_above: a tenant with more samples than this is searched approximately, 0 is never.
            since: only samples that later changes have touched.
        """
        self._store = store
        self._space = space
        self._metric = metric
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="search")
        self._whole = since == 0
        self._applied = since
        self._dimensions: int | None = None
        self._approximate_above = approximate_above
        self._builders: dict[str, Builder] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._due: set[str] = set()  # tenants that want codes
        self._building: threading.Thread | None = None

    @property
    def applied(self) -> int:
        """See ``Searcher``."""
        return self._applied

    def refresh(self) -> None:
        """See ``Searcher``."""
        target = self._store.last_change()
        if target <= self._applied:
            return
        with self._lock:
            while self._applied < target:
                changes = self._store.changes(self._applied, _LOAD_CHUNK)
                self._apply(changes)
                self._applied = changes[-1].number
            self._build_next()

    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int = 1) -> Nearest:
        """See ``Searcher``."""
        self.refresh()
        return self.search(tenant, probes, k)

    def search(self, tenant: str, probes: NDArray[np.float32], k: int) -> Nearest:
        """The same among the changes that were applied already."""
        check_probes(probes, self._dimensions)
        snapshot = self._snapshots.get(tenant)
        if snapshot is None:
            return Nearest(([] for _ in probes), exact=True)
        return snapshot.nearest(prepare(probes, self._metric), self._metric, k, self._pool)

    def size(self, tenant: str) -> int:
        """See ``Searcher``."""
        snapshot = self._snapshots.get(tenant)
        return 0 if snapshot is None else snapshot.size

    def close(self) -> None:
        """See ``Searcher``; what is left ends with the last search."""

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
                    # Room for all of them at once spares copying a large gallery again and again while it is loaded.
                    capacity = self._store.count(tenant, self._space) if self._whole else len(present)
                    builder = self._builders[tenant] = Builder(
                        self._dimensions, capacity, self._metric, BLOCK, self._approximate_above
                    )
                builder.append(np.array([key for key, _ in present], np.int64), prepare(vectors, self._metric))
            if builder is None:
                continue
            if builder.size:
                builder.compact()
                self._snapshots[tenant] = builder.snapshot()
                if builder.wants_codes:
                    self._due.add(tenant)
            else:
                del self._builders[tenant]
                self._snapshots.pop(tenant, None)

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
        codes = None
        try:
            codes = snapshot.build_codes(outdated)
        except (MemoryError, RuntimeError):  # the latter is how faiss fails
            log.exception("no approximate index could be built; searches are exact until the next attempt")
        with self._lock:
            if codes is not None and not outdated():
                builder.use(codes)
                self._snapshots[tenant] = builder.snapshot()
            self._building = None
            self._build_next()
