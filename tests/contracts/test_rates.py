"""What every way of counting the requests of API keys does."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from face_detection.gallery import Gallery, is_postgres
from face_detection.gallery.directory import ApiKey, Right, StoredKey

KEYS = ("a" * 16, "b" * 16)

Pass = Callable[[float], None]


@pytest.fixture
def gallery(gallery: Gallery) -> Gallery:
    for id in KEYS:
        key = ApiKey(id, "default", "door", frozenset({Right.RECOGNISE}), datetime.now(UTC))
        gallery.directory.add_key(StoredKey(key, b"salt", b"hash"))
    return gallery


@pytest.fixture
def let_pass(database: str, monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Lets seconds pass for those who count, without waiting for them."""
    passed = [0.0]
    real = time.time

    def pass_in_process(seconds: float) -> None:
        passed[0] += seconds
        monkeypatch.setattr(time, "time", lambda: real() + passed[0])

    def pass_in_database(seconds: float) -> None:
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE recent_requests SET second = second - %s", (int(seconds),))

    return pass_in_database if is_postgres(database) else pass_in_process


def test_as_many_pass_as_are_allowed(gallery: Gallery) -> None:
    answers = [gallery.rates.hit(KEYS[0], 5) for _ in range(8)]
    assert answers[:5] == [None] * 5
    assert all(answer is not None and 50 < answer <= 61 for answer in answers[5:])
    assert gallery.rates.hit(KEYS[1], 1) is None  # keys do not count for each other


def test_a_place_is_free_again_after_a_minute(gallery: Gallery, let_pass: Pass) -> None:
    hit = gallery.rates.hit
    assert hit(KEYS[0], 3) is None
    let_pass(20)
    assert (hit(KEYS[0], 3), hit(KEYS[0], 3)) == (None, None)
    let_pass(30)
    wait = hit(KEYS[0], 3)
    assert wait is not None and 8 < wait <= 11
    let_pass(12)
    assert hit(KEYS[0], 3) is None  # instead of the first
    wait = hit(KEYS[0], 3)
    assert wait is not None and 16 < wait <= 19  # until the second and the third are a minute old
    let_pass(20)
    assert (hit(KEYS[0], 3), hit(KEYS[0], 3)) == (None, None)
    assert hit(KEYS[0], 3) is not None
    for seconds in (61, 100, 100_000):
        let_pass(seconds)
        assert [hit(KEYS[0], 3) is None for _ in range(4)] == [True, True, True, False]


def test_what_was_refused_does_not_count(gallery: Gallery, let_pass: Pass) -> None:
    hit = gallery.rates.hit
    assert hit(KEYS[0], 1) is None
    for _ in range(3):
        let_pass(15)
        assert hit(KEYS[0], 1) is not None
    let_pass(17)
    assert hit(KEYS[0], 1) is None


def test_whoever_waits_as_told_passes(gallery: Gallery, let_pass: Pass) -> None:
    hit = gallery.rates.hit
    for seconds in (0, 7, 3, 11):
        let_pass(seconds)
        assert hit(KEYS[0], 4) is None
    for _ in range(8):
        wait = hit(KEYS[0], 4)
        assert wait is not None
        let_pass(int(wait) + 1)
        assert hit(KEYS[0], 4) is None


def test_never_more_than_allowed_within_any_minute(gallery: Gallery, let_pass: Pass) -> None:
    skipped, passed, started = 0, [], time.monotonic()
    for step in range(400):
        before = skipped + time.monotonic() - started
        if gallery.rates.hit(KEYS[0], 6) is None:
            passed.append((before, skipped + time.monotonic() - started))
        if step % 3:
            seconds = step * 7919 % 9
            let_pass(seconds)
            skipped += seconds
    assert len(passed) > 6 * (skipped // 60) * 0.7
    for first, _ in passed:
        assert sum(first <= before and after < first + 60 for before, after in passed) <= 6


def test_threads_count_together(gallery: Gallery) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gallery.rates.hit(KEYS[0], 100), range(240)))
    assert answers.count(None) == 100


def test_a_company_with_counted_keys_can_be_deleted(gallery: Gallery) -> None:
    gallery.directory.create_tenant("1042", "Acme", gallery.directory.tenant("default").settings)
    key = ApiKey("c" * 16, "1042", "door", frozenset({Right.RECOGNISE}), datetime.now(UTC), 1)
    gallery.directory.add_key(StoredKey(key, b"salt", b"hash"))
    assert gallery.rates.hit(key.id, 1) is None
    gallery.directory.delete_tenant("1042")
    assert gallery.directory.find_key(key.id) is None
