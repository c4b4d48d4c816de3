"""What the service does: enrol, identify, verify, detect. No HTTP and no SQL here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.enrolment import Enroller, Enrolment, EnrolmentReport
from face_detection.extraction import ExtractionClient, ServedModel
from face_detection.gallery.distances import distances, prepare
from face_detection.gallery.search import Searcher
from face_detection.gallery.store import Page, Record, Sample, Store
from face_detection.metrics import Metrics
from face_detection.preparation import Encoded, Preparation, Prepared, largest_face
from shared.errors import (
    DeadlinePassed,
    NotFound,
)
from shared.geometry import Face
from shared.models import Metric
from shared.settings import FrontSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Recognised:
    """A face and who it is: ``record`` is None when nobody is near enough.

    ``distance`` is that to the nearest sample, None when the gallery is empty.
    """

    face: Face
    record: Record | None
    distance: float | None


@dataclass(frozen=True)
class Verification:
    """Whether two pictures show the same person: ``distance`` < ``threshold``."""

    same: bool
    distance: float
    threshold: float
    faces: tuple[Face, Face]


class Recognition:
    """The core of the front. Lives in one event loop.

    Args:
        preparation: pictures to crops.
        extraction: crops to embeddings.
        store: where samples are kept.
        open_searcher: makes a searcher over the store for an embedding space and a metric.
        settings: thresholds and time limits.
        metrics: told about stages and matches.
    """

    def __init__(
        self,
        preparation: Preparation,
        extraction: ExtractionClient,
        store: Store,
        open_searcher: Callable[[Store, str, Metric], Searcher],
        settings: FrontSettings,
        metrics: Metrics,
    ) -> None:
        self._preparation = preparation
        self._enroller = Enroller(preparation, self._embed)
        self._extraction = extraction
        self._store = store
        self._open_searcher = open_searcher
        self._settings = settings
        self._metrics = metrics
        # Apart from the pool that decodes, so that a write that waits for the database's lock holds up no picture.
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="gallery")
        self._searcher: tuple[str, Searcher] | None = None
        self._opening = threading.Lock()

    async def enrol(self, tenant: str, enrolments: Sequence[Enrolment]) -> EnrolmentReport:
        """Enrol a batch: the largest face of each picture. Stored in one transaction.

        One bad picture fails alone. When the extraction service fails for all, the request fails.

        Raises:
            ExtractionError, Overloaded, StorageError, DeadlinePassed: nothing was stored.
        """
        async with self._deadline(self._settings.batch_timeout):
            model = await self._extraction.model()
            samples, report = await self._enroller.embed(enrolments, model)
            if samples:
                with self._metrics.stage("store"):
                    await self._in_pool(lambda: self._store.upsert(tenant, samples))
        self._metrics.enrolled.inc(len(samples))
        return report

    async def identify(self, tenant: str, picture: Encoded, min_distance: float | None = None) -> list[Recognised]:
        """Say of each face of a picture, in reading order, who it is.

        Args:
            tenant: whose gallery.
            picture: encoded.
            min_distance: threshold; the configured default when None.

        Raises:
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            threshold = self.threshold(model) if min_distance is None else min_distance
            prepared = await self._preparation.prepare(picture, model.card.alignment)
            if not prepared.faces:
                return []
            embeddings = await self._embed(prepared.crops, model)
            with self._metrics.stage("search"):
                return await self._in_pool(
                    lambda: self._name(tenant, prepared, self._searcher_for(model), embeddings, threshold)
                )

    async def verify(self, first: Encoded, second: Encoded, min_distance: float | None = None) -> Verification:
        """Compare the largest faces of two pictures.

        Raises:
            FaceNotFound: a picture shows no face.
            ImageError, ExtractionError, Overloaded, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            one, other = await asyncio.gather(
                *(self._preparation.prepare(picture, model.card.alignment, largest_face) for picture in (first, second))
            )
            embeddings = await self._embed(np.concatenate([one.crops, other.crops]), model)
        threshold = self.threshold(model) if min_distance is None else min_distance
        one_row, other_row = prepare(embeddings, self.metric(model))
        distance = float(distances(one_row[None], other_row, self.metric(model))[0])
        return Verification(distance < threshold, distance, threshold, (one.chosen[0], other.chosen[0]))

    async def detect(self, picture: Encoded) -> list[Face]:
        """The faces of a picture, in reading order. Needs no extraction service.

        Raises:
            ImageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.detect(picture)

    async def samples(self, tenant: str, limit: int, after: str | None) -> Page:
        """One page of samples ordered by id."""
        return await self._in_pool(lambda: self._store.page(tenant, limit, after))

    async def sample(self, tenant: str, id: str) -> Sample:
        """One sample.

        Raises:
            NotFound: there is none with this id.
        """
        return await self._in_pool(lambda: self._store.get(tenant, id))

    async def delete(self, tenant: str, id: str) -> None:
        """Delete one sample.

        Raises:
            NotFound: there is none with this id.
        """
        if not await self._in_pool(lambda: self._store.delete(tenant, id)):
            raise NotFound("There is no sample with this id.")

    async def clear(self, tenant: str) -> int:
        """Delete all samples of a tenant; returns how many there were."""
        return await self._in_pool(lambda: self._store.clear(tenant))

    async def model(self) -> ServedModel:
        """The model that gives the embeddings.

        Raises:
            ExtractionError, DeadlinePassed: it cannot be told now.
        """
        return await self._extraction.model()

    async def check_ready(self) -> None:
        """Return when database, index and extraction service are ready; raise what is in the way otherwise."""
        await self._extraction.check_ready()
        model = await self._extraction.model()
        await self._in_pool(lambda: self._searcher_for(model).refresh())

    async def index_size(self, tenant: str) -> int:
        """Samples in the search index, 0 before it was opened."""
        if self._searcher is None:
            return 0
        searcher = self._searcher[1]
        return await self._in_pool(lambda: searcher.size(tenant))

    def metric(self, model: ServedModel) -> Metric:
        """The distance in use."""
        return self._settings.distance or model.card.metric

    def threshold(self, model: ServedModel) -> float:
        """The ``min_distance`` of requests that name none."""
        if self._settings.min_distance is not None:
            return self._settings.min_distance
        return model.card.threshold(self.metric(model)).distance

    async def close(self) -> None:
        """Finish what runs and release everything."""
        self._preparation.close()
        await self._extraction.close()
        self._pool.shutdown()
        self._store.close()

    async def _embed(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        with self._metrics.stage("embed"):
            return await self._extraction.embed(crops, model)

    def _name(
        self,
        tenant: str,
        prepared: Prepared,
        searcher: Searcher,
        embeddings: NDArray[np.float32],
        threshold: float,
    ) -> list[Recognised]:
        nearest = [neighbours[0] if neighbours else None for neighbours in searcher.nearest(tenant, embeddings)]
        matching = [one.key for one in nearest if one and one.distance < threshold]
        samples = self._store.by_keys(tenant, matching) if matching else {}
        self._metrics.matches.inc(len(samples))
        return [
            Recognised(
                face,
                samples.get(one.key) if one and one.distance < threshold else None,
                one.distance if one else None,
            )
            for face, one in zip(prepared.faces, nearest, strict=True)
        ]

    def _searcher_for(self, model: ServedModel) -> Searcher:
        with self._opening:
            opened = self._searcher
            if opened is None or opened[0] != model.space:
                opened = (model.space, self._open_searcher(self._store, model.space, self.metric(model)))
                self._searcher = opened
            return opened[1]

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)

    @asynccontextmanager
    async def _deadline(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise DeadlinePassed(f"The request was not done within {seconds:g} seconds.") from error
