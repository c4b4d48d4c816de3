from __future__ import annotations

import numpy as np
import pytest

from face_detection.recognition.thresholds import Scale, check_limit
from shared.calibration import Curve, FalseMatchRate, Point
from shared.errors import NotCalibrated, UnsupportedRate

CURVE = Curve(20, 3000, 30, (Point(2.0, 1e-5, 0.5), Point(3.0, 1e-4, 0.9), Point(4.0, 1e-3, 1.0), Point(9.0, 1.0, 1.0)))


def test_a_distance_is_itself_whatever_the_gallery() -> None:
    assert Scale(None, 0).distance(9.0) == Scale(CURVE, 1000).distance(9.0) == 9.0


def test_a_rate_for_one_sample_is_that_of_the_curve() -> None:
    assert Scale(CURVE, 1).distance(FalseMatchRate(1e-4)) == pytest.approx(3.0)
    assert Scale(CURVE, 0).distance(FalseMatchRate(1e-4)) == pytest.approx(3.0)  # before anybody is enrolled


@pytest.mark.parametrize("samples", [1, 7, 60, 100])
@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.5])
def test_the_rate_of_naming_any_stranger_stays(samples: int, rate: float) -> None:
    scale = Scale(CURVE, samples)
    threshold = scale.distance(FalseMatchRate(rate))
    assert scale.rate(threshold) == pytest.approx(rate)
    # And it is that: strangers whose comparisons have the curve's rate each, counted.
    each = CURVE.false_match_rate(threshold)
    drawn = np.random.default_rng(1).random((200_000, samples)) < each
    assert drawn.any(axis=1).mean() == pytest.approx(rate, rel=0.25)


def test_a_gallery_beyond_the_curve_is_told_what_is_known_and_made_stricter_all_the_same() -> None:
    scale = Scale(CURVE, 1000)
    threshold = scale.distance(FalseMatchRate(1e-3))  # 1e-6 of each comparison, where the curve ends at 1e-5
    assert threshold == pytest.approx(1.0, rel=1e-3)  # a decade below, as the decade before
    assert scale.rate(threshold) == pytest.approx(1e-2, rel=1e-2)  # of 1000 times the least that is known
    assert Scale(CURVE, 10**9).distance(FalseMatchRate(1e-3)) == 0.0


def test_a_rate_that_nothing_is_known_of_is_refused() -> None:
    check_limit(None, None)
    check_limit(9.0, None)
    check_limit(FalseMatchRate(1e-5), CURVE)
    with pytest.raises(UnsupportedRate, match="at least 1e-05"):
        check_limit(FalseMatchRate(9e-6), CURVE)


def test_without_a_curve_a_rate_is_no_threshold() -> None:
    with pytest.raises(NotCalibrated, match="give min_distance"):
        check_limit(FalseMatchRate(0.1), None)
    with pytest.raises(NotCalibrated):
        Scale(None, 5).distance(FalseMatchRate(0.1))
    assert Scale(None, 5).rate(3.0) is None
