"""The loaded model and the liveness check behind their queues, and whether they are ready. No HTTP here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_extraction.batching import Batcher
from feature_extraction.embedder import Embedder, open_embedder
from feature_extraction.liveness import LivenessCheck, open_liveness
from feature_extraction.metrics import Metrics
from shared.errors import InvalidRequest, LivenessUnavailable, NotReady, StartupError
from shared.settings import ExtractionSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Loaded:
    embedder: Embedder
    batcher: Batcher
    liveness: _Liveness | None


@dataclass(frozen=True)
class _Liveness:
    check: LivenessCheck
    batcher: Batcher


class Extraction:
    """Loads a model, and a liveness check where the settings ask for one, warms them up, and runs them.

    Attributes:
        settings: which model, where and how.
        metrics: told about every batch.
    """

    def __init__(self, settings: ExtractionSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._loaded: _Loaded | None = None
        self._draining = False
        metrics.max_queued.set(settings.max_queued_crops)

    def load(self, embedder: Embedder | None = None) -> None:
        """Open the engine (or take the one given), warm it up and become ready.

        Raises:
            StartupError: weights, engine or device are not to be had.
        """
        started = time.monotonic()
        embedder = embedder or open_embedder(self.settings)
        alignment = embedder.card.alignment
        for size in self._first_batches(embedder.device):
            embedder.embed(np.zeros((size, alignment.height, alignment.width, 3), np.uint8))
        liveness = self._load_liveness() if self.settings.checks_liveness else None
        batcher = Batcher(
            embedder.runs,
            join=embedder.join,
            max_batch=self.settings.max_batch,
            max_queued=self.settings.max_queued_crops,
            lanes=embedder.lanes,
            observe=self.metrics.observe_batch,
        )
        self.metrics.queued.set_function(lambda: batcher.queued)
        self.metrics.running.set_function(lambda: batcher.running)
        self.metrics.lanes.set(embedder.lanes)
        self.metrics.ready.set_function(lambda: not self._draining)
        self._loaded = _Loaded(embedder, batcher, liveness)
        log.info(
            "model is ready",
            extra={
                "model": embedder.card.name,
                "engine": embedder.engine,
                "device": embedder.device,
                "liveness": liveness is not None,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _first_batches(self, device: str) -> Sequence[int]:
        """How many crops a network is warmed up with: a GPU prepares itself for the largest batch, too.

        For a CPU that batch would be as much work as any other, and the next one would be no faster for it.
        """
        return [1] if device == "cpu" else sorted({1, self.settings.max_batch})

    def _load_liveness(self) -> _Liveness:
        check = open_liveness(self.settings)
        for count in self._first_batches(check.device):
            check.score(np.zeros((count, len(check.card.networks), check.card.size, check.card.size, 3), np.uint8))
        batcher = Batcher(
            check.runs,
            join=check.join,
            max_batch=self.settings.max_batch,
            max_queued=self.settings.max_queued_crops,
            lanes=check.lanes,
        )
        return _Liveness(check, batcher)

    def load_in_background(self, on_failure: Callable[[], None]) -> None:
        """Load in a thread; ``on_failure`` is called there, after the reason was logged in one line."""

        def run() -> None:
            try:
                self.load()
            except StartupError as error:
                log.critical("cannot start: %s", error.message)
                on_failure()
            except Exception:
                log.critical("cannot start", exc_info=True)
                on_failure()

        threading.Thread(target=run, name="loader", daemon=True).start()

    @property
    def embedder(self) -> Embedder:
        """The loaded model.

        Raises:
            NotReady: it is still loading.
        """
        return self._ready().embedder

    def check_ready(self) -> None:
        """Return if new requests are welcome.

        Raises:
            NotReady: the model is still loading, or the service is stopping.
        """
        self._ready()
        if self._draining:
            raise NotReady("The service is stopping.")

    def drain(self) -> float:
        """Be no longer ready, while requests are answered as before.

        Returns:
            Seconds for which new requests should still be accepted.
        """
        self._draining = True
        return self.settings.drain_seconds

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops of the size that the model's card demands.

        Args:
            crops: (n, height, width, 3) uint8 BGR.

        Returns:
            (n, dimensions) float32, see ``Embedder.embed``.

        Raises:
            InvalidRequest: more crops than one request may have.
            NotReady, Overloaded, DeadlinePassed, ExtractionFailed: see ``Batcher.embed``.
        """
        loaded = self._ready()
        if len(crops) > self.settings.max_request_crops:
            raise InvalidRequest(f"More than {self.settings.max_request_crops} crops in one request.")
        if not len(crops):
            return np.empty((0, loaded.embedder.card.dimensions), np.float32)
        embeddings = loaded.batcher.embed(crops, self.settings.embed_timeout)
        self.metrics.crops.inc(len(crops))
        return embeddings

    @property
    def liveness(self) -> LivenessCheck:
        """The loaded liveness check.

        Raises:
            NotReady: it is still loading.
            LivenessUnavailable: the settings say that there is none.
        """
        return self._ready_liveness().check

    def check_liveness(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score faces, see ``LivenessCheck.score``.

        Raises:
            LivenessUnavailable: see ``liveness``.
            InvalidRequest, NotReady, Overloaded, DeadlinePassed, ExtractionFailed: see ``embed``.
        """
        liveness = self._ready_liveness()
        if len(views) > self.settings.max_request_crops:
            raise InvalidRequest(f"More than {self.settings.max_request_crops} faces in one request.")
        if not len(views):
            return np.empty(0, np.float32)
        scores = liveness.batcher.embed(views, self.settings.embed_timeout)
        self.metrics.liveness_faces.inc(len(views))
        return scores

    def close(self) -> None:
        """Answer whoever waits, and stop."""
        if self._loaded:
            self._loaded.batcher.close()
            if self._loaded.liveness:
                self._loaded.liveness.batcher.close()

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise NotReady("The model is still loading.")
        return self._loaded

    def _ready_liveness(self) -> _Liveness:
        liveness = self._ready().liveness
        if liveness is None:
            raise LivenessUnavailable
        return liveness
