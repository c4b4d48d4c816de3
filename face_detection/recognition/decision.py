"""Who it is: from the samples nearest to a face to one person, or nobody; and whether two faces are one person's.

Two rules. ``nearest`` takes the nearest sample. ``vote`` lets those of the k nearest samples that are below the
threshold vote for their person, each with the weight 1 − distance / threshold (Dudani, "The distance-weighted
k-nearest-neighbor rule", IEEE SMC 1976, with the threshold for the distance that counts nothing); between equals the
nearest sample decides. Neither ever names somebody whose nearest sample is not below the threshold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.people import Sample
from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.quality import Quality
from face_detection.recognition.thresholds import Scale
from shared.calibration import Curve, Limit
from shared.geometry import Face
from shared.models import Metric

Rule = Literal["nearest", "vote"]

Reason = Literal["low_quality", "not_live"]
"""Why nobody is named although somebody may be near: the face cannot carry a name, see ``quality.NAMING``, or none at
this distance, see ``Quality.tolerance``, or is that of a picture, see ``liveness.is_live``."""

STEEPNESS = 36.0
"""Of ``trust``: what maximum likelihood gave for LFW pairs, in units of the threshold (see docs/models.md)."""

LIKE = 0.1
"""Share by which distances may change when a picture is only cropped, made smaller or saved anew: in 95 of 100 cases no
more (see docs/models.md)."""


@dataclass(frozen=True)
class Candidate:
    """A sample near a face; ``distance`` is in the unit of the metric."""

    sample: Sample
    distance: float


def decide(candidates: Sequence[Candidate], threshold: float, rule: Rule) -> Candidate | None:
    """The nearest sample of the person that the rule chooses, or None for nobody.

    Args:
        candidates: the k nearest samples, by ascending distance; ``nearest`` looks at the first only.
        threshold: a distance counts when it is strictly less.
        rule: see above.
    """
    near = [candidate for candidate in candidates if candidate.distance < threshold]
    if not near or rule == "nearest":
        return near[0] if near else None
    votes: defaultdict[str, float] = defaultdict(float)
    for candidate in near:
        votes[candidate.sample.person.id] += 1 - candidate.distance / threshold
    most = max(votes.values())
    return next(candidate for candidate in near if votes[candidate.sample.person.id] == most)


def alike(distance: float, rival: float, metric: Metric) -> bool:
    """Whether somebody else is as near as the distances can tell, or nearer: no more than ``LIKE`` further away."""
    return rival <= distance * likeness(metric)


def likeness(metric: Metric) -> float:
    """How many times as far somebody else may be away who is as near as the distances can tell, see ``LIKE``."""
    return (1 + LIKE) ** (2 if metric is Metric.COSINE else 1)  # a cosine distance goes with the square of the length


def spoilt(distance: float | None, threshold: float, usual: float) -> Reason | None:
    """The reason why a face gets no name that a clear one would get: ``threshold`` is nearer than the ``usual`` one."""
    return "low_quality" if distance is not None and threshold <= distance < usual else None


def trust(distance: float, threshold: float) -> float:
    """How sure a match is, from 0 to 100: 50 at the threshold, more below.

    100 / (1 + exp(STEEPNESS · (distance / threshold − 1))): logistic, as is the probability that two photos show the
    same person when the distances of both kinds of pairs are distributed normally with one variance.
    """
    if threshold <= 0:
        return 0.0
    return 100 / (1 + math.exp(min(STEEPNESS * (distance / threshold - 1), 700)))


@dataclass(frozen=True)
class Verification:
    """Whether two pictures show the same person: ``distance`` < ``threshold``, unless a ``reason`` forbids to say so.

    ``trust`` is 0 to 100, and 0 with a reason. ``false_match_rate`` and ``threshold_rate`` say how often strangers come
    nearer than ``distance`` and ``threshold``; None where the model has no curve. ``faces`` are those of the
    pictures, ``qualities`` how well each can be recognised, and ``liveness`` their scores, if they were checked, see
    ``liveness.is_live``.
    """

    same: bool
    distance: float
    threshold: float
    trust: float
    false_match_rate: float | None
    threshold_rate: float | None
    faces: Sequence[Face]
    qualities: Sequence[Quality]
    reason: Reason | None = None
    liveness: Sequence[float] | None = None


def compare(
    embeddings: NDArray[np.float32],
    metric: Metric,
    limit: Limit,
    curve: Curve | None,
    faces: Sequence[Face],
    qualities: Sequence[Quality],
    reason: Reason | None = None,
    liveness: Sequence[float] | None = None,
    tolerance: float = 1.0,
) -> Verification:
    """The first embedding against the nearest of the others.

    Args:
        embeddings: (at least 2, dimensions) float32.
        metric: how they are compared.
        limit: below which a distance counts as the same person.
        curve: what distances mean; None where that was not measured.
        faces: where the faces are.
        qualities: how well each can be recognised.
        reason: why they must not be called the same person's, if there is one.
        liveness: scores of the liveness check, if there was one.
        tolerance: the least of the faces', see ``Quality.tolerance``.

    Raises:
        NotCalibrated: see ``Scale.distance``.
    """
    rows = prepare(embeddings, metric)
    distance = float(distances(rows[1:], rows[0], metric).min())
    scale = Scale(curve, len(rows) - 1)
    usual = scale.distance(limit)
    threshold = usual * tolerance
    reason = reason or spoilt(distance, threshold, usual)
    same, sure = (distance < threshold, trust(distance, threshold)) if reason is None else (False, 0.0)
    rates = scale.rate(distance), scale.rate(threshold)
    return Verification(same, distance, threshold, sure, *rates, faces, qualities, reason, liveness)
