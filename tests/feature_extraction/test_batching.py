from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from feature_extraction import batching
from feature_extraction.batching import Batcher, Crops, Embeddings
from shared.errors import DeadlinePassed, ExtractionFailed, InvalidRequest, NotReady, Overloaded


def crops(*values: int) -> Crops:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


class GatedEngine:
    """Gives each crop's mean as its embedding; runs only while the gate is open and records batch sizes."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.error: Exception | None = None

    def __call__(self, batch: Crops) -> Embeddings:
        self.entered.release()
        assert self.gate.wait(10)
        self.batches.append(len(batch))
        if self.error:
            raise self.error
        return batch.reshape(len(batch), -1).mean(axis=1, keepdims=True).astype(np.float32)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batcher(engine: GatedEngine) -> Iterator[Batcher]:
    batcher = Batcher([engine], max_batch=4, max_queued=10)
    yield batcher
    engine.gate.set()
    batcher.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def wait_until_queued(batcher: Batcher, count: int) -> None:
    deadline = time.monotonic() + 10
    while batcher.queued != count:
        assert time.monotonic() < deadline, f"{batcher.queued} crops wait instead of {count}"
        time.sleep(0.001)


def test_rows_come_back_in_the_order_of_the_crops(batcher: Batcher) -> None:
    assert batcher.embed(crops(3, 1, 2), 5).tolist() == [[3], [1], [2]]


def test_requests_that_wait_share_a_batch(batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    engine.gate.clear()
    first = pool.submit(batcher.embed, crops(1), 5)
    engine.entered.acquire()
    others = [pool.submit(batcher.embed, crops(value), 5) for value in (2, 3, 4)]
    wait_until_queued(batcher, 3)
    engine.gate.set()
    assert first.result().tolist() == [[1]]
    assert [other.result().tolist() for other in others] == [[[2]], [[3]], [[4]]]
    assert engine.batches == [1, 3]


def test_clients_that_come_back_together_share_a_batch_again(
    batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_GATHERING", 5.0)
    batcher.embed(crops(1, 2), 5)
    first = pool.submit(batcher.embed, crops(3), 5)
    wait_until_queued(batcher, 1)
    second = pool.submit(batcher.embed, crops(4), 5)
    assert (first.result(3).tolist(), second.result(3).tolist()) == ([[3]], [[4]])
    assert engine.batches == [2, 2]


def test_a_lone_client_is_waited_for_once_at_most(
    batcher: Batcher, engine: GatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_GATHERING", 0.5)
    batcher.embed(crops(1, 2), 5)
    batcher.embed(crops(3), 5)
    monkeypatch.setattr(batching, "_GATHERING", 60.0)
    batcher.embed(crops(4), 5)
    assert engine.batches == [2, 1, 1]


def test_a_request_larger_than_a_batch_is_split(batcher: Batcher, engine: GatedEngine) -> None:
    assert batcher.embed(crops(*range(9)), 5).ravel().tolist() == list(range(9))
    assert engine.batches == [4, 4, 1]


def test_a_full_queue_refuses_at_once(batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    engine.gate.clear()
    running = pool.submit(batcher.embed, crops(1), 5)
    engine.entered.acquire()
    waiting = pool.submit(batcher.embed, crops(*range(10)), 5)
    wait_until_queued(batcher, 10)
    with pytest.raises(Overloaded) as caught:
        batcher.embed(crops(1), 5)
    assert caught.value.retry_after
    engine.gate.set()
    assert len(running.result()) == 1
    assert len(waiting.result()) == 10
    assert batcher.queued == 0


def test_a_request_that_never_fits_is_refused_as_invalid(batcher: Batcher) -> None:
    with pytest.raises(InvalidRequest):
        batcher.embed(crops(*range(11)), 5)


def test_every_waiter_of_a_failed_batch_gets_the_error_and_later_ones_do_not(
    batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor
) -> None:
    engine.gate.clear()
    engine.error = RuntimeError("out of memory")
    running = pool.submit(batcher.embed, crops(1), 5)
    engine.entered.acquire()
    waiting = [pool.submit(batcher.embed, crops(*range(3)), 5) for _ in range(3)]
    wait_until_queued(batcher, 9)
    engine.gate.set()
    for future in (running, *waiting):
        with pytest.raises(ExtractionFailed):
            future.result()
    engine.error = None
    assert batcher.queued == 0
    assert batcher.embed(crops(7), 5).tolist() == [[7]]


def test_late_work_is_dropped_and_never_run(batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    engine.gate.clear()
    running = pool.submit(batcher.embed, crops(1), 5)
    engine.entered.acquire()
    with pytest.raises(DeadlinePassed):
        batcher.embed(crops(2, 2), 0.05)
    engine.gate.set()
    assert running.result().tolist() == [[1]]
    assert batcher.embed(crops(3), 5).tolist() == [[3]]
    assert engine.batches == [1, 1]
    assert batcher.queued == 0


def test_the_load_is_told_at_any_moment(batcher: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    assert (batcher.queued, batcher.running) == (0, 0)
    engine.gate.clear()
    first = pool.submit(batcher.embed, crops(1, 2, 3, 4, 5, 6), 5)
    engine.entered.acquire()
    assert (batcher.queued, batcher.running) == (2, 4)
    late = pool.submit(batcher.embed, crops(7, 8), 0.01)
    with pytest.raises(DeadlinePassed):
        late.result()
    assert batcher.queued == 2  # nobody waits for the others any more
    engine.error = RuntimeError("broken")
    engine.gate.set()
    with pytest.raises(ExtractionFailed):
        first.result()
    deadline = time.monotonic() + 10
    while (batcher.queued, batcher.running) != (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_closing_answers_everybody(engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    batcher = Batcher([engine], max_batch=4, max_queued=10)
    engine.gate.clear()
    running = pool.submit(batcher.embed, crops(1), 5)
    engine.entered.acquire()
    waiting = pool.submit(batcher.embed, crops(2), 5)
    wait_until_queued(batcher, 1)
    closing = pool.submit(batcher.close)
    while not batcher._closed:
        time.sleep(0.001)
    engine.gate.set()
    assert running.result().tolist() == [[1]]
    with pytest.raises(NotReady):
        waiting.result()
    closing.result()
    with pytest.raises(NotReady):
        batcher.embed(crops(1), 5)


def test_many_threads_each_get_their_own_rows(batcher: Batcher, pool: ThreadPoolExecutor) -> None:
    def client(seed: int) -> bool:
        values = [(seed * 7 + i) % 256 for i in range(seed % 2 + 1)]
        while True:
            try:
                return batcher.embed(crops(*values), 10).ravel().tolist() == values
            except Overloaded:
                time.sleep(0.001)

    assert all(pool.map(client, range(300)))


def test_batch_sizes_are_observed() -> None:
    seen: list[int] = []
    batcher = Batcher([GatedEngine()], max_batch=4, max_queued=10, observe=lambda count, seconds: seen.append(count))
    batcher.embed(crops(1, 2, 3, 4, 5), 5)
    batcher.close()
    assert seen == [4, 1]


@pytest.fixture
def two_lanes(engine: GatedEngine) -> Iterator[Batcher]:
    batcher = Batcher([engine], max_batch=4, max_queued=40, lanes=2)
    yield batcher
    engine.gate.set()
    batcher.close()


def test_idle_lanes_share_a_request(two_lanes: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor) -> None:
    engine.gate.clear()
    request = pool.submit(two_lanes.embed, crops(*range(6)), 5)
    for _ in range(2):  # both lanes run at once
        assert engine.entered.acquire(timeout=5)
    engine.gate.set()
    assert request.result().ravel().tolist() == list(range(6))
    assert sorted(engine.batches) == [3, 3]


def test_parts_that_finish_in_any_order_are_put_together(two_lanes: Batcher, pool: ThreadPoolExecutor) -> None:
    def client(seed: int) -> bool:
        values = [(seed * 31 + i) % 256 for i in range(seed % 7 + 1)]
        while True:
            try:
                return two_lanes.embed(crops(*values), 10).ravel().tolist() == values
            except Overloaded:
                time.sleep(0.001)

    assert all(pool.map(client, range(500)))
    assert two_lanes.queued == 0


class Sums(GatedEngine):
    """Gives each crop's mean times a factor."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def __call__(self, batch: Crops) -> Embeddings:
        return self.factor * super().__call__(batch)


