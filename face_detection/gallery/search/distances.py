"""Distances between embeddings; smaller is nearer.

With â = a / ‖a‖, the two metrics that compare directions follow from the length of â − b̂: the tenfold unit
Euclidean is ten times it, and the cosine distance is half its square, since ‖â − b̂‖² = 2 − 2 â·b̂. Subtracting
first keeps small distances accurate, where 1 − â·b̂ would cancel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.models import Metric

MAX_LENGTH = 1e18
"""Embeddings are shorter than this, so that sums of products stay within float32."""

_CHUNK = 4096


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean lengths of (…, dimensions) vectors, computed in float64; NaN or infinite where a value is."""
    squares: NDArray[np.float64] = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def compares_directions(metric: Metric) -> bool:
    """Whether a metric ignores the length of embeddings."""
    return metric is not Metric.EUCLIDEAN


def prepare(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Embeddings as ``distances`` takes them: at unit length where the metric compares directions.

    Args:
        vectors: (n, dimensions) float32, shorter than ``MAX_LENGTH``. A zero vector stays zero.
        metric: how they will be compared.

    Returns:
        (n, dimensions) float32, C-contiguous.
    """
    if not compares_directions(metric):
        return np.ascontiguousarray(vectors, np.float32)
    divisors = lengths(vectors)[:, np.newaxis]
    divisors[divisors == 0.0] = 1.0
    return (vectors / divisors).astype(np.float32)


def distances(rows: NDArray[np.float32], probe: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Distances between prepared embeddings, exact up to the rounding of float32 inputs.

    Args:
        rows: (n, dimensions) float32, prepared for the metric.
        probe: (dimensions,) float32, prepared for the metric.
        metric: how they are compared.

    Returns:
        (n,) float64: in [0, 20] for tenfold-unit-euclidean, [0, 2] for cosine, at least 0 for euclidean.
    """
    wide = probe.astype(np.float64)
    squares = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):  # bounds the float64 copy
        difference = rows[start : start + _CHUNK] - wide
        squares[start : start + _CHUNK] = np.einsum("ij,ij->i", difference, difference)
    match metric:
        case Metric.TENFOLD_UNIT_EUCLIDEAN:
            return 10.0 * np.sqrt(squares)
        case Metric.COSINE:
            return 0.5 * squares
        case Metric.EUCLIDEAN:
            return np.sqrt(squares)
