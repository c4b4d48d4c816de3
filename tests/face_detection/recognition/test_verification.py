from __future__ import annotations

import numpy as np
import pytest

from face_detection.recognition.decision import trust
from face_detection.recognition.verification import compare
from shared.models import Metric


def test_the_nearest_of_the_others_counts() -> None:
    embeddings = np.array([[3, 4], [-3, -4], [4, 3], [6, 8.5]], np.float32)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    nearest = 10 * np.linalg.norm(unit[1:] - unit[0], axis=1).min()
    found = compare(embeddings, Metric.TENFOLD_UNIT_EUCLIDEAN, 9.0, [])
    assert found.same and found.distance == pytest.approx(nearest, rel=1e-5) and found.threshold == 9.0
    assert found.trust == trust(found.distance, 9.0)


def test_a_distance_that_is_the_threshold_is_too_far() -> None:
    embeddings = np.array([[0, 0], [0, 2]], np.float32)
    assert not compare(embeddings, Metric.EUCLIDEAN, 2.0, []).same
    assert compare(embeddings, Metric.EUCLIDEAN, 2.0000001, []).same
