"""Prometheus metrics of the extraction service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "extraction_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.crops = Counter("extraction_crops", "Crops embedded.", registry=self.registry)
        self.batch_size = Histogram(
            "extraction_batch_crops", "Crops per run of a network.", buckets=_BATCH_BUCKETS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "extraction_batch_seconds", "Seconds per run of a network.", registry=self.registry
        )
        self.liveness_faces = Counter(
            "extraction_liveness_faces", "Faces checked for being real.", registry=self.registry
        )
        self.queued = Gauge("extraction_queued_crops", "Crops that wait now.", registry=self.registry)
        self.max_queued = Gauge(
            "extraction_max_queued_crops", "Crops that may wait; beyond it the answer is 429.", registry=self.registry
        )
        self.running = Gauge(
            "extraction_running_crops",
            "Crops that are worked on now; one that two networks work on counts twice.",
            registry=self.registry,
        )
        self.lanes = Gauge("extraction_lanes", "Runs of networks at once, at most.", registry=self.registry)
        self.ready = Gauge(
            "extraction_ready",
            "1 when the model is loaded and warm, until the service is told to end.",
            registry=self.registry,
        )

    def observe_batch(self, crops: int, seconds: float) -> None:
        """Record one run of a network."""
        self.batch_size.observe(crops)
        self.batch_seconds.observe(seconds)
