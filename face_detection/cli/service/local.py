"""The gallery of the settings in this process, without a running service or beside one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from face_detection.app import build_core
from face_detection.cli.service.protocol import (
    DISTANCE_DIGITS,
    Comparison,
    Encoding,
    Enrolled,
    Faces,
    How,
    Look,
    Outcome,
    Photo,
    Record,
    Seen,
    Service,
    StoredPhoto,
)
from face_detection.cli.service.remote import extraction_status
from face_detection.gallery.directory import Calibration
from face_detection.gallery.events import Event, EventFilter
from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Description, NewSample, Person
from face_detection.naming import composed
from face_detection.recognition.choice import Choose, clear_face, main_face, parse_choice
from face_detection.recognition.enrolment import Embedded, Enrolment, OfConflicts
from face_detection.recognition.identification import Recognised
from face_detection.recognition.service import Added
from shared.calibration import Curve, short_rate
from shared.errors import FaceNotFound, NotFound, ServiceError, SettingsError, StartupError
from shared.geometry import largest
from shared.models import YUNET, Effort, Metric
from shared.service_process import ServiceProcess, fetch_weights, free_port
from shared.settings import FrontSettings

T = TypeVar("T")

_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_START_SECONDS = 900
"""The first start may download the model's weights."""

_LONGEST_REASON = 300


class LocalService(Service):
    """The gallery of the settings in this process.

    The extraction service of the settings is used when it answers; otherwise ``prepare`` starts one for as long as this
    lives.

    Args:
        settings: of the front.
        company: whose gallery.

    Raises:
        StartupError: the database or the detector cannot be used.
        NotFound: there is no such company.
    """

    def __init__(self, settings: FrontSettings, company: str) -> None:
        if settings.database == ":memory:":
            raise SettingsError("DATABASE=:memory: ends with the process: name the service's file.")
        self._tenant = company
        self._own: ExtractionProcess | None = None
        if all(extraction_status(url) is None for url in settings.extraction_urls):
            self._own = ExtractionProcess(os.environ)
            settings = settings.model_copy(update={"extraction_url": self._own.url})
        if not (settings.weights / YUNET.file).is_file():
            fetch_weights(os.environ, YUNET.name, stdout=subprocess.DEVNULL)
        self._core = build_core(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="core", daemon=True)
        self._thread.start()
        self._core.journal.start()
        try:
            self._core.gallery.directory.tenant(company)
        except ServiceError:
            self.close()
            raise

    @override
    def prepare(self) -> None:
        if self._own is not None:
            self._own.ensure_ready()
        self._run(self._core.readiness.check())

    @override
    def enrol(self, photos: Sequence[Photo]) -> Sequence[Outcome]:
        enrolments = [_enrolment(photo) for photo in photos]
        outcomes = self._run(self._core.recognition.enrol(self._tenant, enrolments))
        return [_stored(one) for one in outcomes]

    @override
    def add(self, id: str, name: str, pictures: Sequence[bytes], look: Look = Look()) -> Sequence[Outcome]:
        enrolments = [_enrolment(Photo(id, name, picture, look)) for picture in pictures]
        outcomes = self._run(self._core.recognition.add(self._tenant, enrolments))
        return [_stored(one) for one in outcomes]

    @override
    def recognise(self, picture: bytes, how: How = How()) -> Sequence[Seen]:
        found = self._run(
            self._core.recognition.identify(
                self._tenant, picture, how.limit, liveness=how.liveness, effort=how.detection
            )
        )
        return [_seen(one) for one in found]

    @override
    def verify(self, first: bytes, second: bytes, how: How = How(), faces: Faces = (None, None)) -> Comparison:
        one, other = (_choice(face, main_face) for face in faces)
        found = self._run(
            self._core.recognition.verify(
                self._tenant, first, second, how.limit, (one, other), how.liveness, how.detection
            )
        )
        boxes = found.faces[0].box, found.faces[1].box
        scores = None if found.liveness is None else (round(found.liveness[0], 4), round(found.liveness[1], 4))
        distance, rate = round(found.distance, DISTANCE_DIGITS), short_rate(found.false_match_rate)
        qualities = round(found.qualities[0].value, 4), round(found.qualities[1].value, 4)
        return Comparison(found.same, distance, found.threshold, rate, boxes, qualities, found.reason, scores)

    @override
    def encode(self, picture: bytes, detection: Effort | None = None) -> Encoding:
        found = self._run(self._core.recognition.embed_faces(picture, detection))
        if not found.faces:
            raise FaceNotFound("There is no face in the image.")
        metric = self._core.identifier.metric(found.model)
        return Encoding(found.model.space, metric, found.vectors[found.faces.index(largest(found.faces))])

    @override
    def calibrate(self, space: str, metric: Metric, curve: Curve) -> None:
        changes = {"calibration": Calibration(space, metric, curve)}
        self._core.gallery.directory.update_tenant(self._tenant, settings=changes)

    @override
    def reset_calibration(self) -> None:
        self._core.gallery.directory.update_tenant(self._tenant, settings={"calibration": None})

    @override
    def events(self, which: EventFilter, limit: int) -> Iterator[Event]:
        before: int | None = None
        while page := self._run(self._core.people.events(self._tenant, min(limit, _PAGE), before, which)):
            yield from page
            before = page[-1].number

    @override
    def people(self, text: str | None, metadata: Sequence[Condition] = ()) -> Iterator[Person]:
        after: str | None = None
        while True:
            page = self._run(self._core.people.page(self._tenant, _PAGE, after, text, metadata))
            yield from page.people
            if page.next is None:
                return
            after = page.next

    @override
    def person(self, id: str) -> Person:
        return self._run(self._core.people.get(self._tenant, id))

    @override
    def rename(self, id: str, name: str) -> None:
        self._run(self._core.people.describe(self._tenant, id, Description(name)))

    @override
    def delete(self, id: str) -> None:
        self._run(self._core.people.delete(self._tenant, id))

    @override
    def clear(self) -> None:
        self._run(self._core.people.clear(self._tenant))

    @override
    def photos(self, id: str) -> Sequence[StoredPhoto]:
        samples = self._run(self._core.people.samples(self._tenant, id))
        if not samples:
            raise NotFound("There is nobody with this id.")
        return [StoredPhoto(one.number, one.space, _EPOCH + timedelta(microseconds=one.revision)) for one in samples]

    @override
    def delete_photo(self, id: str, number: int) -> None:
        if self._run(self._core.people.sample(self._tenant, number)).person.id not in (id, composed(id)):
            raise NotFound("The person has no such photo.")
        self._run(self._core.people.delete_sample(self._tenant, number))

    @override
    def export(self) -> Iterator[Record]:
        """Has the samples of all models."""
        for person in self.people(None):
            samples = self._run(self._core.people.samples(self._tenant, person.id))
            yield Record.of(person, [(sample.space, sample.vector) for sample in samples])

    def space(self) -> str:
        """The embedding space of the model in use."""
        return self._run(self._core.recognition.model()).space

    def store(self, records: Sequence[Record]) -> None:
        """Store people as they are in ``records``, in place of all that they had.

        Samples of embedding spaces that the records do not have stay. Whoever is new is stored in one transaction with
        everybody else who is. Of others the first sample of each space takes the place of all, and the further ones
        follow in a second transaction.

        Raises:
            InvalidRequest, SpaceMismatch, StorageError: see ``gallery.sql.store.Store``.
        """
        samples = {
            one.id: [
                NewSample(one.id, one.name, one.metadata, space, vector, one.action, one.created_at, one.updated_at)
                for space, vector in one.samples
            ]
            for one in records
        }
        store = self._core.gallery.store

        def write() -> None:
            first: list[NewSample] = []
            further: list[NewSample] = []
            for id, own in samples.items():
                replaced = {sample.space for sample in own} if store.samples(self._tenant, id) else set()
                for sample in own:
                    (first if sample.space in replaced else further).append(sample)
                    replaced.discard(sample.space)
            store.upsert(self._tenant, first)
            store.add(self._tenant, further)

        # Not given up half-way by Ctrl-C: the pool finishes what has begun.
        self._run(self._core.pool.write(write))

    @override
    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._core.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._own is not None:
            self._own.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _enrolment(photo: Photo) -> Enrolment:
    look = photo.look
    conflicts = OfConflicts(look.on_conflict)
    face, effort = _choice(look.face), look.detection
    return Enrolment(photo.id, photo.name, photo.picture, face=face, effort=effort, conflicts=conflicts)


