"""A first look at a very large gallery that can miss: rows as 4-bit codes, compared with faiss.

Each pair of values becomes one of 16 typical pairs (product quantisation), so a row of 128 float32 takes 32 bytes, and
a search adds up distances from tables that fit the processor's registers. It names the rows that seem nearest; whoever
asks drops the dead ones and measures the others exactly. Unlike a graph, or lists of which a few are read, codes leave
no row unseen, are made in seconds and take a sixteenth of the rows' memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SettingsError
from shared.settings import available_cores

CANDIDATES = 256
"""Rows that are named for each probe."""

MOST_NEIGHBOURS = 16
"""Neighbours that are looked for among the candidates: many fewer, so that those are hardly ever missing."""

_BITS = 4  # of the code of a piece
_MOST_PIECES = 512  # of a row; the sum over more of them would be too coarse in 16 bits
_LEARNED = 4096  # rows from which the typical pairs are learned; faiss would take no more
_CHUNK = 1 << 16  # rows added at once


def load_library() -> Any:
    """The module faiss, which only those need to install who want approximate search.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise SettingsError(
            "APPROXIMATE_ABOVE needs a package that is not installed: pip install -r requirements-approximate.txt."
        ) from error


class Codes:
    """Codes of the first rows of a gallery. They never change, and any thread may search them.

    Attributes:
        end: they are of the rows at positions below this.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self.end = int(index.ntotal)

    @classmethod
    def build(cls, rows: NDArray[np.float32], stop: Callable[[], bool]) -> Codes | None:
        """Learn from the rows and encode them, which takes seconds for a million.

        Args:
            rows: (n, dimensions) float32, at least 16.
            stop: asked several times a second; once it says yes, None is returned.

        Raises:
            RuntimeError: faiss failed.
        """
        faiss = load_library()
        faiss.omp_set_num_threads(1)  # in this thread: in the background one core is enough
        count, dimensions = rows.shape
        pieces = next(
            pieces for pieces in range(_MOST_PIECES, 0, -1) if dimensions % pieces == 0 and 2 * pieces <= dimensions
        )
        index = faiss.IndexPQFastScan(dimensions, pieces, _BITS)
        index.pq.cp.min_points_per_centroid = 1  # else faiss prints advice
        learned = np.random.default_rng(0).choice(count, min(count, _LEARNED), replace=False)
        index.train(rows[learned])
        for start in range(0, count, _CHUNK):
            if stop():
                return None
            index.add(rows[start : start + _CHUNK])
        return cls(index)

    def candidates(self, probes: NDArray[np.float32], pool: ThreadPoolExecutor) -> list[NDArray[np.int64]]:
        """Positions of the rows that seem nearest to each of (m, dimensions) float32 probes.

        Returns:
            For each probe up to ``CANDIDATES`` positions, dead rows among them.
        """
        faiss = load_library()

        def search(part: NDArray[np.float32]) -> list[NDArray[np.int64]]:
            faiss.omp_set_num_threads(1)  # in this thread: a team of its own would spin beside other searches
            _, found = self._index.search(part, CANDIDATES)
            return [positions[positions >= 0] for positions in found]

        if len(probes) == 1:
            return search(probes)
        parts = np.array_split(probes, available_cores())
        return [positions for part in pool.map(search, parts) for positions in part]
