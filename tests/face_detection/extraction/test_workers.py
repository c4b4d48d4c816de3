from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from face_detection.extraction.workers import ASK_AGAIN, LONGEST_REST, State, Worker, Workers

URLS = ("http://a:5000/", "http://b:5000", "http://c:5000")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> list[Mapping[str, int]]:
    """What was told of the numbers of workers."""
    return []


@pytest.fixture
def workers(clock: Clock, seen: list[Mapping[str, int]]) -> Workers:
    """Three workers that have answered with the space in use."""
    workers = Workers(URLS, seen.append, clock)
    workers.use("s")
    for worker in workers.all:
        workers.answered(worker, "s")
    return workers


def chosen(workers: Workers, space: str = "s") -> list[str]:
    """Whom one call tries, in order."""
    tried: list[Worker] = []
    while worker := workers.choose(space, tried):
        tried.append(worker)
    return [worker.url[7:8] for worker in tried]


def states(workers: Workers) -> list[State]:
    return [workers.state(worker) for worker in workers.all]


def test_calls_are_given_out_in_turn(workers: Workers) -> None:
    first = [workers.choose("s", ()) for _ in range(6)]
    assert first == [*workers.all, *workers.all]
    assert chosen(workers) == ["a", "b", "c"]


def test_who_has_the_fewest_calls_under_way_comes_first(workers: Workers) -> None:
    a, b, c = workers.all
    with workers.under_way(a), workers.under_way(a), workers.under_way(c):
        assert chosen(workers) == ["b", "c", "a"]
    with pytest.raises(RuntimeError), workers.under_way(b):
        raise RuntimeError
    assert [worker.calls for worker in workers.all] == [0, 0, 0]


def test_before_anybody_has_answered(clock: Clock) -> None:
    workers = Workers(URLS, clock=clock)
    assert workers.lost and workers.space is None
    assert states(workers) == [State.RESTING] * 3
    assert chosen(workers, "any") == ["a", "b", "c"]
    workers.answered(workers.all[0], "s")
    workers.use("s")
    assert not workers.lost
    assert chosen(workers) == ["a", "b", "c"]


def test_who_rests_comes_last_and_who_is_refused_not_at_all(workers: Workers, seen: list[Mapping[str, int]]) -> None:
    a, b, c = workers.all
    workers.failed(a, "gone")
    workers.answered(b, "other")
    assert chosen(workers) == ["c", "a"]
    assert chosen(workers, "other") == ["b"]
    assert seen[-1] == {"usable": 1, "resting": 1, "refused": 1}
    workers.forget(c)
    assert chosen(workers) == ["c", "a"] and workers.lost
    workers.answered(a, "s")
    assert chosen(workers) == ["a", "c"] and not workers.lost


def test_rests_grow_until_it_answers(workers: Workers, clock: Clock) -> None:
    a = workers.all[0]
    rests = []
    for _ in range(8):
        workers.failed(a, "gone")
        rests.append(a.rest)
        assert workers.due() == []
        clock.now += a.rest
        assert workers.due() == [a]
        assert workers.due() == []  # somebody is asking it
    assert rests == [1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    workers.answered(a, "s")
    assert workers.due() == [] and states(workers) == [State.USABLE] * 3
    workers.failed(a, "gone")
    assert a.rest == 1


def test_calls_that_fail_together_are_one_failure(workers: Workers, clock: Clock) -> None:
    a = workers.all[0]
    for _ in range(50):
        workers.failed(a, "gone")
    assert a.rest == 1
    clock.now += 1
    workers.failed(a, "gone")
    assert a.rest == 2


def test_who_is_not_ready_never_rests_for_long(workers: Workers, clock: Clock) -> None:
    a = workers.all[0]
    for _ in range(5):
        workers.unready(a)
        assert a.rest == 1
        clock.now += 1


def test_who_is_refused_is_asked_from_time_to_time(workers: Workers, clock: Clock) -> None:
    a = workers.all[0]
    workers.answered(a, "other")
    for _ in range(3):
        assert workers.due() == []
        clock.now += ASK_AGAIN
        assert workers.due() == [a]
        workers.answered(a, "other")
    workers.answered(a, "s")
    assert states(workers)[0] is State.USABLE
    clock.now += ASK_AGAIN
    assert workers.due() == []


def test_the_log_names_each_refusal_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(["http://user:secret@a:5000/x", "http://b:5000"], clock=clock)
    a, b = workers.all
    workers.answered(a, "s")
    workers.use("s")
    workers.answered(b, "s")
    for _ in range(3):
        workers.answered(a, "new")
    (line,) = caplog.records
    assert line.levelno == logging.WARNING and "refused" in line.getMessage()
    assert (line.worker, line.served, line.in_use) == ("http://a:5000/x", "new", "s")  # type: ignore[attr-defined]
    caplog.clear()
    workers.failed(b, "gone")
    workers.use("new")
    workers.answered(b)
    assert [(one.getMessage(), getattr(one, "worker", None)) for one in caplog.records] == [
        ("extraction worker rests: gone", "http://b:5000"),
        ("the embedding space in use has changed", None),
        ("extraction worker is refused: it serves another embedding space", "http://b:5000"),
    ]
    caplog.clear()
    workers.answered(a, "newer")
    workers.answered(a, "new")
    workers.answered(a, "newer")
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


def test_of_an_only_worker_the_failed_requests_tell(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(URLS[:1], clock=clock)
    (a,) = workers.all
    workers.failed(a, "gone")
    workers.answered(a, "s")
    workers.use("s")
    workers.answered(a, "new")
    assert caplog.records == []
    workers.use("new")
    assert [one.getMessage() for one in caplog.records] == ["the embedding space in use has changed"]
