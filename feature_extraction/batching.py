"""Dynamic micro-batching: crops of concurrent requests share one run of the network.

As many threads as the engine has lanes run it. A thread takes its share of whatever waits, at most ``max_batch``
crops, runs it, and hands out the rows; while all are busy, the next batches gather by themselves. Clients that
were answered together ask again within milliseconds of one another: a thread that finds fewer crops than its last
batch had waits that long for the others, so a lone client never waits. A request is split when it is larger than a
share. A model of several networks means several runs over the crops of each request, which idle threads take side by
side. Every waiter gets its rows or an error, also when the engine raises, when its deadline passes and when the service
stops.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shared.background import start_thread
from shared.errors import DeadlinePassed, ExtractionFailed, InvalidRequest, NotReady, Overloaded

Crops = NDArray[np.uint8]
Embeddings = NDArray[np.float32]

_GATHERING = 0.006
"""Seconds that a thread waits for as many crops as it had before; the clients of a batch come back within 3 to 6 ms."""


Run = Callable[[Crops], Embeddings]


@dataclass(eq=False)
class _Request:
    crops: Crops
    deadline: float
    future: Future[Embeddings] = field(default_factory=Future)
    jobs: list[_Job] = field(default_factory=list)
    """One for each run."""

    @property
    def abandoned(self) -> bool:
        return self.future.cancelled() or time.monotonic() > self.deadline

    @property
    def done(self) -> bool:
        return all(sum(map(len, job.parts.values())) == len(self.crops) for job in self.jobs)


@dataclass(eq=False)
class _Job:
    """What one run has to do for a request."""

    request: _Request
    run: int
    taken: int = 0
    parts: dict[int, Embeddings] = field(default_factory=dict)
    """First crop of the part → its rows. Parts may be done in any order."""

    @property
    def left(self) -> int:
        """Crops that no thread has taken yet."""
        return len(self.request.crops) - self.taken

    @property
    def rows(self) -> Embeddings:
        parts = [self.parts[first] for first in sorted(self.parts)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Batcher:
    """A bounded queue in front of an engine.

    Args:
        runs: what is run on the crops of each request, in any order and at the same time; each is (n, height, width, 3)
            uint8 → (n, dimensions of its own) float32 and is called from ``lanes`` threads.
        max_batch: most crops in one call of a run.
        max_queued: most crops that wait; a request that does not fit is refused.
        join: makes a request's embeddings, (n, dimensions) float32, from what each of the runs gave for all its crops.
        lanes: calls of runs at once.
        observe: told the number of crops after each call of a run, and the seconds that it took.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        max_batch: int,
        max_queued: int,
        join: Callable[[Sequence[Embeddings]], Embeddings] = itemgetter(0),
        lanes: int = 1,
        observe: Callable[[int, float], None] = lambda crops, seconds: None,
    ) -> None:
        self._runs = runs
        self._join = join
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._waiting = [0] * len(runs)
        self._running = 0
        self._idle = 0
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._threads = [start_thread(f"lane-{number}", self._run, self._closed) for number in range(lanes)]

    @property
    def queued(self) -> int:
        """Crops that wait at this moment."""
        return max(self._waiting)

    @property
    def running(self) -> int:
        """Crops that the engine works on at this moment; one on which two runs work counts twice."""
        return self._running

    def embed(self, crops: Crops, timeout: float) -> Embeddings:
        """Embed crops together with whatever else is waiting; blocks until they are done.

        Args:
            crops: (n, height, width, 3) uint8, of one size for all requests.
            timeout: seconds.

        Returns:
            (n, dimensions) float32, row i for crop i.

        Raises:
            InvalidRequest: more crops than the queue could ever hold.
            Overloaded: the queue has no room for them now.
            DeadlinePassed: not done in time.
            ExtractionFailed: the engine raised.
            NotReady: the service is stopping.
        """
        request = _Request(crops, time.monotonic() + timeout)
        request.jobs = [_Job(request, run) for run in range(len(self._runs))]
        if len(crops) > self._max_queued:
            raise InvalidRequest(f"More than {self._max_queued} crops in one request.")
        with self._changed:
            if self._closed.is_set():
                raise NotReady("The service is stopping.")
            if self.queued + len(crops) > self._max_queued:
                raise Overloaded("Too many crops are waiting already.")
            for job in request.jobs:
                self._waiting[job.run] += len(crops)
            self._jobs.extend(request.jobs)
            self._changed.notify_all()
        try:
            return request.future.result(timeout)
        except FutureTimeout:
            request.future.cancel()
            with self._changed:
                self._withdraw(request)
            raise DeadlinePassed(f"The crops were not embedded within {timeout:g} seconds.") from None

    def close(self) -> None:
        """Refuse new work, finish what runs, answer everybody else who waits with an error, and stop the threads."""
        with self._changed:
            self._closed.set()
            waiting, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in waiting:
            self._answer(job.request, NotReady("The service is stopping."))
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        crops = 0
        while True:
            with self._changed:
                self._idle += 1
                try:
                    while not self._jobs and not self._closed.is_set():
                        self._changed.wait()
                    self._gather(crops)
                    if self._closed.is_set():
                        return
                    batch = self._next_batch()
                finally:
                    self._idle -= 1
                crops = sum(len(part) for _, _, part in batch)
                self._running += crops
            if batch:
                self._embed_batch(batch)

    def _gather(self, wanted: int) -> None:
        stop = time.monotonic() + _GATHERING
        while 0 < self.queued < wanted and not self._closed.is_set() and (left := stop - time.monotonic()) > 0:
            self._changed.wait(left)

    def _next_batch(self) -> list[tuple[_Job, int, Crops]]:
        """Take this thread's share of what waits for the run that is next. Abandoned requests are dropped.

        Returns:
            Jobs of one run with the first of the crops taken from each, and these crops.
        """
        batch: list[tuple[_Job, int, Crops]] = []
        while self._jobs and self._jobs[0].request.abandoned:
            self._withdraw(self._jobs[0].request)
        if not self._jobs:
            return batch
        run = self._jobs[0].run
        room = min(self._max_batch, -(-self._waiting[run] // self._idle))
        for job in [job for job in self._jobs if job.run == run]:
            if not room:
                break
            if job.request.abandoned:
                self._withdraw(job.request)
                continue
            first = job.taken
            part = job.request.crops[first : first + room]
            job.taken += len(part)
            self._waiting[run] -= len(part)
            room -= len(part)
            batch.append((job, first, part))
            if not job.left:
                self._jobs.remove(job)
        return batch

    def _embed_batch(self, batch: list[tuple[_Job, int, Crops]]) -> None:
        count = sum(len(part) for _, _, part in batch)
        run = self._runs[batch[0][0].run]
        started = time.monotonic()
        try:
            try:
                rows = run(batch[0][2] if len(batch) == 1 else np.concatenate([part for _, _, part in batch]))
            finally:
                with self._changed:
                    self._running -= count
            self._observe(count, time.monotonic() - started)
            start = 0
            for job, first, part in batch:
                self._hand_out(job, first, rows[start : start + len(part)])
                start += len(part)
        except Exception as error:
            self._fail([job.request for job, _, _ in batch], error)

    def _hand_out(self, job: _Job, first: int, rows: Embeddings) -> None:
        request = job.request
        with self._changed:
            job.parts[first] = rows
            done = request.done
        if done:
            self._answer(request, self._join([job.rows for job in request.jobs]))

    def _fail(self, requests: list[_Request], error: Exception) -> None:
        with self._changed:
            for request in requests:
                self._withdraw(request)
        for request in requests:
            failure = ExtractionFailed("The engine failed on this batch.")
            failure.__cause__ = error
            self._answer(request, failure)

    def _withdraw(self, request: _Request) -> None:
        """Take out of the queue what is left of a request, which would run for nobody."""
        for job in request.jobs:
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting[job.run] -= job.left

    def _answer(self, request: _Request, result: Embeddings | Exception) -> None:
        future = request.future
        with self._changed:
            # Two lanes may fail on parts of one request: the first answer counts.
            if future.done() or not future.set_running_or_notify_cancel():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