@pytest.fixture
def two_runs() -> list[Sums]:
    return [Sums(1), Sums(1000)]


@pytest.fixture
def combining(two_runs: list[Sums]) -> Iterator[Batcher]:
    batcher = Batcher(two_runs, join=np.hstack, max_batch=4, max_queued=40, lanes=2)
    yield batcher
    for run in two_runs:
        run.gate.set()
    batcher.close()


def test_runs_for_one_crop_are_side_by_side(combining: Batcher, two_runs: list[Sums], pool: ThreadPoolExecutor) -> None:
    for run in two_runs:
        run.gate.clear()
    request = pool.submit(combining.embed, crops(7), 5)
    for run in two_runs:  # both are at work at the same time
        assert run.entered.acquire(timeout=5)
    assert (combining.queued, combining.running) == (0, 2)
    for run in two_runs:
        run.gate.set()
    assert request.result().tolist() == [[7, 7000]]


def test_a_batch_is_of_one_run_and_of_several_requests(
    combining: Batcher, two_runs: list[Sums], pool: ThreadPoolExecutor
) -> None:
    for run in two_runs:
        run.gate.clear()
    first = pool.submit(combining.embed, crops(1), 5)
    for run in two_runs:
        assert run.entered.acquire(timeout=5)
    others = [pool.submit(combining.embed, crops(value), 5) for value in (2, 3)]
    wait_until_queued(combining, 2)
    for run in two_runs:
        run.gate.set()
    assert [request.result().tolist() for request in (first, *others)] == [[[n, 1000 * n]] for n in (1, 2, 3)]
    assert sum(map(sum, (run.batches for run in two_runs))) == 6


