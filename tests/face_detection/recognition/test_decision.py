from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_detection.gallery.people import Person, Sample
from face_detection.recognition.decision import Candidate, alike, compare, decide, trust
from shared.calibration import Curve, FalseMatchRate, Point
from shared.models import Metric
from tests.gallery_samples import vectors

VECTOR = vectors(1)[0]
CURVE = Curve(20, 3000, 30, (Point(1.0, 0.001, 0.5), Point(2.0, 0.01, 0.9), Point(3.0, 0.1, 1.0), Point(9.0, 1.0, 1.0)))


def candidates(*near: tuple[str, float]) -> list[Candidate]:
    return [
        Candidate(Sample(key, key, 1, 1, "s", Person(id, id, None, None, 1, "", ""), VECTOR), distance)
        for key, (id, distance) in enumerate(near)
    ]


def winner(rule: str, *near: tuple[str, float], threshold: float = 10.0) -> tuple[str, float] | None:
    won = decide(candidates(*near), threshold, rule)  # type: ignore[arg-type]
    return (won.sample.person.id, won.distance) if won else None


@pytest.mark.parametrize("rule", ["nearest", "vote"])
def test_nobody_is_named_at_or_above_the_threshold(rule: str) -> None:
    assert winner(rule) is None
    assert winner(rule, ("a", 10.0), ("a", 10.1)) is None
    assert winner(rule, ("a", 9.9)) == ("a", 9.9)
    assert winner(rule, ("a", 0.0), threshold=0.0) is None


def test_the_nearest_sample_decides() -> None:
    assert winner("nearest", ("a", 4.0), ("b", 4.1), ("b", 4.1)) == ("a", 4.0)


def test_votes_are_weighted_by_distance() -> None:
    assert winner("vote", ("a", 4.0), ("b", 4.1), ("b", 4.1)) == ("b", 4.1)
    assert winner("vote", ("a", 1.0), ("b", 8.0), ("b", 8.0)) == ("a", 1.0)
    assert winner("vote", ("a", 4.0), ("b", 10.0), ("b", 10.0), ("b", 10.0)) == ("a", 4.0)


def test_between_equal_votes_the_nearest_sample_decides() -> None:
    assert winner("vote", ("a", 4.0), ("b", 4.0)) == ("a", 4.0)
    assert winner("vote", ("b", 2.5), ("a", 5.0), ("a", 7.5)) == ("b", 2.5)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=8).map(
        lambda near: sorted(near, key=lambda n: n[1])
    ),
    st.floats(0, 20),
)
def test_a_vote_names_somebody_exactly_when_the_nearest_rule_does(
    near: list[tuple[str, float]], threshold: float
) -> None:
    voted = winner("vote", *near, threshold=threshold)
    assert (voted is None) == (winner("nearest", *near, threshold=threshold) is None)
    if voted:
        assert voted[1] == min(distance for id, distance in near if id == voted[0]) < threshold


@given(st.floats(0, 1e300), st.floats(0, 1e3))
def test_trust_is_a_percentage_that_falls_with_the_distance(distance: float, threshold: float) -> None:
    assert 0 <= trust(distance, threshold) <= 100
    assert trust(distance, threshold) <= trust(distance / 2, threshold)


def test_trust_is_50_at_the_threshold() -> None:
    assert trust(9.0, 9.0) == 50
    assert trust(0.0, 9.0) > 99
    assert trust(18.0, 9.0) < 1
    assert trust(math.inf, 9.0) == pytest.approx(0)


def test_the_nearest_of_the_others_counts() -> None:
    embeddings = np.array([[3, 4], [-3, -4], [4, 3], [6, 8.5]], np.float32)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    nearest = 10 * np.linalg.norm(unit[1:] - unit[0], axis=1).min()
    found = compare(embeddings, Metric.TENFOLD_UNIT_EUCLIDEAN, 9.0, None, [], [])
    assert found.same and found.distance == pytest.approx(nearest, rel=1e-5) and found.threshold == 9.0
    assert found.trust == trust(found.distance, 9.0)


def test_a_distance_that_is_the_threshold_is_too_far() -> None:
    embeddings = np.array([[0, 0], [0, 2]], np.float32)
    assert not compare(embeddings, Metric.EUCLIDEAN, 2.0, None, [], []).same
    assert compare(embeddings, Metric.EUCLIDEAN, 2.0000001, None, [], []).same


def test_a_comparison_says_how_often_strangers_come_so_near() -> None:
    embeddings = np.array([[0, 0], [0, 2], [0, 3]], np.float32)
    found = compare(embeddings, Metric.EUCLIDEAN, FalseMatchRate(0.19), CURVE, [], [])
    assert found.threshold == pytest.approx(3.0) and found.threshold_rate == pytest.approx(0.19)  # two of 0.1 each
    assert found.same and found.false_match_rate == pytest.approx(1 - 0.99**2)
    plain = compare(embeddings, Metric.EUCLIDEAN, 2.5, None, [], [])
    assert (plain.threshold, plain.threshold_rate, plain.false_match_rate) == (2.5, None, None)


def test_spoilt_faces_must_be_nearer_and_the_answer_says_why() -> None:
    embeddings = np.array([[0, 0], [0, 2]], np.float32)
    near = compare(embeddings, Metric.EUCLIDEAN, 2.5, None, [], [], tolerance=0.9)
    assert near.same and near.reason is None and near.threshold == 2.25
    spoilt = compare(embeddings, Metric.EUCLIDEAN, 2.2, None, [], [], tolerance=0.9)
    assert (spoilt.same, spoilt.reason, spoilt.trust) == (False, "low_quality", 0)
    far = compare(embeddings, Metric.EUCLIDEAN, 2.0, None, [], [], tolerance=0.9)
    assert (far.same, far.reason) == (False, None)


def test_distances_that_a_saved_picture_changes_into_one_another_are_alike() -> None:
    for metric in (Metric.TENFOLD_UNIT_EUCLIDEAN, Metric.EUCLIDEAN):
        assert alike(5.0, 5.4, metric) and alike(5.0, 3.0, metric) and alike(0.0, 0.0, metric)
        assert not alike(5.0, 5.6, metric) and not alike(0.0, 0.1, metric)
    assert alike(0.5, 0.6, Metric.COSINE) and not alike(0.5, 0.61, Metric.COSINE)  # the square of what lengths may
