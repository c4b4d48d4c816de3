"""Prometheus metrics of the front.

With several worker processes the client library keeps the values in files under PROMETHEUS_MULTIPROC_DIR (which
gunicorn's configuration sets), and any process can answer for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._with_unseen: set[str] = set()
        self.requests = Counter("front_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "front_request_seconds", "Seconds per request.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.stage_seconds = Histogram(
            "front_stage_seconds",
            "Seconds per stage: decode, detect, align, measure, embed, search, store.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.faces = Counter("front_faces", "Faces detected.", registry=registry)
        self.matches = Counter("front_matches", "Faces that were given a name.", registry=registry)
        self.searches = Counter(
            "front_searches",
            "Searches for the faces of a picture: by which searcher, exact or approximate.",
            ["searcher", "kind"],
            registry=registry,
        )
        self.enrolled = Counter("front_enrolled", "Samples stored.", registry=registry)
        self.pending = Gauge(
            "front_pending_requests", "Requests worked on now.", registry=registry, multiprocess_mode="livesum"
        )
        self.index_samples = Gauge(
            "front_index_samples", "Samples in the search index.", registry=registry, multiprocess_mode="livemostrecent"
        )
        self.recall_checks = Counter(
            "front_search_recall_checks",
            "Approximate searches that were compared with an exact one: found the nearest sample, or missed it.",
            ["outcome"],
            registry=registry,
        )
        self.search_lag = Gauge(
            "front_search_lag_changes",
            "Changes that the search index does not have yet.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.unseen = Gauge(
            "front_people_of_other_models",
            "People who are not found, since they have no photo of the model in use, by company.",
            ["company"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.workers = Gauge(
            "front_extraction_workers",
            "Extraction workers by state: usable, resting (not reached, or not asked yet), refused (another model).",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )

        self.events_waiting = Gauge(
            "front_events_waiting", "Events not written yet.", registry=registry, multiprocess_mode="livesum"
        )
        self.events_lost = Counter(
            "front_events_lost",
            "Events that are not in the log: too many waited (overflow), they cannot be written (refused), the process "
            "ended before they were (closed).",
            ["reason"],
            registry=registry,
        )
        for reason in ("overflow", "refused", "closed"):
            self.events_lost.labels(reason)

    def observe_workers(self, states: Mapping[str, int]) -> None:
        """Record how many extraction workers are in each state."""
        for state, count in states.items():
            self.workers.labels(state).set(count)

    def set_unseen(self, people: Mapping[str, int]) -> None:
        """Record how many people of each company are not found."""
        self._with_unseen |= people.keys()
        for company in self._with_unseen:
            self.unseen.labels(company).set(people.get(company, 0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).observe(time.perf_counter() - started)

    def note_recall(self, right: bool) -> None:
        """Count an approximate search that was checked."""
        self.recall_checks.labels("found" if right else "missed").inc()

    def render(self) -> bytes:
        """All values in Prometheus' text format, over all worker processes."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
