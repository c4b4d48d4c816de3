"""A first pass of a search over int8 copies of the rows: a quarter of float32's bytes, and it misses nothing.

Write a row as r = s·q + e and a probe as p = t·u + f, where q and u are int8 vectors, and e and f what rounding
to them loses. Then r·p = s·t·(q·u) + s·q·f + e·p, where

- q·u is computed without error, in int32 (NumKong's kernels), and
- |s·q·f + e·p| ≤ ‖s·q‖·‖f‖ + ‖e‖·‖p‖ (Cauchy–Schwarz), which the block knows for its worst row.

So every product is known up to a bound, and a row whose upper bound is below k lower bounds is not among the k
greatest. At unit length the greatest products are the nearest rows.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numkong
import numpy as np
from numpy.typing import NDArray

BLOCK = 16384
"""Rows of a block: its scores stay in a core's cache, and its kernel runs long beside what calling it costs."""

_LARGEST = 127
_ROUNDING = float(np.finfo(np.float32).eps) / 2
_UNIT_ERROR = 8 * _ROUNDING  # rows of unit length, rounded to float32, are not exactly that long
_DEAD = np.iinfo(np.int32).min


class Probes:
    """Probes of unit length, rounded to int8."""

    def __init__(self, probes: NDArray[np.float32]) -> None:
        """Round (m, dimensions) float32 probes, each with a scale of its own."""
        wide = probes.astype(np.float64)
        largest = np.abs(wide).max(axis=1)
        self.scales = np.where(largest == 0.0, 1.0, largest / _LARGEST)
        rounded = np.rint(wide / self.scales[:, np.newaxis])
        self.values = rounded.astype(np.int8)
        self.lengths = np.linalg.norm(wide, axis=1)
        self.errors = np.linalg.norm(wide - rounded * self.scales[:, np.newaxis], axis=1)


class Products:
    """Room for the products of m probes with a block; of one thread, and overwritten by every use."""

    def __init__(self, probes: int, rows: int) -> None:
        self.tensor = numkong.zeros((probes, rows), dtype="int32")
        self.values: NDArray[np.int32] = np.asarray(self.tensor)


class Block:
    """Rows of unit length rounded to int8 with one scale, in the layout of the kernel. Never changes."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        """Round (n, dimensions) float32 rows."""
        largest = float(np.abs(rows).max())
        self._scale = largest / _LARGEST
        rounded = np.rint(rows * np.float32(1.0 / self._scale))
        self._packed = numkong.dots_pack(rounded.astype(np.int8))
        rounded *= np.float32(self._scale)
        self._reach = _greatest_length(rounded) * (1 + 4 * _ROUNDING)
        rounded -= rows
        # The second term covers that the lines before were computed in float32.
        self._error = _greatest_length(rounded) + 4 * _ROUNDING * self._reach

    def multiply(
        self, probes: Probes, dead: NDArray[np.intp], products: Products
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fill in the products with all rows; those at the positions ``dead`` become the lowest number.

        Returns:
            Scales and errors, (m,) each: a true product is what was filled in times the scale, ± the error.
        """
        numkong.dots_packed(probes.values, self._packed, out=products.tensor)
        if dead.size:
            products.values[:, dead] = _DEAD
        errors = self._reach * probes.errors + self._error * probes.lengths + _UNIT_ERROR
        return self._scale * probes.scales, errors


class Shortlist:
    """Positions of the rows that can be among the k with the greatest scores. Safe to use from several threads."""

    def __init__(self, probes: int, k: int) -> None:
        """Empty lists of that many probes."""
        self._k = k
        self._lock = threading.Lock()
        self._bounds = np.full(probes, -np.inf)  # of k rows the scores are known to be at least this
        self._lowers: list[NDArray[np.float64]] = [np.empty(0)] * probes
        self._found: list[list[tuple[NDArray[np.intp], NDArray[np.float64]]]] = [[] for _ in range(probes)]

    def add(self, start: int, values: NDArray[Any], scales: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
        """Take in the rows from position ``start`` on.

        Args:
            start: position of the first row.
            values: (m, n) of any real type; a score is its value times the scale, ± the error.
            scales, errors: (m,).
        """
        least = (self._bounds - errors) / scales
        greatest = values.max(axis=1)
        for probe in np.flatnonzero(greatest >= least):
            row, scale, error = values[probe], float(scales[probe]), float(errors[probe])
            if self._k == 1:
                kth = greatest[probe]
            else:
                kth = np.partition(row, -self._k)[-self._k] if self._k < len(row) else row.min()
            positions = np.flatnonzero(row >= max(least[probe], float(kth) - 2 * error / scale))
            scores = row[positions] * scale
            with self._lock:
                self._found[probe].append((start + positions, scores + error))
                lowers = np.concatenate([self._lowers[probe], scores - error])
                if len(lowers) >= self._k:
                    lowers = np.partition(lowers, -self._k)[-self._k :]
                    self._bounds[probe] = lowers[0]
                self._lowers[probe] = lowers

    def positions(self, probe: int) -> NDArray[np.intp]:
        """The shortlist of a probe; fewer than k rows alive may let dead ones through."""
        found = self._found[probe]
        uppers = np.concatenate([upper for _, upper in found])
        positions = np.concatenate([positions for positions, _ in found])
        kept: NDArray[np.intp] = positions[uppers >= self._bounds[probe]]
        return kept


def _greatest_length(rows: NDArray[np.float32]) -> float:
    # The factor covers the rounding of sums of squares in float32 (Higham, section 3.1).
    dimensions: int = rows.shape[1]
    return math.sqrt(np.einsum("ij,ij->i", rows, rows).max()) * (1 + dimensions * _ROUNDING)
