"""What the service does: enrol, identify, verify, detect. No HTTP and no SQL here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.decision import Rule
from face_detection.enrolment import Embedded, Enroller, Enrolment, Outcome
from face_detection.extraction import ExtractionClient, ServedModel
from face_detection.gallery.directory import Directory
from face_detection.gallery.events import EventKind, Occasion
from face_detection.gallery.store import Description, Sample, Store
from face_detection.identification import Identifier, Recognised
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from face_detection.pool import GalleryPool
from face_detection.preparation import Encoded, Preparation, jpeg, largest_face
from face_detection.verification import Verification, compare
from shared.errors import DeadlinePassed, NotFound, ServiceError
from shared.geometry import Face
from shared.images import Pixels
from shared.settings import FrontSettings

T = TypeVar("T")

ANONYMOUS = Occasion()


@dataclass(frozen=True)
class Added:
    """A sample that was stored, the face it was made of, and how many faces the picture shows."""

    sample: Sample
    face: Face
    faces: int


@dataclass(frozen=True)
class EmbeddedFaces:
    """The faces of a picture in reading order, their (n, dimensions) float32 embeddings, and what made these."""

    model: ServedModel
    faces: Sequence[Face]
    vectors: NDArray[np.float32]


class Recognition:
    """The core of the front. Lives in one event loop.

    Args:
        preparation: pictures to crops.
        extraction: crops to embeddings.
        store: where samples are kept.
        directory: knows the tenants' settings.
        identifier: embeddings to people.
        journal: told what happened.
        pool: where searches run and the database is asked.
        settings: thresholds and time limits.
        metrics: told about stages and matches.
    """

    def __init__(
        self,
        preparation: Preparation,
        extraction: ExtractionClient,
        store: Store,
        directory: Directory,
        identifier: Identifier,
        journal: Journal,
        pool: GalleryPool,
        settings: FrontSettings,
        metrics: Metrics,
    ) -> None:
        self._preparation = preparation
        self._enroller = Enroller(preparation, self._embed)
        self._extraction = extraction
        self._store = store
        self._directory = directory
        self.identifier = identifier
        self._journal = journal
        self._pool = pool
        self._settings = settings
        self._metrics = metrics

    async def enrol(
        self,
        tenant: str,
        enrolments: Sequence[Enrolment],
        occasion: Occasion = ANONYMOUS,
        quota: int | None = None,
    ) -> list[Outcome]:
        """Enrol people with one photo each, of which the largest face is taken; ids must differ.

        Whoever is known gets the new photo instead of all former ones. Stored in one transaction. One bad picture
        fails alone. When the extraction service fails for all, the request fails.

        Args:
            tenant: whose gallery.
            enrolments: who, and the pictures.
            occasion: for the event log.
            quota: most samples that the tenant may have afterwards.

        Returns:
            What became of each enrolment, in order.

        Raises:
            NotFound: there is no such tenant, or it was deleted meanwhile.
            ExtractionError, Overloaded, StorageError, QuotaExceeded, DeadlinePassed: nothing was stored.
        """
        async with self._deadline(self._settings.batch_timeout):
            outcomes = await self._embed_photos(tenant, enrolments)
            embedded = [one for one in outcomes if isinstance(one, Embedded)]
            with self._metrics.stage("store"):
                await self._pool.run(lambda: self._store.upsert(tenant, [one.sample for one in embedded], quota))
        self._note_enrolled(tenant, embedded, occasion)
        return outcomes

    async def add(
        self,
        tenant: str,
        enrolments: Sequence[Enrolment],
        occasion: Occasion = ANONYMOUS,
        quota: int | None = None,
    ) -> list[Added | ServiceError]:
        """Give people further photos; several may be of one person.

        Whoever is not known is created; whoever is keeps name, metadata and action. Otherwise as ``enrol``.
        """
        async with self._deadline(self._settings.batch_timeout):
            outcomes = await self._embed_photos(tenant, enrolments)
            embedded = [one for one in outcomes if isinstance(one, Embedded)]
            with self._metrics.stage("store"):
                samples = await self._pool.run(lambda: self._store.add(tenant, [one.sample for one in embedded], quota))
        self._note_enrolled(tenant, embedded, occasion)
        stored = iter(samples)
        return [Added(next(stored), one.face, one.faces) if isinstance(one, Embedded) else one for one in outcomes]

    async def replace(
        self,
        tenant: str,
        number: int,
        picture: Encoded,
        occasion: Occasion = ANONYMOUS,
        description: Description | None = None,
    ) -> None:
        """Take the embedding of a sample from another picture, and say something else of its person if there is one.

        Raises:
            NotFound: there is no sample with this number.
            FaceNotFound: the picture shows no face.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        sample = await self._pool.run(lambda: self._store.sample(tenant, number))
        enrolment = Enrolment(sample.person.id, sample.person.name, picture)
        async with self._deadline(self._settings.request_timeout):
            (outcome,) = await self._embed_photos(tenant, [enrolment])
            if isinstance(outcome, ServiceError):
                raise outcome
            new = outcome.sample
            await self._pool.run(lambda: self._store.replace(tenant, number, new.space, new.vector, description))
        self._note_enrolled(tenant, [outcome], occasion)

    async def identify(
        self,
        tenant: str,
        picture: Encoded,
        min_distance: float | None = None,
        occasion: Occasion = ANONYMOUS,
        choose: Callable[[Sequence[Face]], Sequence[Face]] = lambda faces: faces,
        rule: Rule | None = None,
        closest: int = 0,
    ) -> list[Recognised]:
        """Say of each face of a picture, in reading order, who it is.

        Args:
            tenant: whose gallery.
            picture: encoded.
            min_distance: threshold; the tenant's when None.
            occasion: for the event log.
            choose: which faces; all, or ``largest_face``.
            rule: how to decide; the tenant's when None.
            closest: how many people to name as the closest to each face.

        Raises:
            FaceNotFound: ``largest_face`` was to be chosen, and there is none.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            prepared = await self._preparation.prepare(picture, model.card.alignment, choose)
            if not prepared.chosen:
                return []
            embeddings = await self._embed(prepared.crops, model)
            with self._metrics.stage("search"):
                return await self._pool.run(
                    lambda: self.identifier.name(
                        tenant, prepared, model, embeddings, min_distance, rule, occasion, closest
                    )
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
        return self._compare(model, embeddings, min_distance, [*one.chosen, *other.chosen])

    async def verify_person(
        self,
        tenant: str,
        id: str,
        picture: Encoded,
        min_distance: float | None = None,
        occasion: Occasion = ANONYMOUS,
    ) -> Verification:
        """Compare the largest face of a picture with the samples of a person, of which the nearest counts.

        Raises:
            NotFound: there is nobody with this id, or with samples of the model in use.
            FaceNotFound: the picture shows no face.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            samples = await self._pool.run(lambda: self._store.samples(tenant, id))
            vectors = [sample.vector for sample in samples if sample.space == model.space]
            if not vectors:
                raise NotFound("There is nobody with this id.")
            prepared = await self._preparation.prepare(picture, model.card.alignment, largest_face)
            embedding = await self._embed(prepared.crops, model)
            settings = await self._pool.run(lambda: self._directory.tenant(tenant).settings)
        own = settings.min_distance if min_distance is None else min_distance
        result = self._compare(model, np.concatenate([embedding, vectors]), own, prepared.chosen)
        if result.same:
            self._metrics.matches.inc()
            crop = jpeg(prepared.crops[0]) if settings.keep_crops else None
            self._journal.note(tenant, EventKind.RECOGNISED, id, result.distance, occasion, crop)
        return result

    async def detect(self, picture: Encoded) -> list[Face]:
        """The faces of a picture, in reading order. Needs no extraction service.

        Raises:
            ImageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.detect(picture)

    async def render(self, picture: Encoded, draw: Callable[[Pixels], T]) -> T:
        """Let ``draw`` work on a picture, see ``Preparation.render``; DeadlinePassed as for the others."""
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.render(picture, draw)

    async def embed_faces(self, picture: Encoded) -> EmbeddedFaces:
        """The faces of a picture with their embeddings. Nothing is searched, stored or logged.

        Raises:
            ImageError, ExtractionError, Overloaded, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            prepared = await self._preparation.prepare(picture, model.card.alignment)
            return EmbeddedFaces(model, prepared.chosen, await self._embed(prepared.crops, model))

    async def model(self) -> ServedModel:
        """The model that gives the embeddings.

        Raises:
            ExtractionError, DeadlinePassed: it cannot be told now.
        """
        return await self._extraction.model()

    async def close(self) -> None:
        """Finish what runs; store, journal and pool belong to whoever made them."""
        self._preparation.close()
        await self._extraction.close()

    async def _embed_photos(self, tenant: str, enrolments: Sequence[Enrolment]) -> list[Outcome]:
        model = await self._extraction.model()
        settings = await self._pool.run(lambda: self._directory.tenant(tenant).settings)
        return await self._enroller.embed(enrolments, model, settings.keep_crops)

    def _note_enrolled(self, tenant: str, embedded: Sequence[Embedded], occasion: Occasion) -> None:
        self._metrics.enrolled.inc(len(embedded))
        for one in embedded:
            self._journal.note(tenant, EventKind.ENROLLED, one.sample.id, None, occasion, one.crop)

    async def _embed(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        with self._metrics.stage("embed"):
            return await self._extraction.embed(crops, model)

    def _compare(
        self, model: ServedModel, embeddings: NDArray[np.float32], min_distance: float | None, faces: Sequence[Face]
    ) -> Verification:
        threshold = self.identifier.threshold(model) if min_distance is None else min_distance
        return compare(embeddings, self.identifier.metric(model), threshold, faces)

    @asynccontextmanager
    async def _deadline(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise DeadlinePassed(f"The request was not done within {seconds:g} seconds.") from error
