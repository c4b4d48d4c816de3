"""Live recognition: the frames of a video one after the other, names that hold from frame to frame. No HTTP here."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery import GalleryPool
from face_detection.gallery.events import Occasion
from face_detection.gallery.people import Person
from face_detection.gallery.search.distances import distances, prepare
from face_detection.live.tracking import Ballot, Sighting, Track, Tracker
from face_detection.live.visits import LEAVE_AFTER, Views, Visits
from face_detection.metrics import Metrics
from face_detection.recognition.crops import Preparation, Prepared
from face_detection.recognition.decision import Reason
from face_detection.recognition.identification import Identifier, Recognised, reason_of
from face_detection.recognition.quality import Quality
from shared.calibration import Limit
from shared.errors import DeadlinePassed
from shared.geometry import Angle, Box, Face
from shared.images import Pixels

Vector = NDArray[np.float32]

_KEPT_VECTORS = 3
_KEPT_SCORES = 5
_ANOTHER = 1.25
"""An embedding that is further than this many thresholds of the model from the latest ones of its track is of another
face: on real clips 95 of 100 pairs of one face a second apart were within that, two faces at a cut were at 1.48."""

_LOOK_AGAIN = 1.0
"""Seconds after which the people who are shown are looked up again: one may have been deleted or renamed."""


@dataclass(frozen=True)
class LiveFace:
    """A face of a frame and who it is by all that was seen of it.

    Attributes:
        track: number that the face keeps from frame to frame.
        box: in pixels of the upright frame.
        angle: see ``Face.angle``; as it was when the face was last looked at.
        person: who it is, None while that is unknown.
        reason: why nobody can be named, see ``Recognised``: so it was when the face was last compared.
        quality: how well it could be recognised then; None before.
        liveness: the mean of its latest scores of the liveness check; None where it was not asked.
        distance: the latest that spoke for this answer; None before the first embedding and in an empty gallery.
        trust: 0 to 100, see ``decision.trust``.
        threshold, threshold_rate, false_match_rate, margin, ambiguous: of the same finding, see ``Recognised``;
            ``threshold`` is None before the first embedding.
        firm: whether several embeddings agree.
        visit: number of the visit of that person or stranger; None before it is sure who it is.
        embedded: whether it was embedded for this frame.
    """

    track: int
    box: Box
    angle: Angle
    person: Person | None
    reason: Reason | None
    quality: Quality | None
    liveness: float | None
    distance: float | None
    trust: float
    threshold: float | None
    threshold_rate: float | None
    false_match_rate: float | None
    margin: float | None
    ambiguous: bool
    firm: bool
    visit: int | None
    embedded: bool


@dataclass(frozen=True)
class LiveResult:
    """A frame: its size in pixels, upright, and its faces in reading order."""

    width: int
    height: int
    faces: Sequence[LiveFace]


@dataclass
class _Identity:
    """What was found out about a track.

    Attributes:
        found: the latest finding for each answer, by the person's id; None is for nobody.
        vectors: the latest embeddings.
        quality: of the face of the last of them.
        latest: the latest finding, which did not count if it has a reason.
        scores: the latest of the liveness check.
    """

    found: dict[str | None, Recognised] = field(default_factory=dict)
    vectors: deque[Vector] = field(default_factory=lambda: deque(maxlen=_KEPT_VECTORS))
    quality: Quality | None = None
    latest: Recognised | None = None
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT_SCORES))

    @property
    def liveness(self) -> float | None:
        """By all of them: one frame in which a person looks like a picture changes nothing, nor does the reverse."""
        return sum(self.scores) / len(self.scores) if self.scores else None


@dataclass
class _Look:
    """The tracks that a frame shows, and those of them whose faces are embedded."""

    seen: list[Track]
    asked: list[Track]


@dataclass(frozen=True)
class LiveRecognition:
    """What all sessions share.

    Attributes:
        preparation: frames to crops.
        extraction: crops to embeddings.
        identifier: embeddings to people, and to events.
        pool: where searches run.
        metrics: told about stages.
        timeout: seconds within which a frame must be done.
    """

    preparation: Preparation
    extraction: ExtractionClient
    identifier: Identifier
    pool: GalleryPool
    metrics: Metrics
    timeout: float


class LiveSession:
    """One video. ``process`` its frames one at a time.

    An event is noted for each visit, when it is sure who comes.

    Attributes:
        occasion: for the event log, may be changed.
        visits: who is there; ``patience`` may be changed.
        liveness: whether faces are checked for being real, may be changed; where the tenant requires it, they always
            are.

    Args:
        shared: what does the work.
        tenant: whose gallery.
        occasion: for the event log.
        limit: threshold; the tenant's when None.
        liveness: see above.
        clock: gives seconds, never less than before.
    """

    def __init__(
        self,
        shared: LiveRecognition,
        tenant: str,
        occasion: Occasion,
        limit: Limit | None = None,
        liveness: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.occasion = occasion
        self._shared = shared
        self._tenant = tenant
        self._limit = limit
        self.liveness = liveness
        self._checks = liveness
        self._clock = clock
        self._tracker = Tracker()
        # A frame that ran out of time may still be looked at in its thread when the next one comes.
        self._tracking = threading.Lock()
        self._identities: dict[int, _Identity] = {}
        self.visits = Visits(LEAVE_AFTER)
        self._space: str | None = None
        self._now = 0.0
        self._looked = clock()

    @property
    def limit(self) -> Limit | None:
        """Threshold; setting another one lets all faces be recognised anew."""
        return self._limit

    @limit.setter
    def limit(self, value: Limit | None) -> None:
        if value != self._limit:
            self._limit = value
            self._forget_all()

    async def process(self, frame: bytes, at: float | None = None) -> LiveResult:
        """Say who is on the next frame.

        Args:
            frame: an encoded picture.
            at: its time in seconds, for a recording; the clock's when None. All frames of a session have one or none.

        Raises:
            ImageError: the frame cannot be used; the next one may be.
            LivenessUnavailable: faces are to be checked, and nobody can.
            ExtractionError, Overloaded, StorageError, DeadlinePassed: see ``shared.errors``.
        """
        try:
            async with asyncio.timeout(self._shared.timeout):
                return await self._process(frame, at)
        except TimeoutError as error:
            raise DeadlinePassed(f"The frame was not done within {self._shared.timeout:g} seconds.") from error

    async def _process(self, frame: bytes, at: float | None) -> LiveResult:
        shared = self._shared
        model = await shared.extraction.model()
        if model.space != self._space:
            self._space = model.space
            self._identities = {}
            self.visits.forget_strangers()
            self._forget_all()
        looks: list[_Look] = []

        def choose(faces: Sequence[Face], crops: Pixels) -> Sequence[int]:
            look = self._look(faces, crops, at)
            looks.append(look)
            rows = {track.number: row for row, track in enumerate(look.seen)}
            return [rows[track.number] for track in look.asked]

        await self._decide_on_checks()
        prepared = await shared.preparation.prepare_frame(frame, model.card.alignment, choose, self._checks)
        (look,) = looks
        self.visits.see({track.number: track.ballot.leader for track in look.seen}, self._now)
        if look.asked:
            await self._recognise(look, prepared, model)
        await self._look_up_again(model)
        asked = {track.number for track in look.asked}
        faces = [self._face(track, track.number in asked) for track in look.seen]
        return LiveResult(prepared.width, prepared.height, faces)

    async def _decide_on_checks(self) -> None:
        """See whether faces are checked for being real; where that changes, all are recognised anew."""
        identifier = self._shared.identifier
        checks = self.liveness or await self._shared.pool.run(lambda: identifier.requires_liveness(self._tenant))
        if checks != self._checks:
            self._checks = checks
            self._identities = {}
            self._forget_all()

    def _look(self, faces: Sequence[Face], crops: Pixels, at: float | None) -> _Look:
        """Follow the faces and choose those to be embedded, in a thread of the preparation."""
        sightings = [Sighting.of(face, crop) for face, crop in zip(faces, crops, strict=True)]
        with self._tracking:
            self._now = max(self._now, self._clock() if at is None else at)
            seen = self._tracker.update(sightings, self._now)
            return _Look(seen, self._tracker.choose(seen, self._now))

    async def _recognise(self, look: _Look, prepared: Prepared, model: ServedModel) -> None:
        shared = self._shared
        with shared.metrics.stage("embed"):
            embeddings, scores = await shared.extraction.examine(prepared.crops, prepared.views, model)
        self._drop_lost()
        spoilt = [reason_of([quality], None) is not None for quality in prepared.qualities]
        for track, vector, unclear in zip(look.asked, embeddings, spoilt, strict=True):
            if not unclear and self._is_another(track, vector, model):
                self._tracker.renew(track)
        identities = [self._identities.setdefault(track.number, _Identity()) for track in look.asked]
        for identity, score in zip(identities, scores or (), strict=scores is not None):
            identity.scores.append(score)
        with shared.metrics.stage("search"):
            found = await self._find(prepared.chosen, prepared.qualities, embeddings, model, identities)

        def is_one(some: Views, others: Views) -> bool:
            return self._apart(some, others, model) < 1

        news: list[int] = []
        seen = zip(look.asked, identities, found, embeddings, strict=True)
        for row, (track, identity, one, vector) in enumerate(seen):
            identity.latest = one
            if one.reason == "low_quality":  # what was found out before still holds
                continue
            who = _count(one, track, identity)
            identity.vectors.append(vector)
            identity.quality = one.quality
            is_sure = track.ballot.firm and track.ballot.leader == who
            views = [*identity.vectors]
            if is_sure and self.visits.ascertain(track.number, who, views, self._now, is_one):
                news.append(row)
        if news:
            told = [found[row] for row in news]
            await shared.pool.run(
                lambda: shared.identifier.note(self._tenant, told, prepared.portraits[news], self.occasion)
            )

    async def _find(
        self,
        faces: Sequence[Face],
        qualities: Sequence[Quality],
        embeddings: NDArray[np.float32],
        model: ServedModel,
        identities: Sequence[_Identity],
    ) -> list[Recognised]:
        identifier = self._shared.identifier
        scores = [one.liveness or 0.0 for one in identities] if self._checks else None
        return await self._shared.pool.run(
            lambda: identifier.find(self._tenant, faces, qualities, model, embeddings, self._limit, liveness=scores)
        )

    def _is_another(self, track: Track, vector: Vector, model: ServedModel) -> bool:
        """Whether a track has gone over to another face."""
        identity = self._identities.get(track.number)
        if identity is None or not identity.vectors:
            return False
        return self._apart([vector], identity.vectors, model) > _ANOTHER

    def _apart(self, some: Views, others: Views, model: ServedModel) -> float:
        """Smallest distance between embeddings of two faces, in thresholds of the model."""
        metric = self._shared.identifier.metric(model)
        rows = prepare(np.stack(others), metric)
        least = min(float(distances(rows, probe, metric).min()) for probe in prepare(np.stack(some), metric))
        return least / model.card.threshold(metric).distance

    async def _look_up_again(self, model: ServedModel) -> None:
        """Take names and metadata as they are now; a face whose sample was deleted or replaced is compared anew."""
        now = self._clock()
        if now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        keys = {one.sample.key for each in self._identities.values() for one in each.found.values() if one.sample}
        if not keys:
            return
        samples = await self._shared.pool.run(lambda: self._shared.identifier.current(self._tenant, keys))
        outdated: dict[int, Track] = {}
        for track in self._tracker.tracks:
            found = self._identities.get(track.number, _Identity()).found
            for who, one in list(found.items()):
                if one.sample is None or who is None:
                    continue
                sample = samples.get(one.sample.key)
                if sample and sample.person.id == who and np.array_equal(sample.vector, one.sample.vector):
                    found[who] = replace(one, sample=sample)
                else:
                    del found[who]
                    track.ballot.forget(who)
                    outdated[track.number] = track
        if outdated:
            await self._compare_again(list(outdated.values()), model)

    async def _compare_again(self, tracks: Sequence[Track], model: ServedModel) -> None:
        """Say anew who faces are, by the latest embedding of each."""
        faces = [track.sighting.face for track in tracks]
        identities = [self._identities[track.number] for track in tracks]
        qualities = [one.quality for one in identities if one.quality is not None]
        embeddings = np.stack([one.vectors[-1] for one in identities])
        found = await self._find(faces, qualities, embeddings, model, identities)
        for track, one, identity in zip(tracks, found, identities, strict=True):
            _count(one, track, identity)

    def _face(self, track: Track, embedded: bool) -> LiveFace:
        identity = self._identities.get(track.number)
        one = identity.found.get(track.ballot.leader) if identity else None
        latest = identity.latest if identity else None
        if latest and latest.reason == "not_live":  # whoever it was before: a picture may have taken the place
            one = None
        return LiveFace(
            track.number,
            track.box,
            track.sighting.face.angle,
            one.person if one else None,
            latest.reason if latest and not (one and one.person) else None,
            latest.quality if latest else None,
            identity.liveness if identity else None,
            one.distance if one else None,
            one.trust if one else 0.0,
            one.threshold if one else None,
            one.threshold_rate if one else None,
            one.false_match_rate if one else None,
            one.margin if one else None,
            one.ambiguous if one else False,
            track.ballot.firm,
            self.visits.number(track.number, track.ballot.leader),
            embedded,
        )

    def _drop_lost(self) -> None:
        kept = {track.number for track in self._tracker.tracks}
        self._identities = {number: one for number, one in self._identities.items() if number in kept}

    def _forget_all(self) -> None:
        with self._tracking:
            for track in self._tracker.tracks:
                track.ballot = Ballot()


def _count(one: Recognised, track: Track, identity: _Identity) -> str | None:
    """Let a finding vote for who a face is, whose id is returned."""
    who = one.person.id if one.person else None
    track.ballot.vote(who, one.distance, one.threshold)
    identity.found[who] = one
    return who
