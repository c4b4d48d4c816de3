"""A tenant's rows at one moment, which readers search, and what makes one such moment after the other.

A snapshot never changes. New rows are written behind the snapshots' ends; whatever would change what a snapshot
shows is copied first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.approximate import MOST_NEIGHBOURS, Codes
from face_detection.gallery.search.distances import compares_directions, distances, lengths
from face_detection.gallery.search.int8_scan import Block, Probes, Products, Shortlist
from face_detection.gallery.search.searcher import Nearest, Neighbour
from shared.models import Metric
from shared.settings import available_cores

T = TypeVar("T", bound=np.generic)

_MOST_SCORES = 1 << 22  # scores that a thread holds at once: 16 MiB
_STALE = 1 / 16  # codes are built anew when so many of the rows have none
_ROUNDING = float(np.finfo(np.float32).eps) / 2


@dataclass(frozen=True)
class Snapshot:
    """A tenant's rows at one moment.

    Attributes:
        keys: (n,) int64.
        rows: (n, dimensions) float32, prepared for the metric.
        biases: (n,) float32, half the squared length of the row, or 0 where all have unit length; infinite where the
            row is dead.
        dead: ascending positions of the dead rows.
        blocks: int8 copies of the first rows, ``block`` each.
        block: rows that one step of a scan takes.
        reach: at least the length of the longest row.
        codes: an approximate index of the first rows; None where all are scanned.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.float32]
    biases: NDArray[np.float32]
    dead: NDArray[np.intp]
    blocks: Sequence[Block]
    block: int
    reach: float
    codes: Codes | None

    @property
    def size(self) -> int:
        """Number of rows that are not dead."""
        return len(self.rows) - len(self.dead)

    def build_codes(self, stop: Callable[[], bool]) -> Codes | None:
        """Codes of all whole blocks, so that the scan of the rows behind them starts with a block."""
        return Codes.build(self.rows[: len(self.rows) // self.block * self.block], stop)

    def nearest(self, probes: NDArray[np.float32], metric: Metric, k: int, pool: ThreadPoolExecutor) -> Nearest:
        """The k nearest rows of each prepared probe, exact unless there are codes that can name so many."""
        if self.codes is None or k > MOST_NEIGHBOURS:
            return Nearest(self._scan(probes, metric, k, pool), exact=True)
        answers: list[list[Neighbour]] = []
        exact = True
        candidates = self.codes.candidates(probes, pool)
        recent = self._shortlists(probes, k, pool, self.codes.end)
        for probe, named, unlisted in zip(probes, candidates, recent, strict=True):
            named = named[np.isfinite(self.biases[named])]
            if len(named) < MOST_NEIGHBOURS:  # most of what is near has been deleted
                answers += self._scan(probe[np.newaxis], metric, k, pool)
            else:
                answers.append(self._exact(probe, np.concatenate([named, unlisted]), metric, k))
                exact = False
        return Nearest(answers, exact)

    def _scan(
        self, probes: NDArray[np.float32], metric: Metric, k: int, pool: ThreadPoolExecutor
    ) -> Iterator[list[Neighbour]]:
        """The k nearest of all rows, for each probe.

        For all metrics the nearest row r maximises r·p − ‖r‖²/2, whose second term is the same for all rows where
        they have unit length. Every row that could be among the k nearest, given how accurately this is computed,
        is then measured exactly.
        """
        for probe, positions in zip(probes, self._shortlists(probes, k, pool), strict=True):
            yield self._exact(probe, positions, metric, k)

    def _shortlists(
        self, probes: NDArray[np.float32], k: int, pool: ThreadPoolExecutor, first: int = 0
    ) -> Iterator[NDArray[np.intp]]:
        """For each probe the positions, from ``first`` on, of all rows that can be among the k nearest of those."""
        if first >= len(self.rows):
            yield from (np.empty(0, np.intp) for _ in probes)
            return
        step = max(1, _MOST_SCORES // self.block)
        for start in range(0, len(probes), step):
            part = probes[start : start + step]
            shortlist = self._shortlist(part, k, pool, first)
            for number in range(len(part)):
                yield shortlist.positions(number)

    def _shortlist(self, probes: NDArray[np.float32], k: int, pool: ThreadPoolExecutor, first: int) -> Shortlist:
        rounded = Probes(probes)
        shortlist = Shortlist(len(probes), k)
        ones, errors = np.ones(len(probes)), self._errors(rounded.lengths)
        starts = range(first, len(self.rows), self.block)
        remaining = iter(starts)

        def scan() -> None:
            products = Products(len(probes), self.block) if self.blocks else None
            for start in remaining:  # shared: each thread takes the next part
                end = min(start + self.block, len(self.rows))
                number = start // self.block
                if products is not None and number < len(self.blocks):
                    first_dead, last_dead = np.searchsorted(self.dead, (start, end))
                    dead = self.dead[first_dead:last_dead] - start
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


class Builder:
    """Makes the snapshots of a tenant; used by one thread at a time.

    Keys are looked up by scanning them: next to a search, which reads whole rows, that costs little, and an
    ordinary dict would take a quarter of the memory that the rows take.
    """

    def __init__(self, dimensions: int, capacity: int, metric: Metric, block: int, approximate_above: int) -> None:
        """No rows yet.

        Args:
            dimensions: of the rows.
            capacity: rows that there is room for before the arrays must grow.
            metric: how they are compared.
            block: rows that a scan takes at a time.
            approximate_above: with more rows than this there may be codes; 0 is never.
        """
        self._keys = np.empty(capacity, np.int64)
        self._rows = np.empty((capacity, dimensions), np.float32)
        self._biases = np.empty(capacity, np.float32)
        self._blocks: list[Block] = []
        self._used = 0
        self._dead = 0
        self._unit_length = compares_directions(metric)
        self._reach = 1.0 + 4 * _ROUNDING if self._unit_length else 0.0
        self._highest_key = -1
        self._block = block
        self._approximate_above = approximate_above
        self._codes: Codes | None = None
        self._numbering = 0

    @property
    def size(self) -> int:
        """Number of rows that are not dead."""
        return self._used - self._dead

    @property
    def numbering(self) -> int:
        """Changes whenever rows get other positions, which makes codes of the old ones useless."""
        return self._numbering

    @property
    def wants_codes(self) -> bool:
        """Whether codes of the present rows would make searches faster than those there are."""
        end = self._used // self._block * self._block
        if not end or not 0 < self._approximate_above < self.size:
            return False
        return self._codes is None or end - self._codes.end > end * _STALE

    def snapshot(self) -> Snapshot:
        """The present rows."""
        end = self._used
        biases = self._biases[:end]
        dead = np.flatnonzero(np.isinf(biases)) if self._dead else np.empty(0, np.intp)
        codes = self._codes if self.size > self._approximate_above else None
        return Snapshot(
            self._keys[:end], self._rows[:end], biases, dead, tuple(self._blocks), self._block, self._reach, codes
        )

    def use(self, codes: Codes) -> None:
        """Give the codes to the snapshots from now on; they must be of the present numbering."""
        self._codes = codes

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
            self._codes = None
            self._numbering += 1
            self._blocks.clear()
            self._add_blocks()

    def _add_blocks(self) -> None:
        while self._unit_length and (end := (len(self._blocks) + 1) * self._block) <= self._used:
            self._blocks.append(Block(self._rows[end - self._block : end]))

    def _reallocate(self, kept: slice | NDArray[np.intp], capacity: int) -> None:
        self._keys = _copied(self._keys, kept, capacity)
        self._rows = _copied(self._rows, kept, capacity)
        self._biases = _copied(self._biases, kept, capacity)


def _copied(old: NDArray[T], kept: slice | NDArray[np.intp], capacity: int) -> NDArray[T]:
    rows = old[kept]
    new = np.empty((capacity, *old.shape[1:]), old.dtype)
    new[: len(rows)] = rows
    return new
