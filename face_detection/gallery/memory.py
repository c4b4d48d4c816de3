"""Exact search in memory: per tenant one matrix, and an int8 copy that tells which of its rows need a look.

Readers work on a snapshot that never changes. New rows are written behind the snapshots' ends; whatever would
change what a snapshot shows is copied first. A replaced sample is a new row and a dead old one, and both show
in the same new snapshot, so the sample is never missing.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.compact import BLOCK, Block, Probes, Products, Shortlist
from face_detection.gallery.distances import MAX_LENGTH, compares_directions, distances, lengths, prepare
from face_detection.gallery.search import Neighbour
from face_detection.gallery.store import Change, Store
from shared.errors import InvalidRequest, SpaceMismatch
from shared.models import Metric
from shared.settings import available_cores

T = TypeVar("T", bound=np.generic)

_LOAD_CHUNK = 4096
_MOST_SCORES = 1 << 22  # scores that a thread holds at once: 16 MiB
_ROUNDING = float(np.finfo(np.float32).eps) / 2


class MemoryIndex:
    """A ``Searcher`` that keeps the samples of one embedding space in memory."""

    def __init__(self, store: Store, space: str, metric: Metric) -> None:
        """An empty index; ``refresh`` or the first search fills it.

        Args:
            store: whose samples.
            space: samples of other embedding spaces are ignored.
            metric: how embeddings are compared.
        """
        self._store = store
        self._space = space
        self._metric = metric
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="search")
        self._applied = 0
        self._dimensions: int | None = None
        self._builders: dict[str, _Builder] = {}
        self._snapshots: dict[str, _Snapshot] = {}

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

    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int = 1) -> list[list[Neighbour]]:
        """See ``Searcher``."""
        self.refresh()
        if self._dimensions not in (None, probes.shape[1]):
            raise SpaceMismatch(f"The probe has {probes.shape[1]} dimensions where its space has {self._dimensions}.")
        if not (lengths(probes) < MAX_LENGTH).all():
            raise InvalidRequest("The probe is too long or not finite.")
        snapshot = self._snapshots.get(tenant)
        if snapshot is None:
            return [[] for _ in probes]
        return list(snapshot.nearest(prepare(probes, self._metric), self._metric, k, self._pool))

    def size(self, tenant: str) -> int:
        """See ``Searcher``."""
        snapshot = self._snapshots.get(tenant)
        return 0 if snapshot is None else snapshot.size

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
                    capacity = self._store.count(tenant, self._space)
                    builder = self._builders[tenant] = _Builder(self._dimensions, capacity, self._metric)
                builder.append(np.array([key for key, _ in present], np.int64), prepare(vectors, self._metric))
            if builder is None:
                continue
            if builder.size:
                builder.compact()
                self._snapshots[tenant] = builder.snapshot()
            else:
                del self._builders[tenant]
                self._snapshots.pop(tenant, None)


@dataclass(frozen=True)
class _Snapshot:
    """A tenant's rows at one moment.

    Attributes:
        keys: (n,) int64.
        rows: (n, dimensions) float32, prepared for the metric.
        biases: (n,) float32, half the squared length of the row, or 0 where all have unit length; infinite where the
            row is dead.
        dead: ascending positions of the dead rows.
        blocks: int8 copies of the first rows, ``BLOCK`` each.
        reach: at least the length of the longest row.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.float32]
    biases: NDArray[np.float32]
    dead: NDArray[np.intp]
    blocks: Sequence[Block]
    reach: float

    @property
    def size(self) -> int:
        """Number of rows that are not dead."""
        return len(self.rows) - len(self.dead)

    def nearest(
        self, probes: NDArray[np.float32], metric: Metric, k: int, pool: ThreadPoolExecutor
    ) -> Iterator[list[Neighbour]]:
        """The k nearest rows of each prepared probe.

        For all metrics the nearest row r maximises r·p − ‖r‖²/2, whose second term is the same for all rows where
        they have unit length. Every row that could be among the k nearest, given how accurately this is computed,
        is then measured exactly.
        """
        step = max(1, _MOST_SCORES // BLOCK)
        for start in range(0, len(probes), step):
            part = probes[start : start + step]
            shortlist = self._shortlist(part, k, pool)
            for number, probe in enumerate(part):
                yield self._exact(probe, shortlist.positions(number), metric, k)

    def _shortlist(self, probes: NDArray[np.float32], k: int, pool: ThreadPoolExecutor) -> Shortlist:
        rounded = Probes(probes)
        shortlist = Shortlist(len(probes), k)
        ones, errors = np.ones(len(probes)), self._errors(rounded.lengths)
        starts = range(0, len(self.rows), BLOCK)
        remaining = iter(enumerate(starts))

        def scan() -> None:
            products = Products(len(probes), BLOCK) if self.blocks else None
            for number, start in remaining:  # shared: each thread takes the next part
                end = min(start + BLOCK, len(self.rows))
                if products is not None and number < len(self.blocks):
                    first, last = np.searchsorted(self.dead, (start, end))
                    dead = self.dead[first:last] - start
                    scales, block_errors = self.blocks[number].multiply(rounded, dead, products)
                    shortlist.add(start, products.values, scales, block_errors)
                else:
                    scores = probes @ self.rows[start:end].T
                    scores -= self.biases[start:end]
                    shortlist.add(start, scores, ones, errors)

        if len(starts) == 1:
            scan()
        else:
            for scanning in [pool.submit(scan) for _ in range(min(available_cores(), len(starts)))]:
                scanning.result()
        return shortlist

    def _exact(
        self, probe: NDArray[np.float32], positions: NDArray[np.intp], metric: Metric, k: int
    ) -> list[Neighbour]:
        length = float(np.linalg.norm(probe))
        if length == 0.0 and compares_directions(metric):
            return []
        if self.blocks:  # a crowd that int8 cannot tell apart
            narrower = Shortlist(1, k)
            scores = self.rows[positions] @ probe - self.biases[positions]
            narrower.add(0, scores[np.newaxis], np.ones(1), self._errors(np.full(1, length)))
            positions = positions[narrower.positions(0)]
        positions = positions[np.isfinite(self.biases[positions])]
        keys = self.keys[positions]
        exact = distances(self.rows[positions], probe, metric)
        order = np.lexsort((keys, exact))[:k]
        return [Neighbour(int(keys[position]), float(exact[position])) for position in order]

    def _errors(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bounds on the rounding of float32 scores for probes of these lengths.

        Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1.
        """
        relative: float = (self.rows.shape[1] + 4) * _ROUNDING
        return relative * self.reach * (self.reach + lengths)


class _Builder:
    """Makes the snapshots of a tenant; used by one thread at a time.

    Keys are looked up by scanning them: next to a search, which reads whole rows, that costs little, and an
    ordinary dict would take a quarter of the memory that the rows take.
    """

    def __init__(self, dimensions: int, capacity: int, metric: Metric) -> None:
        self._keys = np.empty(capacity, np.int64)
        self._rows = np.empty((capacity, dimensions), np.float32)
        self._biases = np.empty(capacity, np.float32)
        self._blocks: list[Block] = []
        self._used = 0
        self._dead = 0
        self._unit_length = compares_directions(metric)
        self._reach = 1.0 + 4 * _ROUNDING if self._unit_length else 0.0
        self._highest_key = -1

    @property
    def size(self) -> int:
        return self._used - self._dead

    def snapshot(self) -> _Snapshot:
        end = self._used
        biases = self._biases[:end]
        dead = np.flatnonzero(np.isinf(biases)) if self._dead else np.empty(0, np.intp)
        return _Snapshot(self._keys[:end], self._rows[:end], biases, dead, tuple(self._blocks), self._reach)

    def remove(self, keys: NDArray[np.int64]) -> None:
        """Mark the rows of these keys as dead; keys without a row are ignored."""
        known = keys[keys <= self._highest_key]  # most changes are new samples, with keys above all others
        if not known.size:
            return
        stale = np.isin(self._keys[: self._used], known)
        stale &= np.isfinite(self._biases[: self._used])
        if stale.any():
            self._biases = self._biases.copy()
            self._biases[: self._used][stale] = np.inf
            self._dead += int(np.count_nonzero(stale))

    def append(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add rows, whose keys must have none."""
        end = self._used + len(keys)
        if end > len(self._keys):
            self._reallocate(slice(self._used), max(end, self._used * 3 // 2))
        self._keys[self._used : end] = keys
        self._rows[self._used : end] = rows
        if self._unit_length:
            self._biases[self._used : end] = 0.0
        else:
            reaches = lengths(rows)
            self._biases[self._used : end] = reaches**2 / 2
            self._reach = max(self._reach, float(reaches.max()))
        self._used = end
        self._highest_key = max(self._highest_key, int(keys.max()))
        self._add_blocks()

    def compact(self) -> None:
        """Drop the dead rows once they are more than a quarter."""
        if self._dead * 4 > self._used:
            self._reallocate(np.flatnonzero(np.isfinite(self._biases[: self._used])), self.size)
            self._used, self._dead = self.size, 0
            self._blocks.clear()
            self._add_blocks()

    def _add_blocks(self) -> None:
        while self._unit_length and (end := (len(self._blocks) + 1) * BLOCK) <= self._used:
            self._blocks.append(Block(self._rows[end - BLOCK : end]))

    def _reallocate(self, kept: slice | NDArray[np.intp], capacity: int) -> None:
        self._keys = _copied(self._keys, kept, capacity)
        self._rows = _copied(self._rows, kept, capacity)
        self._biases = _copied(self._biases, kept, capacity)


def _copied(old: NDArray[T], kept: slice | NDArray[np.intp], capacity: int) -> NDArray[T]:
    rows = old[kept]
    new = np.empty((capacity, *old.shape[1:]), old.dtype)
    new[: len(rows)] = rows
    return new
