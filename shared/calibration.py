"""What a distance means: how often strangers come so near, and how often two photos of one person do.

A curve is measured on photos of people who are told apart. Its false match rates are not what was counted, but what a
stranger may rely on:

- Every pair of photos of different people is an impostor pair; the rate at a distance is the share of them that is
  nearer. A person takes part in many pairs, so these are far from independent. How much the logarithm of the rate may
  err follows from leaving out one person after the other (the jackknife; Efron and Stein, "The jackknife estimate of
  variance", 1981), and the curve has the upper end of the one-sided 95 % interval.
- Where fewer than ``ANCHOR`` of the pairs are, too few are left to count. From there on the rate falls exponentially
  with the distance, exp(−(anchor − distance) / β), where β is the mean of anchor − distance over the pairs below it
  (maximum likelihood for what exceeds a limit; Pickands, "Statistical inference using extreme order statistics", 1975).
  Where the logarithm of the true distribution is concave, as that of a normal one is, the true rate lies below this
  line, so what it errs towards are smaller distances.
- Nothing is said of rates below 0.3 / pairs. A distance below which no pair was found may still have the rate
  3 / pairs (the rule of three; Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983), and
  the line is followed for one decade further.

docs/models.md compares what this gives for the catalogue's models with what was counted on far more photos.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidRequest, TooFewPhotos

ANCHOR = 0.01
MOST_POINTS = 100

LEAST_PEOPLE = 20
LEAST_IMPOSTOR_PAIRS = 3000
"""30 of them lie below the anchor: enough for the slope of the line."""

LEAST_GENUINE_PAIRS = 30

_UPPER = 1.645
"""Of the normal distribution: 95 % are below so many standard deviations."""

_RULE_OF_THREE, _BEYOND = 3, 10
_STEPS = (1.0, 0.5, 0.2)
_CATALOGUE = Path(__file__).with_name("curves.json")


class Point(NamedTuple):
    """At a distance: the rates of strangers and of the same person that are nearer, each in [0, 1]."""

    distance: float
    false_match_rate: float
    true_accept_rate: float


@dataclass(frozen=True)
class Curve:
    """False match rate and true accept rate over the distance, of one embedding space under one metric.

    Attributes:
        people, impostor_pairs, genuine_pairs: what it was measured on.
        points: 2 to ``MOST_POINTS``, by ascending distance and false match rate.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    people: int
    impostor_pairs: int
    genuine_pairs: int
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.points) <= MOST_POINTS:
            raise InvalidRequest(f"A curve has 2 to {MOST_POINTS} points.")
        if min(self.people, self.impostor_pairs, self.genuine_pairs) < 0:
            raise InvalidRequest("A curve was measured on people and pairs, whose numbers are not negative.")
        if not all(math.isfinite(number) for point in self.points for number in point):
            raise InvalidRequest("The points of a curve are finite numbers.")
        if self.points[0].distance < 0 or not all(
            0 < point.false_match_rate <= 1 and 0 <= point.true_accept_rate <= 1 for point in self.points
        ):
            raise InvalidRequest("The distances of a curve are not negative, and its rates are from 0 to 1.")
        for one, other in zip(self.points, self.points[1:], strict=False):
            if not (
                one.distance < other.distance
                and one.false_match_rate < other.false_match_rate
                and one.true_accept_rate <= other.true_accept_rate
            ):
                raise InvalidRequest("The points of a curve ascend, in distance and in both rates.")

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Curve:
        """The curve with these attributes, whose points are triples, as JSON has them."""
        points = tuple(Point(*point) for point in members["points"])
        return cls(members["people"], members["impostor_pairs"], members["genuine_pairs"], points)

    @property
    def least_rate(self) -> float:
        """The least false match rate that the curve knows of."""
        return self.points[0].false_match_rate

    def distance(self, rate: float) -> float:
        """The distance with a false match rate in (0, 1].

        Below ``least_rate`` the line of the first two points is followed, not further than to 0: smaller than it need
        be, as long as that of the pairs was concave.
        """
        distances = [point.distance for point in self.points]
        return max(0.0, _line([math.log(point.false_match_rate) for point in self.points], distances, math.log(rate)))

    def false_match_rate(self, distance: float) -> float:
        """The share of strangers that are nearer than a distance, from ``least_rate`` to 1."""
        if distance <= self.points[0].distance:
            return self.least_rate
        logarithms = [math.log(point.false_match_rate) for point in self.points]
        return min(1.0, math.exp(_line([point.distance for point in self.points], logarithms, distance)))

    def true_accept_rate(self, distance: float) -> float:
        """The share of pairs of photos of one person that are nearer than a distance, from 0 to 1."""
        rates = [point.true_accept_rate for point in self.points]
        return min(1.0, max(0.0, _line([point.distance for point in self.points], rates, distance)))


@dataclass(frozen=True)
class FalseMatchRate:
    """A threshold by the rate at which strangers pass it, more than 0 and less than 1."""

    rate: float


Limit = float | FalseMatchRate
"""A threshold as requests, companies and settings name it: a distance below which faces match, or a rate."""


def limit_of(min_distance: float | None, false_match_rate: float | None) -> Limit | None:
    """The threshold that is named in one of two ways; None where none is.

    Raises:
        InvalidRequest: both are named, or one is not what it can be.
    """
    if min_distance is not None and false_match_rate is not None:
        raise InvalidRequest("min_distance and false_match_rate: one of them says what the other does.")
    if min_distance is not None and not (math.isfinite(min_distance) and min_distance >= 0):
        raise InvalidRequest("min_distance must be a number that is not negative.")
    if false_match_rate is not None and not 0 < false_match_rate < 1:
        raise InvalidRequest("false_match_rate must be more than 0 and less than 1.")
    return min_distance if false_match_rate is None else FalseMatchRate(false_match_rate)


