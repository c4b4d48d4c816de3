from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.calibration import (
    Curve,
    FalseMatchRate,
    Point,
    limit_of,
    measure,
    named_threshold,
    of_any,
    of_each,
    with_other_name,
)
from shared.errors import InvalidRequest, TooFewPhotos
from shared.models import CATALOGUE, Metric

POINTS = (Point(1.0, 1e-4, 0.6), Point(2.0, 1e-2, 0.9), Point(5.0, 1.0, 1.0))
CURVE = Curve(20, 3000, 30, POINTS)


def photos(people: int, each: int, seed: int = 0, spread: float = 0.6) -> tuple[NDArray[np.float64], list[str]]:
    """Distances between made-up embeddings of some people, whose own lie near one another; and who is on which."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(people, 64))
    vectors = np.repeat(middles, each, axis=0) + spread * random.normal(size=(people * each, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    return table, [f"person {number // each}" for number in range(people * each)]


def test_between_its_points_a_curve_is_a_line_in_the_logarithm_of_the_rate() -> None:
    assert CURVE.distance(1e-3) == pytest.approx(1.5) and CURVE.false_match_rate(1.5) == pytest.approx(1e-3)
    assert CURVE.distance(0.1) == pytest.approx(3.5) and CURVE.false_match_rate(3.5) == pytest.approx(0.1)
    assert CURVE.true_accept_rate(1.5) == pytest.approx(0.75)


def test_beyond_its_ends_a_curve_promises_nothing() -> None:
    assert CURVE.false_match_rate(0.0) == CURVE.least_rate == 1e-4
    assert CURVE.false_match_rate(99.0) == CURVE.true_accept_rate(99.0) == 1.0
    assert CURVE.distance(1e-5) == pytest.approx(0.5)  # stricter, as the first line goes on
    assert CURVE.distance(1e-9) == 0.0


@given(st.floats(1e-4, 1.0))
def test_distance_and_rate_are_each_others_inverse(rate: float) -> None:
    assert CURVE.false_match_rate(CURVE.distance(rate)) == pytest.approx(rate)


@given(st.floats(1e-9, 0.999), st.integers(1, 10**7))
def test_the_rates_of_each_and_of_any_are_each_others_inverse(rate: float, comparisons: int) -> None:
    assert of_any(of_each(rate, comparisons), comparisons) == pytest.approx(rate)
    assert of_each(rate, comparisons) <= rate * (1 + 1e-9) <= of_any(rate, comparisons) * (1 + 2e-9) <= 1 + 2e-9


@pytest.mark.parametrize(
    "points",
    [
        POINTS[:1],
        tuple(Point(number + 1.0, (number + 1) / 200, 0.5) for number in range(101)),
        (POINTS[1], POINTS[0]),
        (Point(1.0, 0.1, 0.5), Point(2.0, 0.1, 0.6)),
        (Point(1.0, 0.1, 0.6), Point(2.0, 0.2, 0.5)),
        (Point(-1.0, 0.1, 0.5), Point(2.0, 0.2, 0.6)),
        (Point(1.0, 0.0, 0.5), Point(2.0, 0.2, 0.6)),
        (Point(1.0, 0.1, 0.5), Point(2.0, 1.1, 0.6)),
        (Point(1.0, 0.1, 0.5), Point(2.0, 0.2, 1.1)),
        (Point(1.0, 0.1, math.nan), Point(2.0, 0.2, 0.6)),
        (Point(1.0, 0.1, 0.5), Point(math.inf, 0.2, 0.6)),
    ],
)
def test_what_is_no_curve_is_refused(points: tuple[Point, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Curve(20, 3000, 30, points)


def test_a_curve_comes_back_from_json() -> None:
    assert Curve.of(json.loads(json.dumps(asdict(CURVE)))) == CURVE


def test_a_measured_curve_keeps_its_word_on_strangers() -> None:
    """Half of the people give the curve, the other half are strangers to it and to one another."""
    kept = []
    for seed in range(12):
        table, who = photos(120, 3, seed)
        half = 60 * 3
        curve = measure(table[:half, :half], who[:half])
        others = np.array(who[half:])
        rest = table[half:, half:][np.triu(others[:, None] != others[None], 1)]
        kept.append([(rest < curve.distance(rate)).mean() <= rate for rate in (1e-1, 1e-2, 1e-3)])
    assert np.mean(kept, axis=0).min() >= 0.75  # of 100 curves 95 would, if they were not so few


def test_a_measured_curve_is_not_far_from_what_was_counted() -> None:
    table, who = photos(60, 4)
    curve = measure(table, who)
    people = np.array(who)
    impostor = table[np.triu(people[:, None] != people[None], 1)]
    genuine = table[np.triu(people[:, None] == people[None], 1)]
    assert (curve.people, curve.impostor_pairs, curve.genuine_pairs) == (60, len(impostor), len(genuine))
    for distance in np.quantile(impostor, [0.02, 0.1, 0.5]):
        counted = (impostor < distance).mean()
        assert counted <= curve.false_match_rate(distance) <= 2.5 * counted
        assert curve.true_accept_rate(distance) == pytest.approx((genuine < distance).mean(), abs=0.02)


def test_a_measured_curve_ends_a_decade_below_the_rule_of_three() -> None:
    table, who = photos(60, 4)
    curve = measure(table, who)
    assert curve.least_rate == pytest.approx(0.3 / curve.impostor_pairs, rel=1e-3)
    assert curve.points[-1].false_match_rate == 1.0


@pytest.mark.parametrize(("people", "each"), [(19, 9), (20, 3), (90, 1), (2, 40)])
def test_too_few_photos_are_refused_with_how_many_it_takes(people: int, each: int) -> None:
    with pytest.raises(TooFewPhotos, match=rf"{people * each} photos of {people} people .*20 people, 3000 pairs"):
        measure(*photos(people, each))


def test_the_example_of_the_refusal_is_enough() -> None:
    assert measure(*photos(20, 4)).people == 20


def test_photos_that_are_all_alike_are_refused() -> None:
    with pytest.raises(TooFewPhotos, match="alike"):
        measure(np.zeros((80, 80)), photos(20, 4)[1])


def test_a_single_pair_of_twins_does_not_break_a_curve() -> None:
    table, who = photos(60, 4)
    table[:4, 4:8] = table[4:8, :4] = 0.001
    assert measure(table, who).false_match_rate(0.01) >= measure(*photos(60, 4)).false_match_rate(0.01)


def test_the_measured_models_have_curves_for_all_their_thresholds() -> None:
    for name in ("facenet", "sface", "dlib", "sface+dlib", "facenet+sface", "best"):
        for metric, threshold in CATALOGUE[name].thresholds.items():
            curve = CATALOGUE[name].curve(metric)
            assert curve is not None and curve.impostor_pairs >= 19_000
            assert curve.false_match_rate(threshold.distance) < 0.01 < curve.false_match_rate(2 * threshold.distance)
    assert CATALOGUE["arcface"].curve(Metric.COSINE) is None


@pytest.mark.parametrize(
    ("model", "distance", "counted"), [("facenet", 9.0, 1.3e-4), ("sface", 0.585, 1e-4), ("dlib", 0.55, 1e-3)]
)
def test_the_curves_agree_with_what_many_more_photos_gave(model: str, distance: float, counted: float) -> None:
    """The rates of the cards' thresholds are from millions of pairs; a curve is from 19,340."""
    card = CATALOGUE[model]
    curve = card.curve(card.metric)
    assert curve is not None and counted / 1.5 <= curve.false_match_rate(distance) <= 2 * counted


def test_a_threshold_has_one_of_two_names() -> None:
    assert limit_of(None, None) is None
    assert limit_of(9.0, None) == 9.0 and limit_of(None, 1e-3) == FalseMatchRate(1e-3)
    wrong: list[tuple[Any, Any]] = [(9.0, 1e-3), (-1.0, None), (math.nan, None), (None, 0.0), (None, 1.0)]
    for given_values in wrong:
        with pytest.raises(InvalidRequest):
            limit_of(*given_values)
    assert named_threshold(None) == {}
    assert named_threshold(9.0) == {"min_distance": 9.0}
    assert named_threshold(FalseMatchRate(0.1)) == {"false_match_rate": 0.1}


def test_the_name_that_comes_last_takes_the_place_of_the_other() -> None:
    assert with_other_name({"rule": "vote"}) == {"rule": "vote"}
    assert with_other_name({"min_distance": None}) == {"min_distance": None}
    assert with_other_name({"min_distance": 8.0}) == {"min_distance": 8.0, "false_match_rate": None}
    assert with_other_name({"false_match_rate": 0.1}) == {"min_distance": None, "false_match_rate": 0.1}
