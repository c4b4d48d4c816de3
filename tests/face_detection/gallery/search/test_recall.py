from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from deploy.servers.waiting import wait_until
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.search.recall import MOST_ANSWERS, RecallCheck
from face_detection.gallery.search.searcher import Nearest, Neighbour
from face_detection.gallery.sql.store import Store
from shared.models import Metric
from tests.galleries import open_store
from tests.gallery_samples import OTHER_SPACE, SPACE, sample, samples, vectors

METRIC = Metric.TENFOLD_UNIT_EUCLIDEAN


@pytest.fixture
def store() -> Iterator[Store]:
    store = open_store(":memory:")
    store.upsert("t", samples(map(str, range(100))))
    yield store
    store.close()


@pytest.fixture
def outcomes() -> list[bool]:
    return []


@pytest.fixture
def check(store: Store, outcomes: list[bool]) -> Iterator[RecallCheck]:
    check = RecallCheck(store, SPACE, METRIC, outcomes.append)
    yield check
    check.close()


def test_right_and_wrong_answers_are_told_apart(store: Store, check: RecallCheck, outcomes: list[bool]) -> None:
    probes = vectors(4, seed=7)
    found = MemoryIndex(store, SPACE, METRIC).nearest("t", probes, 2)
    missed = Nearest([found[0], found[1][1:], [], found[3]], exact=False)
    check.note("t", probes, missed, store.last_change())
    wait_until(lambda: len(outcomes) >= 4)
    assert outcomes == [True, False, False, True]


def test_only_samples_that_the_search_could_see_count(store: Store, check: RecallCheck, outcomes: list[bool]) -> None:
    probe = vectors(1, seed=8)
    found = MemoryIndex(store, SPACE, METRIC).nearest("t", probe)
    last = store.last_change()
    store.upsert("t", [sample("later", probe[0])])
    store.upsert("u", [sample("another tenant's", probe[0])])
    store.upsert("t", [sample("another space's", probe[0], space=OTHER_SPACE)])
    check.note("t", probe, Nearest(found, exact=False), last)
    wait_until(lambda: len(outcomes) >= 1)
    assert outcomes == [True]


def test_answers_beyond_the_room_are_not_kept(store: Store, check: RecallCheck, outcomes: list[bool]) -> None:
    """Nor are zero probes, whose nearest sample is nobody's."""
    probes = np.concatenate([np.zeros((1, 8), np.float32), vectors(5 * MOST_ANSWERS, seed=9)])
    check.note("t", probes, Nearest([[Neighbour(1, 0.0)]] * len(probes), exact=False), store.last_change())
    wait_until(lambda: len(outcomes) >= MOST_ANSWERS)
    check.close()
    assert outcomes == [True] * MOST_ANSWERS


def test_closing_before_anything_was_noted(check: RecallCheck) -> None:
    check.close()
