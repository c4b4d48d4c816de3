"""Dynamic micro-batching: crops of concurrent requests share one run of the network.

As many threads as the engine has lanes run it. A thread takes its share of whatever waits, at most ``max_batch``
crops, runs it, and hands out the rows; while all are busy, the next batches gather by themselves. Clients that
were answered together ask again within milliseconds of one another: a thread that finds fewer crops than its last
batch had waits that long for the others, so a lone client never waits. A request is split when it is larger than a
share. Every waiter gets its rows or an error, also when the engine raises, when its deadline passes and when the
service stops.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.background import start_thread
from shared.errors import DeadlinePassed, ExtractionFailed, InvalidRequest, NotReady, Overloaded

Crops = NDArray[np.uint8]
Embeddings = NDArray[np.float32]

_GATHERING = 0.006
"""Seconds that a thread waits for as many crops as it had before; the clients of a batch come back within 3 to 6 ms."""


@dataclass(eq=False)
class _Job:
    crops: Crops
    deadline: float
    future: Future[Embeddings] = field(default_factory=Future)
    taken: int = 0
    parts: dict[int, Embeddings] = field(default_factory=dict)
    """First crop of the part → its rows. Parts may be done in any order."""

    @property
    def abandoned(self) -> bool:
        return self.future.cancelled() or time.monotonic() > self.deadline


class Batcher:
    """A bounded queue in front of an engine.

    Args:
        embed: (n, height, width, 3) uint8 → (n, dimensions) float32; called from ``lanes`` threads.
        max_batch: most crops in one call of ``embed``.
        max_queued: most crops that wait; a request that does not fit is refused.
        lanes: calls of ``embed`` at once.
        observe: told the number of crops after each call of ``embed``, and the seconds that it took.
    """

    def __init__(
        self,
        embed: Callable[[Crops], Embeddings],
        *,
        max_batch: int,
        max_queued: int,
        lanes: int = 1,
        observe: Callable[[int, float], None] = lambda crops, seconds: None,
    ) -> None:
        self._embed = embed
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._queued = 0
        self._running = 0
        self._idle = 0
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._threads = [start_thread(f"lane-{number}", self._run, self._closed) for number in range(lanes)]

    @property
    def queued(self) -> int:
        """Crops that wait at this moment."""
        return self._queued

    @property
    def running(self) -> int:
        """Crops that the engine works on at this moment."""
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
        job = _Job(crops, time.monotonic() + timeout)
        if len(crops) > self._max_queued:
            raise InvalidRequest(f"More than {self._max_queued} crops in one request.")
        with self._changed:
            if self._closed.is_set():
                raise NotReady("The service is stopping.")
            if self._queued + len(crops) > self._max_queued:
                raise Overloaded("Too many crops are waiting already.")
            self._queued += len(crops)
            self._jobs.append(job)
            self._changed.notify_all()
        try:
            return job.future.result(timeout)
        except FutureTimeout:
            job.future.cancel()
            with self._changed:
                self._withdraw(job)
            raise DeadlinePassed(f"The crops were not embedded within {timeout:g} seconds.") from None

    def close(self) -> None:
        """Refuse new work, finish what runs, answer everybody else who waits with an error, and stop the threads."""
        with self._changed:
            self._closed.set()
            waiting, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in waiting:
            self._answer(job, NotReady("The service is stopping."))
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
        while 0 < self._queued < wanted and not self._closed.is_set() and (left := stop - time.monotonic()) > 0:
            self._changed.wait(left)

    def _next_batch(self) -> list[tuple[_Job, int, Crops]]:
        """Take this thread's share from the front of the queue. Abandoned jobs are dropped.

        Returns:
            Jobs with the first of the crops taken from each, and these crops.
        """
        batch: list[tuple[_Job, int, Crops]] = []
        room = min(self._max_batch, -(-self._queued // self._idle))
        while self._jobs and room:
            job = self._jobs[0]
            if job.abandoned:
                self._jobs.popleft()
                self._queued -= len(job.crops) - job.taken
                continue
            first = job.taken
            part = job.crops[first : first + room]
            job.taken += len(part)
            self._queued -= len(part)
            room -= len(part)
            batch.append((job, first, part))
            if job.taken == len(job.crops):
                self._jobs.popleft()
        return batch

    def _embed_batch(self, batch: list[tuple[_Job, int, Crops]]) -> None:
        count = sum(len(part) for _, _, part in batch)
        started = time.monotonic()
        try:
            try:
                rows = self._embed(batch[0][2] if len(batch) == 1 else np.concatenate([part for _, _, part in batch]))
            finally:
                with self._changed:
                    self._running -= count
            self._observe(count, time.monotonic() - started)
            start = 0
            for job, first, part in batch:
                self._hand_out(job, first, rows[start : start + len(part)])
                start += len(part)
        except Exception as error:
            self._fail([job for job, _, _ in batch], error)

    def _hand_out(self, job: _Job, first: int, rows: Embeddings) -> None:
        with self._changed:
            job.parts[first] = rows
            done = sum(map(len, job.parts.values())) == len(job.crops)
        if done:
            parts = [job.parts[first] for first in sorted(job.parts)]
            self._answer(job, parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        with self._changed:
            for job in jobs:
                self._withdraw(job)
        for job in jobs:
            failure = ExtractionFailed("The engine failed on this batch.")
            failure.__cause__ = error
            self._answer(job, failure)

    def _withdraw(self, job: _Job) -> None:
        """Take out of the queue what is left of a job, which would run for nobody."""
        if job in self._jobs:
            self._jobs.remove(job)
            self._queued -= len(job.crops) - job.taken

    def _answer(self, job: _Job, result: Embeddings | Exception) -> None:
        with self._changed:
            # Two lanes may fail on parts of one job: the first answer counts.
            if job.future.done() or not job.future.set_running_or_notify_cancel():
                return
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