def test_requests_of_several_runs_each_get_their_own_rows(combining: Batcher, pool: ThreadPoolExecutor) -> None:
    def client(seed: int) -> bool:
        values = [(seed * 31 + i) % 256 for i in range(seed % 7 + 1)]
        while True:
            try:
                return combining.embed(crops(*values), 10).tolist() == [[value, 1000 * value] for value in values]
            except Overloaded:
                time.sleep(0.001)

    assert all(pool.map(client, range(500)))
    assert combining.queued == combining.running == 0


def test_a_run_that_fails_fails_the_request_and_takes_the_others_out_of_the_queue(
    two_runs: list[Sums], pool: ThreadPoolExecutor
) -> None:
    batcher = Batcher(two_runs, join=np.hstack, max_batch=4, max_queued=40)
    two_runs[0].error = RuntimeError("out of memory")
    with pytest.raises(ExtractionFailed):
        batcher.embed(crops(1), 5)
    two_runs[0].error = None
    assert batcher.embed(crops(2), 5).tolist() == [[2, 2000]]
    assert (batcher.queued, batcher.running) == (0, 0)
    assert [run.batches for run in two_runs] == [[1, 1], [1]]
    batcher.close()


def test_a_request_of_several_runs_that_passes_its_deadline_leaves_the_queue(
    two_runs: list[Sums], pool: ThreadPoolExecutor
) -> None:
    batcher = Batcher(two_runs, join=np.hstack, max_batch=4, max_queued=40)
    two_runs[0].gate.clear()
    with pytest.raises(DeadlinePassed):
        batcher.embed(crops(1), 0.05)
    two_runs[0].gate.set()
    assert batcher.embed(crops(2), 5).tolist() == [[2, 2000]]
    assert batcher.queued == 0 and two_runs[1].batches == [1]
    batcher.close()


def test_a_job_that_fails_in_both_lanes_is_answered_once(
    two_lanes: Batcher, engine: GatedEngine, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    engine.gate.clear()
    engine.error = RuntimeError("out of memory")
    request = pool.submit(two_lanes.embed, crops(*range(8)), 5)
    for _ in range(2):
        assert engine.entered.acquire(timeout=5)
    engine.gate.set()
    with pytest.raises(ExtractionFailed):
        request.result()
    engine.error = None
    assert two_lanes.embed(crops(7), 5).tolist() == [[7]]
    assert not caplog.records
