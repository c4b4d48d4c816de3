"""How often approximate answers are right: some are compared with an exact scan of the database.

The scan reads every sample, so it is done in the background for a few answers at once, and rarely enough to take one
percent of the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.distances import distances, prepare
from face_detection.gallery.search.searcher import Nearest
from face_detection.gallery.sql.store import Store, follow
from shared.background import start_thread
from shared.errors import ServiceError
from shared.models import Metric

log = logging.getLogger(__name__)

MOST_ANSWERS = 64
"""Answers that are checked with one scan."""

_REST = 100
"""Times its own duration that a scan is not repeated."""

_TOLERANCE = 1e-9


@dataclass
class _Answer:
    tenant: str
    probe: NDArray[np.float32]
    distance: float
    last: int
    right: bool = True


class RecallCheck:
    """Compares the nearest sample of approximate answers with the truth. Safe between threads.

    Args:
        store: the truth.
        space: the embedding space of the answers.
        metric: their metric.
        observe: told for each answer that was checked whether no sample is nearer than the nearest that was found.
    """

    def __init__(self, store: Store, space: str, metric: Metric, observe: Callable[[bool], None]) -> None:
        self._store = store
        self._space = space
        self._metric = metric
        self._observe = observe
        self._answers: list[_Answer] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, tenant: str, probes: NDArray[np.float32], found: Nearest, applied: int) -> None:
        """Remember answers for the next check, if it has room.

        Args:
            tenant, probes: see ``Searcher.nearest``.
            found: what it gave.
            applied: number of a change that the search has seen.
        """
        with self._changed:
            for probe, neighbours in zip(probes, found, strict=True):
                if len(self._answers) < MOST_ANSWERS and probe.any():
                    prepared = prepare(probe[np.newaxis], self._metric)[0]
                    distance = neighbours[0].distance if neighbours else np.inf
                    self._answers.append(_Answer(tenant, prepared, distance, applied))
            if self._thread is None and self._answers:
                self._thread = start_thread("recall", self._run, self._closed)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; answers that were not checked are forgotten."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._closed.is_set())
                answers, self._answers = self._answers, []
            started = time.monotonic()
            try:
                self._check(answers)
            except ServiceError as error:
                log.warning("the recall of searches could not be measured: %s", error.message)
            with self._changed:
                if self._changed.wait_for(self._closed.is_set, _REST * (time.monotonic() - started)):
                    return

    def _check(self, answers: list[_Answer]) -> None:
        last = max((answer.last for answer in answers), default=0)
        for changes, position in follow(self._store, 0, self._store.last_change()):
            for tenant in {answer.tenant for answer in answers}:
                own = [
                    (change.number, change.vector)
                    for change in changes
                    if change.tenant == tenant and change.space == self._space and change.vector is not None
                ]
                if not own:
                    continue
                numbers = np.array([number for number, _ in own])
                rows = prepare(np.stack([vector for _, vector in own]), self._metric)
                for answer in answers:
                    if answer.tenant == tenant and answer.right:
                        near = distances(rows[numbers <= answer.last], answer.probe, self._metric)
                        answer.right = not (near < answer.distance * (1 - _TOLERANCE)).any()
            if self._closed.is_set():
                return
            if position >= last:
                break
        for answer in answers:
            self._observe(answer.right)