def named_threshold(limit: Limit | None) -> dict[str, float]:
    """A threshold as the member of a request that names it; nothing for None."""
    if isinstance(limit, FalseMatchRate):
        return {"false_match_rate": limit.rate}
    return {} if limit is None else {"min_distance": limit}


def with_other_name(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of settings, with None for that name of the threshold which is replaced by the other."""
    names = ("min_distance", "false_match_rate")
    is_named = any(changes.get(name) is not None for name in names)
    return {name: None for name in names if is_named} | dict(changes)


def short_rate(rate: float | None) -> float | None:
    """A false match rate with as many digits as it is worth."""
    return None if rate is None else float(f"{rate:.3g}")


def of_any(rate: float, comparisons: int) -> float:
    """The rate at which any of so many independent comparisons is a false match, when each is at a rate in [0, 1].

    Where comparisons depend on one another, as those with two photos of one person do, it is less.
    """
    return 1.0 if rate >= 1 else -math.expm1(comparisons * math.log1p(-rate))


def of_each(rate: float, comparisons: int) -> float:
    """The rate of each of so many (at least 1) comparisons, with which ``of_any`` gives a rate in (0, 1)."""
    return -math.expm1(math.log1p(-rate) / comparisons)


def measure(table: NDArray[np.float64], people: Sequence[str]) -> Curve:
    """The curve of some photos.

    Args:
        table: (n, n) distances between the embeddings of all photos.
        people: who is on each of the n photos.

    Raises:
        TooFewPhotos: they would not tell much; says how many are needed.
    """
    names, who = np.unique(np.asarray(people), return_inverse=True)
    first, second = np.triu_indices(len(who), 1)
    apart = who[first] != who[second]
    genuine = np.sort(table[first[~apart], second[~apart]])
    first, second = first[apart], second[apart]
    impostor = table[first, second]
    _check_enough(len(names), len(who), len(impostor), len(genuine))

    def without_each(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of something over all impostor pairs without those of a person, for every person."""
        own = np.bincount(who[first], values, len(names)) + np.bincount(who[second], values, len(names))
        return np.asarray(values.sum() - own, np.float64)

    pairs_without = without_each(np.ones(len(impostor)))

    def upper(distance: float) -> float:
        """The upper end of the interval of the rate at a distance."""
        near = (impostor < distance).astype(np.float64)
        rates = np.log(np.maximum(without_each(near), 0.5) / pairs_without)  # one person may be in all of them
        deviation = math.sqrt((len(names) - 1) / len(names) * float(((rates - rates.mean()) ** 2).sum()))
        return min(1.0, float(near.mean()) * math.exp(_UPPER * deviation))

    ranked = np.sort(impostor)
    shares = [10.0**-decade * step for decade in range(2) for step in _STEPS] + [ANCHOR]
    counted = [float(ranked[round(share * len(ranked)) - 1]) for share in shares]
    anchor = counted[-1]
    if ranked[0] == anchor:
        raise TooFewPhotos("Photos of different people are all alike: each person needs photos of their own.")
    points = [(_above(distance), upper(_above(distance))) for distance in counted]
    scale = float((anchor - ranked[ranked < anchor]).mean())
    at_anchor = points[-1][1]
    least = _RULE_OF_THREE / _BEYOND / len(impostor)
    for rate in [10.0**-decade * step for decade in range(2, 9) for step in _STEPS] + [least]:
        if least <= rate < at_anchor:
            points.append((anchor - scale * math.log(at_anchor / rate), rate))
    return Curve(len(names), len(impostor), len(genuine), _ascending(points, genuine))


def catalogue_curve(model: str, metric: str) -> Curve | None:
    """The curve of a model of the catalogue, None where none was measured."""
    return _catalogue().get(model, {}).get(metric)


@cache
def _catalogue() -> Mapping[str, Mapping[str, Curve]]:
    """``curves.json``, which ``python -m benchmarks.accuracy --curves`` writes."""
    stored = json.loads(_CATALOGUE.read_text())
    return {model: {metric: Curve.of(curve) for metric, curve in own.items()} for model, own in stored.items()}


def _check_enough(people: int, photos: int, impostor: int, genuine: int) -> None:
    if people < LEAST_PEOPLE or impostor < LEAST_IMPOSTOR_PAIRS or genuine < LEAST_GENUINE_PAIRS:
        raise TooFewPhotos(
            f"{photos} photos of {people} people make {impostor} pairs of different people and {genuine} of one "
            f"person; it takes {LEAST_PEOPLE} people, {LEAST_IMPOSTOR_PAIRS} pairs of different people and "
            f"{LEAST_GENUINE_PAIRS} of one person, as {LEAST_PEOPLE} people with 4 photos each make them, or 80 people "
            "of whom some have several."
        )


def _above(distance: float) -> float:
    """A distance that is reached by being strictly less."""
    return float(np.nextafter(distance, np.inf))


def _ascending(points: Sequence[tuple[float, float]], genuine: NDArray[np.float64]) -> tuple[Point, ...]:
    """Points by ascending distance, without those that say less than the one before."""
    kept: list[Point] = []
    for distance, rate in sorted((float(f"{distance:.6g}"), float(f"{rate:.4g}")) for distance, rate in points):
        if distance < 0 or (kept and (distance <= kept[-1].distance or rate <= kept[-1].false_match_rate)):
            continue
        accepted = float(np.searchsorted(genuine, distance)) / len(genuine)
        kept.append(Point(distance, rate, round(accepted, 4)))
    return tuple(kept)


def _line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear through ascending xs; beyond the first its line goes on, beyond the last it stays."""
    if x >= xs[-1]:
        return ys[-1]
    right = max(1, bisect_right(xs, x))
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])
