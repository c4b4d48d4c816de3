"""Which stored photos contradict others, on vectors whose distances are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from face_detection.gallery.people import Person, Sample
from face_detection.recognition.conflicts import FAR, Contradicted, conflicts
from shared.models import Metric

THRESHOLD = 9.0


def sample(number: int, id: str, *degrees: float) -> Sample:
    """In the direction of so many degrees: a chord of 54° is the threshold."""
    vector = np.array([[math.cos(math.radians(one)), math.sin(math.radians(one))] for one in degrees], np.float32)
    person = Person(id, id.title(), None, None, 1, "", "")
    return Sample(number, number, number, number, "facenet/1/test", person, vector.ravel() * 3)


def found(*samples: Sample) -> list[tuple[int, int | None, bool]]:
    return [
        (one.sample.number, photo_of(one), one.conflict.kind == "nearer_to_other")
        for one in conflicts(samples, Metric.TENFOLD_UNIT_EUCLIDEAN, THRESHOLD)
    ]


def photo_of(one: Contradicted) -> int | None:
    assert one.conflict.near is not None
    return one.conflict.near.photo


def distance_of(one: Contradicted) -> float:
    assert one.conflict.near is not None
    return one.conflict.near.distance


def test_people_who_are_apart_are_in_order() -> None:
    assert found() == found(sample(1, "ann", 0)) == []
    assert found(sample(1, "ann", 0), sample(2, "ann", 50), sample(3, "joe", 120), sample(4, "joe", 180)) == []


def test_a_photo_of_somebody_else_is_found() -> None:
    """And not those of the others, whose own are nearer."""
    ann = [sample(1, "ann", 0), sample(2, "ann", 10), sample(3, "ann", 150)]
    joe = [sample(4, "joe", 140), sample(5, "joe", 144)]
    (one,) = conflicts([*ann, *joe], Metric.TENFOLD_UNIT_EUCLIDEAN, THRESHOLD)
    assert (one.sample.number, photo_of(one), one.conflict.kind) == (3, 5, "nearer_to_other")
    assert distance_of(one) == pytest.approx(20 * math.sin(math.radians(3)), rel=1e-4)


def test_somebody_who_is_enrolled_twice_is_found_with_both_ids() -> None:
    assert found(sample(1, "ann", 0), sample(2, "anna", 20), sample(3, "joe", 200)) == [(1, 2, True), (2, 1, True)]


def test_a_photo_far_from_all_others_of_its_person_is_found() -> None:
    far = 2 * math.degrees(math.asin(FAR * THRESHOLD / 20))
    assert found(sample(1, "ann", 0), sample(2, "ann", 5), sample(3, "ann", far - 1)) == []
    assert found(sample(1, "ann", 0), sample(2, "ann", 5), sample(3, "ann", far + 6)) == [(3, 2, False)]
    assert found(sample(1, "ann", 0), sample(2, "ann", far + 1)) == [(1, 2, False), (2, 1, False)]


def test_many_are_compared_with_all() -> None:
    """As whoever compares each pair by itself finds."""
    degrees = np.random.default_rng(5).uniform(0, 360, (600, 3))
    people = [sample(number, f"{number % 290}", *three) for number, three in enumerate(degrees)]
    units = np.stack([one.vector / np.linalg.norm(one.vector) for one in people]).astype(np.float64)
    table = 10 * np.linalg.norm(units[:, np.newaxis] - units, axis=2)
    expected = []
    for number in range(600):
        own = min((table[number, one], one) for one in range(600) if one % 290 == number % 290 and one != number)
        other = min((table[number, one], one) for one in range(600) if one % 290 != number % 290)
        if other[0] < THRESHOLD and other[0] < own[0]:
            expected.append((number, other[1], True))
        elif own[0] >= FAR * THRESHOLD:
            expected.append((number, own[1], False))
    assert found(*people) == expected and len(expected) > 100


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_is_measured(metric: Metric) -> None:
    ann, joe = sample(1, "ann", 0), sample(2, "joe", 10)
    (one, _) = conflicts([ann, joe], metric, 100.0)
    chord = 2 * math.sin(math.radians(5))
    expected = {Metric.TENFOLD_UNIT_EUCLIDEAN: 10 * chord, Metric.COSINE: chord**2 / 2, Metric.EUCLIDEAN: 3 * chord}
    assert distance_of(one) == pytest.approx(expected[metric], rel=1e-3)
