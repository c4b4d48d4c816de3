"""What contradicts photos, before they are stored and afterwards, on vectors whose angles are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from face_detection.extraction.client import ServedModel
from face_detection.gallery import Gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample, Sample
from face_detection.gallery.searchers import searchers
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from face_detection.recognition.conflicts import FAR, conflicts
from face_detection.recognition.examination import Examiner
from face_detection.recognition.identification import Identifier
from shared.models import Metric, find_card
from shared.settings import FrontSettings

CARD = find_card("facenet")
MODEL = ServedModel(CARD, "1", 32, "onnx", "cpu")
THRESHOLD = 9.0


def photo(id: str, degrees: float, space: str = MODEL.space) -> NewSample:
    """In the direction of so many degrees: a chord of 54° is the threshold."""
    vector = np.zeros(CARD.dimensions, np.float32)
    vector[:2] = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return NewSample(id, id.title(), None, space, vector)


@pytest.fixture
def examiner(gallery: Gallery) -> Iterator[Examiner]:
    settings, metrics = FrontSettings(database=":memory:"), Metrics()
    journal = Journal(gallery.events, gallery.answers, gallery.directory, None, metrics)
    identifier = Identifier(gallery.store, gallery.directory, journal, searchers(settings, gallery), settings, metrics)
    yield Examiner(gallery.store, identifier)
    identifier.close()


def nothing(sample: Sample) -> bool:
    return False


Told = tuple[str, str, int | None] | None


def told(examiner: Examiner, photos: list[NewSample], replaced: Callable[[Sample], bool] = nothing) -> list[Told]:
    """Kind, and whose and which photo is near, of each."""
    found = examiner.of_new(DEFAULT_TENANT, MODEL, photos, replaced)
    assert all(one is None or one.near is not None and one.threshold == THRESHOLD for one in found)
    return [(one.kind, one.near.id, one.near.photo) if one and one.near else None for one in found]


def test_a_new_photo_is_compared_with_its_own_and_with_others(gallery: Gallery, examiner: Examiner) -> None:
    assert told(examiner, [photo("ann", 0)]) == [None]
    gallery.store.add(DEFAULT_TENANT, [photo("ann", 0), photo("ann", 20), photo("joe", 120)])
    assert told(examiner, [photo("ann", 10)]) == told(examiner, [photo("new", 200)]) == [None]
    assert told(examiner, [photo("ann", 110)]) == [("nearer_to_other", "joe", 3)]
    assert told(examiner, [photo("new", 15)]) == [("nearer_to_other", "ann", 2)]
    assert told(examiner, [photo("joe", 260)]) == [("unlike_own", "joe", 3)]
    assert told(examiner, [photo("joe", 68)]) == [("nearer_to_other", "ann", 2)]
    # Somebody else is a match, but an own photo is nearer.
    assert told(examiner, [photo("joe", 71)]) == [None]


def test_photos_of_one_request_are_compared_with_each_other(examiner: Examiner) -> None:
    assert told(examiner, [photo("ann", 0), photo("joe", 10), photo("eve", 180)]) == [
        ("nearer_to_other", "joe", None),
        ("nearer_to_other", "ann", None),
        None,
    ]
    assert told(examiner, [photo("ann", 0), photo("ann", 10), photo("ann", 120)]) == [
        None,
        None,
        ("unlike_own", "ann", None),
    ]


def test_what_is_replaced_does_not_count(gallery: Gallery, examiner: Examiner) -> None:
    gallery.store.add(DEFAULT_TENANT, [photo("ann", 0), photo("joe", 180)])
    swapped = [photo("ann", 180), photo("joe", 0)]
    assert told(examiner, swapped) == [("nearer_to_other", "joe", 2), ("nearer_to_other", "ann", 1)]
    assert told(examiner, swapped, lambda sample: sample.person.id in {"ann", "joe"}) == [None, None]
    assert told(examiner, [photo("ann", 100)], lambda sample: sample.number == 1) == [None]


def test_behind_many_photos_that_do_not_count_another_is_found(gallery: Gallery, examiner: Examiner) -> None:
    gallery.store.add(DEFAULT_TENANT, [photo("ann", at / 100) for at in range(300)] + [photo("joe", 30)])
    new = [photo("ann", -1)]
    assert told(examiner, new) == [None]
    assert told(examiner, new, lambda sample: sample.person.id == "ann") == [("nearer_to_other", "joe", 301)]


def test_another_tenant_and_another_space_do_not_count(gallery: Gallery, examiner: Examiner) -> None:
    gallery.directory.create_tenant("77", "Theirs", gallery.directory.tenant(DEFAULT_TENANT).settings)
    gallery.store.add("77", [photo("joe", 0)])
    gallery.store.add(DEFAULT_TENANT, [photo("eve", 0, "sface/1/other"), photo("ann", 180, "sface/1/other")])
    assert told(examiner, [photo("ann", 0)]) == [None]
    assert examiner.stored(DEFAULT_TENANT, MODEL, -1, 10).samples == 0


def test_what_is_stored_is_judged_page_by_page_as_all_together(gallery: Gallery, examiner: Examiner) -> None:
    degrees = np.random.default_rng(3).uniform(0, 360, 150)
    gallery.store.add(DEFAULT_TENANT, [photo(f"{number % 40}", at) for number, at in enumerate(degrees)])
    samples = gallery.store.after_number(DEFAULT_TENANT, -1, 1000)
    assert len(samples) == 150
    expected = [
        (one.sample.number, one.conflict.kind, one.conflict.near.photo)
        for one in conflicts(samples, Metric.TENFOLD_UNIT_EUCLIDEAN, THRESHOLD)
        if one.conflict.near
    ]
    found, examined, after = [], 0, -1
    while True:
        page = examiner.stored(DEFAULT_TENANT, MODEL, after, 40)
        found += [
            (one.sample.number, one.conflict.kind, one.conflict.near.photo)
            for one in page.contradicted
            if one.conflict.near
        ]
        examined += page.samples
        if page.next is None:
            break
        after = page.next
    assert examined == 150 and found == expected and len(expected) > 50
    assert FAR > 1
