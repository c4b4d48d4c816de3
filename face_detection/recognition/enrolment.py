"""From a batch of photos to samples that can be stored: what does not work out fails alone, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_detection.extraction.client import ServedModel
from face_detection.gallery.people import NewSample
from face_detection.recognition.choice import Choose, clear_face
from face_detection.recognition.conflicts import Conflict
from face_detection.recognition.crops import Encoded, Preparation, Prepared, jpeg
from face_detection.recognition.quality import Quality, check
from shared.errors import DeadlinePassed, ExtractionError, InvalidRequest, Overloaded, PhotoConflict, ServiceError
from shared.geometry import Face
from shared.models import Effort, OnConflict
from shared.settings import Strictness


@dataclass(frozen=True)
class OfConflicts:
    """What becomes of a photo that contradicts others, see ``conflicts.judge``.

    Attributes:
        action: whether it is stored; as the setting says when None.
        names: whether it may be told who somebody else is.
    """

    action: OnConflict | None = None
    names: bool = True


AS_SET = OfConflicts()

Embed = Callable[[NDArray[np.uint8], ServedModel], Awaitable[NDArray[np.float32]]]

_CHUNK = 32
"""Samples of a batch that are embedded in one call."""

_CHUNKS_AT_ONCE = 2
"""While one chunk is embedded, the next one is decoded and searched for faces."""


@dataclass(frozen=True)
class Enrolment:
    """A sample to be: whose face, the picture that shows it, which of its faces it is, and how hard to look for it."""

    id: str
    name: str
    picture: Encoded
    metadata: Any = None
    action: str | None = None
    face: Choose = clear_face
    effort: Effort | None = None
    conflicts: OfConflicts = AS_SET


@dataclass(frozen=True)
class Embedded:
    """A sample that can be stored.

    Attributes:
        sample: with the embedding of the face.
        face: the one that was taken.
        faces: how many the picture shows.
        quality: how well that one can be recognised.
        crop: JPEG of the aligned face, if that was asked for.
        conflict: with what it is stored all the same.
    """

    sample: NewSample
    face: Face
    faces: int
    quality: Quality
    crop: bytes | None = None
    conflict: Conflict | None = None

    def judged(self, conflict: Conflict | None, names: bool, refuses: bool) -> Outcome:
        """What becomes of it with a conflict; ``names`` says whether it may be told who somebody else is."""
        if conflict is None:
            return self
        if conflict.kind == "nearer_to_other" and not names:
            conflict = replace(conflict, near=None)
        if refuses:
            return PhotoConflict(conflict.text, conflict.members)
        return replace(self, conflict=conflict)


Outcome = Embedded | ServiceError
"""What became of an enrolment; an error as a value, so that one bad picture does not end its siblings."""


class Enroller:
    """Prepares and embeds batches.

    Args:
        preparation: pictures to crops.
        embed: crops to embeddings.
        strictness: of what faces must have.
    """

    def __init__(self, preparation: Preparation, embed: Embed, strictness: Strictness) -> None:
        self._preparation = preparation
        self._embed = embed
        self._strictness = strictness

    async def embed(
        self, enrolments: Sequence[Enrolment], model: ServedModel, keep_crops: bool = False
    ) -> list[Outcome]:
        """Embed the face of each picture that is meant.

        Returns:
            What became of each enrolment, in order.

        Raises:
            ExtractionError, DeadlinePassed: no picture could be embedded, for want of the extraction service.
        """
        gate = asyncio.Semaphore(_CHUNKS_AT_ONCE)
        embed_crops = self._embed_patiently if len(enrolments) > 1 else self._embed

        async def run(chunk: Sequence[Enrolment]) -> list[Outcome]:
            async with gate:
                return await self._embed_chunk(chunk, model, embed_crops, keep_crops)

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(run(enrolments[start : start + _CHUNK]))
                for start in range(0, len(enrolments), _CHUNK)
            ]
        outcomes = [outcome for task in tasks for outcome in task.result()]
        _raise_if_extraction_failed_for_all(outcomes)
        return outcomes

    async def _embed_chunk(
        self, enrolments: Sequence[Enrolment], model: ServedModel, embed_crops: Embed, keep_crops: bool
    ) -> list[Outcome]:
        """What became of each enrolment, in order."""
        prepared = await asyncio.gather(*(self._prepare(item, model) for item in enrolments))
        usable = [outcome for outcome in prepared if isinstance(outcome, Prepared)]
        vectors: list[NDArray[np.float32]] = []
        failure: ServiceError | None = None
        if usable:
            try:
                crops = np.concatenate([one.crops for one in usable])
                vectors = list(await embed_crops(crops, model))
            except (ExtractionError, DeadlinePassed) as error:
                failure = error
        rows = iter(vectors)
        return [
            outcome
            if isinstance(outcome, ServiceError)
            else failure or to_sample(item, outcome, model, next(rows), keep_crops)
            for item, outcome in zip(enrolments, prepared, strict=True)
        ]

    async def _embed_patiently(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        """A batch has time: while the extraction service is busy, wait as it asks. The batch's deadline ends it."""
        while True:
            try:
                return await self._embed(crops, model)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after or 1)

    async def _prepare(self, item: Enrolment, model: ServedModel) -> Prepared | ServiceError:
        try:
            prepared = await self._preparation.prepare(item.picture, model.card.alignment, item.face, item.effort)
            self.check(prepared)
            return prepared
        except ServiceError as error:
            return error

    def check(self, prepared: Prepared) -> None:
        """Refuse a face that would make no good sample.

        Raises:
            LowQuality: in what it is too bad.
        """
        for face, quality in zip(prepared.chosen, prepared.qualities, strict=True):
            check(face, quality, self._strictness)


def to_sample(
    item: Enrolment, prepared: Prepared, model: ServedModel, vector: NDArray[np.float32], keep_crop: bool
) -> Outcome:
    """The sample that an enrolment comes to.

    Args:
        item: whose.
        prepared: its picture, and the one face that was chosen.
        model: what made the embedding.
        vector: (dimensions,) float32, the embedding.
        keep_crop: whether the aligned face is wanted.
    """
    try:
        sample = NewSample(item.id, item.name, item.metadata, model.space, vector, item.action)
    except InvalidRequest as error:
        return error
    crop = jpeg(prepared.portraits[0]) if keep_crop else None
    return Embedded(sample, prepared.chosen[0], len(prepared.faces), prepared.qualities[0], crop)


def _raise_if_extraction_failed_for_all(outcomes: Sequence[Outcome]) -> None:
    failures = [one for one in outcomes if isinstance(one, (ExtractionError, DeadlinePassed))]
    if failures and not any(isinstance(one, Embedded) for one in outcomes):
        raise failures[0]