def _stored(one: Embedded | Added | ServiceError) -> Outcome:
    if isinstance(one, ServiceError):
        return one
    return Enrolled.of(one.faces, str(one.face.box), [one.conflict.text] if one.conflict else ())


def _choice(face: str | None, default: Choose = clear_face) -> Choose:
    return default if face is None else parse_choice(face)


def _seen(one: Recognised) -> Seen:
    person = one.person
    distance = None if one.distance is None else round(one.distance, DISTANCE_DIGITS)
    return Seen(
        one.face.box,
        person.id if person else None,
        person.name if person else None,
        distance,
        one.threshold,
        short_rate(one.false_match_rate),
        None if one.margin is None else round(one.margin, DISTANCE_DIGITS),
        one.ambiguous,
        one.reason,
        round(one.quality.value, DISTANCE_DIGITS),
        None if one.liveness is None else round(one.liveness, 4),
        one.face.angle,
    )


class ExtractionProcess:
    """The extraction service as a child of this process. Not started before it is needed; ``url`` is known at once.

    Args:
        environment: its settings, apart from the address.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        bind = f"127.0.0.1:{free_port()}"
        self._environment = {**environment, "EXTRACTION_BIND": bind}
        self._log = tempfile.TemporaryFile()
        self._process = ServiceProcess("feature_extraction", bind, self._environment, self._log)
        self.url = self._process.url
        self._started = False

    def ensure_ready(self) -> None:
        """Start it, unless it was started, and wait until it can embed.

        Raises:
            StartupError: it has ended, or is not ready in time.
        """
        if self._started:
            return
        fetch_weights(self._environment, stdout=subprocess.DEVNULL)
        self._started = True
        self._process.start()
        try:
            self._process.wait_until_ready(_START_SECONDS)
        except StartupError as error:
            self._log.seek(0)
            reason = reason_in(self._log.read().decode(errors="replace"))
            raise StartupError(f"The extraction service does not start: {reason}") from error

    def close(self) -> None:
        """Stop it."""
        self._process.stop()
        self._log.close()


def reason_in(log: str) -> str:
    """Why a service has ended, from its log: its last error, rather than what gunicorn says of that."""
    reason = "it does not say why."
    for line in log.strip().splitlines():
        try:
            entry = json.loads(line)
            if entry["level"] in ("ERROR", "CRITICAL") and not entry["logger"].startswith("gunicorn"):
                reason = str(entry["message"])
        except (ValueError, KeyError, TypeError):  # not from a logger: from an interpreter that could not begin
            reason = line
    return reason[:_LONGEST_REASON]
