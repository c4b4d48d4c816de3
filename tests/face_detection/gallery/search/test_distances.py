from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_detection.gallery.search.distances import compares_directions, distances, lengths, prepare
from shared.models import Metric
from tests.gallery_samples import vectors


def textbook(a: np.ndarray, b: np.ndarray, metric: Metric) -> float:
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    unit_a, unit_b = a / np.sqrt(a @ a), b / np.sqrt(b @ b)
    match metric:
        case Metric.TENFOLD_UNIT_EUCLIDEAN:
            return float(10 * np.sqrt(((unit_a - unit_b) ** 2).sum()))
        case Metric.COSINE:
            return float(1 - unit_a @ unit_b)
        case Metric.EUCLIDEAN:
            return float(np.sqrt(((a - b) ** 2).sum()))


@pytest.mark.parametrize("metric", Metric)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-10, 1.0, 1e6]), nearness=st.sampled_from([0.0, 1e-2, 10.0]))
def test_distances_follow_their_formulas(metric: Metric, seed: int, scale: float, nearness: float) -> None:
    one, other = vectors(2, 128, seed)
    a = (scale * one).astype(np.float32)
    b = (scale * (one + nearness * other)).astype(np.float32)
    a_row, b_row = prepare(np.stack([a, b]), metric)
    assert a_row.dtype == np.float32
    (found,) = distances(b_row[np.newaxis], a_row, metric)
    expected = textbook(a, b, metric)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6 * (scale if metric is Metric.EUCLIDEAN else 1))


@pytest.mark.parametrize(
    ("metric", "same", "right_angle", "opposite"),
    [
        (Metric.TENFOLD_UNIT_EUCLIDEAN, 0, 10 * math.sqrt(2), 20),
        (Metric.COSINE, 0, 1, 2),
        (Metric.EUCLIDEAN, 2, math.sqrt(10), 4),
    ],
)
def test_known_angles(metric: Metric, same: float, right_angle: float, opposite: float) -> None:
    rows = prepare(np.array([[1, 0], [0, 1], [-1, 0]], np.float32), metric)
    probe = prepare(np.array([[3, 0]], np.float32), metric)[0]
    assert distances(rows, probe, metric).tolist() == pytest.approx([same, right_angle, opposite])


@pytest.mark.parametrize("metric", Metric)
def test_many_rows_are_measured_like_one(metric: Metric) -> None:
    rows = prepare(vectors(10_000, 4), metric)
    measured = distances(rows, rows[0], metric)
    assert measured.shape == (10_000,)
    assert measured[0] == 0.0
    for position in (1, 4095, 4096, 9999):
        assert measured[position] == distances(rows[position : position + 1], rows[0], metric)[0]
    assert distances(rows[:0], rows[0], metric).shape == (0,)


def test_zero_and_subnormal_vectors_stay_finite() -> None:
    rows = np.array([[0, 0], [1e-45, 0], [0, 1e17]], np.float32)
    assert prepare(rows, Metric.COSINE).tolist() == [[0, 0], [1, 0], [0, 1]]
    assert prepare(rows, Metric.EUCLIDEAN).tolist() == rows.tolist()
    assert lengths(rows).tolist() == pytest.approx([0, 1e-45, 1e17], rel=0.5)
    assert [compares_directions(metric) for metric in Metric] == [True, True, False]
