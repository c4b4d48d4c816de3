"""What the service does: enrol, identify, verify, detect. No HTTP and no SQL here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery import GalleryPool
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventKind, Occasion
from face_detection.gallery.people import Description, NewSample, Sample, Vector
from face_detection.gallery.sql.answers import Once
from face_detection.gallery.sql.directory import Directory
from face_detection.gallery.sql.store import Store, known_id
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from face_detection.recognition.choice import Choose, all_faces, clear_face, main_face
from face_detection.recognition.conflicts import Conflict
from face_detection.recognition.crops import Encoded, Preparation, Prepared, jpeg
from face_detection.recognition.decision import Rule, Verification, compare
from face_detection.recognition.enrolment import AS_SET, Embedded, Enroller, Enrolment, OfConflicts, Outcome, to_sample
from face_detection.recognition.examination import Examined, Examiner, Replaced
from face_detection.recognition.identification import Identifier, Recognised, reason_of
from face_detection.recognition.quality import Quality
from face_detection.recognition.thresholds import check_limit
from shared.calibration import Limit
from shared.errors import (
    DeadlinePassed,
    ExtractionError,
    LivenessUnavailable,
    NoPhotoOfModel,
    NotFound,
    SearchUnavailable,
    ServiceError,
    about,
)
from shared.geometry import Face
from shared.images import Pixels
from shared.models import Effort
from shared.settings import FrontSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

ANONYMOUS = Occasion()

Replaces = Callable[[Sequence[NewSample]], Replaced]
"""Which stored samples will be gone when new ones are stored."""


def _no_photos(new: Sequence[NewSample]) -> Replaced:
    """None: the new ones are stored beside what is there."""
    return lambda sample: False


def _former_photos(new: Sequence[NewSample]) -> Replaced:
    """Those of people who get the new one instead of all former ones."""
    ids = {sample.id for sample in new}
    return lambda sample: sample.person.id in ids


COMPARED = ("image1", "image2")
"""What the pictures of a verification are called in errors."""


@dataclass(frozen=True)
class Added:
    """A sample that was stored, and what it was made of: see ``Embedded``."""

    sample: Sample
    face: Face
    faces: int
    quality: Quality
    conflict: Conflict | None

    @classmethod
    def of(cls, sample: Sample, made_of: Embedded) -> Added:
        """A sample that was stored."""
        return cls(sample, made_of.face, made_of.faces, made_of.quality, made_of.conflict)


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
        self._enroller = Enroller(preparation, self._embed, settings.quality_enrol)
        self._examiner = Examiner(store, identifier)
        self._extraction = extraction
        self._store = store
        self._directory = directory
        self.identifier = identifier
        self._journal = journal
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._writing: set[asyncio.Task[Any]] = set()

    async def enrol(
        self,
        tenant: str,
        enrolments: Sequence[Enrolment],
        occasion: Occasion = ANONYMOUS,
        quota: int | None = None,
        once: Once[Sequence[Outcome]] | None = None,
    ) -> list[Outcome]:
        """Enrol people with one photo each; ids must differ.

        Whoever is known gets the new photo instead of all former ones. Stored in one transaction. One bad picture
        fails alone, and so does one that contradicts others where such are refused. When the extraction service fails
        for all, the request fails.

        Args:
            tenant: whose gallery.
            enrolments: who, and the pictures.
            occasion: for the event log.
            quota: most samples that the tenant may have afterwards.
            once: the request, if it is one that may be sent again; see ``gallery.sql.answers``.

        Returns:
            What became of each enrolment, in order.

        Raises:
            NotFound: there is no such tenant, or it was deleted meanwhile.
            Answered, KeyReused, AnswerDeleted: see ``once``; nothing was stored.
            ExtractionError, Overloaded, StorageError, QuotaExceeded, DeadlinePassed: nothing was stored.
        """
        async with self._deadline(self._settings.batch_timeout):
            outcomes = await self._embed_photos(tenant, enrolments, _former_photos)
        embedded = [one for one in outcomes if isinstance(one, Embedded)]
        new = [one.sample for one in embedded]
        kept: Once[Sequence[Sample]] | None = once.after(lambda samples: outcomes) if once else None
        await self._write(tenant, embedded, occasion, lambda: self._store.upsert(tenant, new, quota, kept))
        return outcomes

    async def add(
        self,
        tenant: str,
        enrolments: Sequence[Enrolment],
        occasion: Occasion = ANONYMOUS,
        quota: int | None = None,
        seconds: float | None = None,
        once: Once[Sequence[Added | ServiceError]] | None = None,
    ) -> list[Added | ServiceError]:
        """Give people further photos; several may be of one person.

        Whoever is not known is created; whoever is keeps name, metadata and action. Otherwise as ``enrol``;
        ``seconds`` limits the time until the photos are written, None as for a batch.
        """
        async with self._deadline(self._settings.batch_timeout if seconds is None else seconds):
            outcomes = await self._embed_photos(tenant, enrolments)
        return await self._add(tenant, outcomes, occasion, quota, once)

    async def identify_or_add(
        self,
        tenant: str,
        enrolment: Enrolment,
        limit: Limit | None = None,
        occasion: Occasion = ANONYMOUS,
        quota: int | None = None,
        once: Once[Sequence[Added | ServiceError]] | None = None,
    ) -> Recognised | list[Added | ServiceError]:
        """Say who the main face of a picture is, as ``identify`` does, and if that is nobody, add it, as ``add`` does.

        A face that fails the liveness check, where the tenant requires it, is nobody's and is not added.
        Whether another face may be meant as well matters only for who is added, for whom ``face`` is not asked.

        Raises:
            FaceNotFound, ImageError: the picture shows no face, or cannot be used.
            AmbiguousFace: nobody is recognised, and another face may be meant as well.
            LowQuality: nobody is recognised, and the face would make no good sample.
            Others: see ``identify`` and ``enrol``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            checks = await self._checks_liveness(tenant, False, model)
            prepared = await self._preparation.prepare(
                enrolment.picture, model.card.alignment, main_face, enrolment.effort, checks
            )
            embeddings, liveness = await self._examine(model, prepared)
            (found,) = await self._search(tenant, prepared, model, embeddings, limit, None, occasion, 0, liveness)
            if found.person or found.reason == "not_live":
                return found
            clear_face(prepared.faces, prepared)
            self._enroller.check(prepared)
            settings = await self._pool.run(lambda: self._directory.settings(tenant))
            outcome = to_sample(enrolment, prepared, model, embeddings[0], settings.keep_crops)
            outcomes = await self._compare_photos(tenant, model, [enrolment], [outcome])
        return await self._add(tenant, outcomes, occasion, quota, once)

    async def replace(
        self,
        tenant: str,
        number: int,
        picture: Encoded,
        occasion: Occasion = ANONYMOUS,
        description: Description | None = None,
        once: Once[Added] | None = None,
        face: Choose = clear_face,
        effort: Effort | None = None,
        conflicts: OfConflicts = AS_SET,
    ) -> Added:
        """Take the embedding of a sample from another picture, and say something else of its person if there is one.

        ``effort`` as for ``identify``, ``conflicts`` as for ``Enrolment``.

        Returns:
            The sample as it is then, and the face that was taken.

        Raises:
            Answered, KeyReused, AnswerDeleted: see ``enrol``.
            NotFound: there is no sample with this number.
            FaceNotFound, AmbiguousFace: the picture shows no face, or several that ``face`` cannot tell apart.
            LowQuality: the face would make no good sample.
            PhotoConflict: it contradicts others, and such are refused.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        sample = await self._pool.run(lambda: self._store.sample(tenant, number))
        enrolment = Enrolment(
            sample.person.id, sample.person.name, picture, face=face, effort=effort, conflicts=conflicts
        )
        async with self._deadline(self._settings.request_timeout):
            (outcome,) = await self._embed_photos(
                tenant, [enrolment], lambda new: lambda sample: sample.number == number
            )
        if isinstance(outcome, ServiceError):
            raise outcome
        new, made_of = outcome.sample, outcome
        kept: Once[Sequence[Sample]] | None = (
            once.after(lambda samples: Added.of(samples[0], made_of)) if once else None
        )
        replaced = await self._write(
            tenant,
            [outcome],
            occasion,
            lambda: self._store.replace(tenant, number, new.space, new.vector, description, kept),
        )
        return Added.of(replaced, outcome)

    async def identify(
        self,
        tenant: str,
        picture: Encoded,
        limit: Limit | None = None,
        occasion: Occasion = ANONYMOUS,
        choose: Choose = all_faces,
        rule: Rule | None = None,
        closest: int = 0,
        liveness: bool = False,
        effort: Effort | None = None,
    ) -> list[Recognised]:
        """Say of each face of a picture, in reading order, who it is.

        Args:
            tenant: whose gallery.
            picture: encoded.
            limit: threshold; the tenant's when None.
            occasion: for the event log.
            choose: which faces.
            rule: how to decide; the tenant's when None.
            closest: how many people to name as the closest to each face.
            liveness: whether faces are checked for being real; where the tenant requires it, they always are.
            effort: how hard to look for faces; as the setting says when None.

        Raises:
            FaceNotFound: the face that was to be chosen is not there.
            UnsupportedRate, NotCalibrated: see ``Identifier.find``.
            LivenessUnavailable: faces are to be checked, and nobody can.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            checks = await self._checks_liveness(tenant, liveness, model)
            prepared = await self._preparation.prepare(picture, model.card.alignment, choose, effort, checks)
            if not prepared.chosen:
                return []
            embeddings, scores = await self._examine(model, prepared)
            return await self._search(tenant, prepared, model, embeddings, limit, rule, occasion, closest, scores)

    async def verify(
        self,
        tenant: str,
        first: Encoded,
        second: Encoded,
        limit: Limit | None = None,
        faces: tuple[Choose, Choose] = (main_face, main_face),
        liveness: bool = False,
        effort: Effort | None = None,
    ) -> Verification:
        """Compare two faces: one of each picture, at the tenant's threshold when ``limit`` is None.

        With ``liveness``, or where the tenant requires it, both must be real. ``effort`` as for ``identify``.

        Raises:
            NotFound: there is no such tenant.
            UnsupportedRate, NotCalibrated: see ``Identifier.find``.
            LivenessUnavailable: faces are to be checked, and nobody can.
            FaceNotFound, ImageError: a picture, which is the error's ``input`` (``COMPARED``), shows no such face or
                cannot be used.
            ExtractionError, Overloaded, DeadlinePassed: see ``shared.errors``.
        """

        async def prepared(input: str, picture: Encoded, face: Choose) -> Prepared:
            with about(input):
                return await self._preparation.prepare(picture, model.card.alignment, face, effort, checks)

        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            checks = await self._checks_liveness(tenant, liveness, model)
            # Waits for both, so that of two bad pictures the first one is told.
            outcomes = await asyncio.gather(*map(prepared, COMPARED, (first, second), faces), return_exceptions=True)
            one, other = map(_result, outcomes)
            embeddings, scores = await self._examine(model, one, other)
            settings = await self._pool.run(lambda: self._directory.settings(tenant))
            return self._compare(model, embeddings, settings, limit, scores, one, other)

    async def verify_person(
        self,
        tenant: str,
        id: str,
        picture: Encoded,
        limit: Limit | None = None,
        occasion: Occasion = ANONYMOUS,
        face: Choose = main_face,
        liveness: bool = False,
        effort: Effort | None = None,
    ) -> Verification:
        """Compare a face of a picture with the samples of a person, of which the nearest counts.

        With ``liveness``, or where the tenant requires it, the face must be real. ``effort`` as for ``identify``.

        Raises:
            LivenessUnavailable: the face is to be checked, and nobody can.
            NotFound: there is nobody with this id.
            NoPhotoOfModel: nobody with photos of the model in use.
            UnsupportedRate, NotCalibrated: see ``Identifier.find``.
            FaceNotFound: the picture shows no such face.
            ImageError, ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            await self._pool.run(lambda: self._vectors(tenant, id, model))
            checks = await self._checks_liveness(tenant, liveness, model)
            prepared = await self._preparation.prepare(picture, model.card.alignment, face, effort, checks)
            embedding, scores = await self._examine(model, prepared)
            vectors, settings = await self._pool.run(  # as they are by now
                lambda: (self._vectors(tenant, id, model), self._directory.settings(tenant))
            )
            result = self._compare(model, np.concatenate([embedding, vectors]), settings, limit, scores, prepared)
        if result.same:
            self._metrics.matches.inc()
            crop = jpeg(prepared.portraits[0]) if settings.keep_crops else None
            self._journal.note(tenant, EventKind.RECOGNISED, id, result.distance, occasion, crop)
        return result

    def _vectors(self, tenant: str, id: str, model: ServedModel) -> list[Vector]:
        samples = self._store.samples(tenant, known_id(self._store, tenant, id))
        if not samples:
            raise NotFound("There is nobody with this id.")
        vectors = [sample.vector for sample in samples if sample.space == model.space]
        if not vectors:
            raise NoPhotoOfModel("The person has no photo of the model in use: add one, or use the former model.")
        return vectors

    async def detect(self, picture: Encoded, effort: Effort | None = None) -> list[Face]:
        """The faces of a picture, in reading order. Needs no extraction service.

        ``effort`` as for ``identify``.

        Raises:
            ImageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.detect(picture, effort)

    async def assess(self, picture: Encoded, effort: Effort | None = None) -> list[tuple[Face, Quality]]:
        """The same with how well each face can be recognised."""
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.assess(picture, effort)

    async def examine(self, tenant: str, after: int, limit: int) -> Examined:
        """Which stored samples contradict others, a part of them; see ``Examiner.stored``.

        Raises:
            ExtractionError, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            return await self._pool.run(lambda: self._examiner.stored(tenant, model, after, limit))

    async def render(self, picture: Encoded, draw: Callable[[Pixels], T]) -> T:
        """Let ``draw`` work on a picture, see ``Preparation.render``; DeadlinePassed as for the others."""
        async with self._deadline(self._settings.request_timeout):
            return await self._preparation.render(picture, draw)

    async def embed_faces(self, picture: Encoded, effort: Effort | None = None) -> EmbeddedFaces:
        """The faces of a picture with their embeddings. Nothing is searched, stored or logged.

        ``effort`` as for ``identify``.

        Raises:
            ImageError, ExtractionError, Overloaded, DeadlinePassed: see ``shared.errors``.
        """
        async with self._deadline(self._settings.request_timeout):
            model = await self._extraction.model()
            prepared = await self._preparation.prepare(picture, model.card.alignment, effort=effort)
            return EmbeddedFaces(model, prepared.chosen, await self._embed(prepared.crops, model))

    async def model(self) -> ServedModel:
        """The model that gives the embeddings.

        Raises:
            ExtractionError, DeadlinePassed: it cannot be told now.
        """
        return await self._extraction.model()

    async def check_limit(self, settings: TenantSettings) -> None:
        """Refuse the threshold of a tenant if it is a rate that the model in use knows nothing of.

        While no model is known nothing is refused: settings can be changed all the same.

        Raises:
            UnsupportedRate, NotCalibrated: see ``thresholds.check_limit``.
        """
        with suppress(ExtractionError, DeadlinePassed):
            async with self._deadline(self._settings.request_timeout):
                model = await self._extraction.model()
            check_limit(settings.limit, self.identifier.curve(model, settings))

    async def close(self, seconds: float) -> None:
        """Finish what is being written, for so many seconds; store, journal and pool belong to whoever made them."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=seconds)
        self._preparation.close()
        await self._extraction.close()

    async def _embed_photos(
        self, tenant: str, enrolments: Sequence[Enrolment], replaces: Replaces = _no_photos
    ) -> list[Outcome]:
        """What became of each photo; ``replaces`` says which samples go when some are stored."""
        model = await self._extraction.model()
        settings = await self._pool.run(lambda: self._directory.settings(tenant))
        outcomes = await self._enroller.embed(enrolments, model, settings.keep_crops)
        return await self._compare_photos(tenant, model, enrolments, outcomes, replaces)

    async def _compare_photos(
        self,
        tenant: str,
        model: ServedModel,
        enrolments: Sequence[Enrolment],
        outcomes: Sequence[Outcome],
        replaces: Replaces = _no_photos,
    ) -> list[Outcome]:
        """The same with what contradicts others; while nothing can be searched, only those fail that would be refused.

        An index elsewhere may be away for long, and people can be enrolled all the same.
        """
        refusing = [(item.conflicts.action or self._settings.on_conflict) == "refuse" for item in enrolments]
        compared = list(outcomes)
        while photos := {at: one for at, one in enumerate(compared) if isinstance(one, Embedded)}:
            new = [one.sample for one in photos.values()]
            try:
                with self._metrics.stage("search"):
                    found = await self._pool.run(partial(self._examiner.of_new, tenant, model, new, replaces(new)))
            except SearchUnavailable as error:
                log.warning("new photos were not compared with others: %s", error.message)
                return [error if at in photos and refusing[at] else one for at, one in enumerate(compared)]
            conflicts = dict(zip(photos, found, strict=True))
            refused = [at for at, one in conflicts.items() if refusing[at] and one]
            # First those that contradict what is stored. What is refused replaces nothing and contradicts nobody, so
            # the rest is compared again without it.
            refused = [at for at in refused if (one := conflicts[at]) and one.is_with_stored] or refused
            for at in refused or photos:
                compared[at] = photos[at].judged(conflicts[at], enrolments[at].conflicts.names, refusing[at])
            if not refused:
                break
        return compared

    async def _search(
        self,
        tenant: str,
        prepared: Prepared,
        model: ServedModel,
        embeddings: NDArray[np.float32],
        limit: Limit | None,
        rule: Rule | None,
        occasion: Occasion,
        closest: int,
        liveness: Sequence[float] | None,
    ) -> list[Recognised]:
        with self._metrics.stage("search"):
            return await self._pool.run(
                lambda: self.identifier.name(
                    tenant, prepared, model, embeddings, limit, rule, occasion, closest, liveness
                )
            )

    async def _add(
        self,
        tenant: str,
        outcomes: Sequence[Outcome],
        occasion: Occasion,
        quota: int | None,
        once: Once[Sequence[Added | ServiceError]] | None,
    ) -> list[Added | ServiceError]:
        embedded = [one for one in outcomes if isinstance(one, Embedded)]
        new = [one.sample for one in embedded]

        def added(samples: Sequence[Sample]) -> list[Added | ServiceError]:
            rest = iter(samples)
            return [Added.of(next(rest), one) if isinstance(one, Embedded) else one for one in outcomes]

        kept: Once[Sequence[Sample]] | None = once.after(added) if once else None
        return added(await self._write(tenant, embedded, occasion, lambda: self._store.add(tenant, new, quota, kept)))

    async def _write(self, tenant: str, embedded: Sequence[Embedded], occasion: Occasion, write: Callable[[], T]) -> T:
        """Store what was embedded, and say so: nothing ends this half-way.

        A thread cannot be stopped, so it would store what the answer to a deadline says was not stored. Therefore no
        deadline is set for it (the database's own limits are its end), and whoever cancels the caller waits for it.
        """

        async def run() -> T:
            with self._metrics.stage("store"):
                stored = await self._pool.write(write)
            self._metrics.enrolled.inc(len(embedded))
            for one in embedded:
                self._journal.note(tenant, EventKind.ENROLLED, one.sample.id, None, occasion, one.crop)
            return stored

        writing = asyncio.create_task(run())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    async def _embed(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        with self._metrics.stage("embed"):
            return await self._extraction.embed(crops, model)

    async def _examine(self, model: ServedModel, *pictures: Prepared) -> tuple[NDArray[np.float32], list[float] | None]:
        """Embeddings of the faces of pictures, and their scores where they were prepared for the liveness check."""
        crops = np.concatenate([one.crops for one in pictures])
        views = [one.views for one in pictures if one.views is not None]
        with self._metrics.stage("embed"):
            return await self._extraction.examine(crops, np.concatenate(views) if views else None, model)

    async def _checks_liveness(self, tenant: str, asked: bool, model: ServedModel) -> bool:
        """Whether faces are checked for being real: since a request asks for it, or since it is required.

        Where no worker was seen to have the check, whoever requires it is refused later, see ``refuse_unchecked``.
        """
        if asked or not model.liveness:
            return asked
        return await self._pool.run(lambda: self.identifier.requires_liveness(tenant))

    def _compare(
        self,
        model: ServedModel,
        embeddings: NDArray[np.float32],
        settings: TenantSettings,
        limit: Limit | None,
        liveness: Sequence[float] | None,
        *pictures: Prepared,
    ) -> Verification:
        identifier = self.identifier
        identifier.refuse_unchecked(settings, liveness)
        wanted, curve = identifier.limit(model, settings, limit), identifier.curve(model, settings)
        faces = [face for picture in pictures for face in picture.chosen]
        qualities = [quality for picture in pictures for quality in picture.qualities]
        reason, tolerance = reason_of(qualities, liveness), min(quality.tolerance for quality in qualities)
        return compare(
            embeddings, identifier.metric(model), wanted, curve, faces, qualities, reason, liveness, tolerance
        )

    @asynccontextmanager
    async def _deadline(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise DeadlinePassed(f"The request was not done within {seconds:g} seconds.") from error
        except LivenessUnavailable:
            self._extraction.look_again()
            raise


def _result(outcome: T | BaseException) -> T:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
