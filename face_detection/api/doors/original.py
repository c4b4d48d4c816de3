"""The original service's interface: enrol a batch, recognise, clear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.bodies import (
    SETTINGS,
    most_picture_bytes,
    read_form,
    read_json,
    read_picture_request,
    validate,
)
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    FailureForm,
    Operation,
    json_response,
    large_json_response,
    occasion_of,
    of_conflicts,
)
from face_detection.api.validation import Flag, ForeignRequest, Id, Name, Whole
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import clear_face, remark
from face_detection.recognition.decision import Reason
from face_detection.recognition.enrolment import Enrolment, OfConflicts, Outcome
from face_detection.recognition.identification import Recognised
from shared.errors import InvalidRequest, ServiceError


class _OriginalRequest(ForeignRequest):
    # Clients of the original service send members of their own, none of which is a slip of a known name.
    refuses_slips = True


class SampleRequest(_OriginalRequest):
    """One sample to enrol."""

    id: Id = Field(description="Unique; sending an id again replaces its sample.")
    name: Name = Field(description="What to call the person.")
    image: schemas.Picture
    metadata: schemas.Metadata = Field(
        default=None, description="Any JSON value of at most 64 KiB; given back with every match."
    )
    action: schemas.Action | None = Field(
        default=None, description="Free text for the client; given back with every match."
    )
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None

    def enrolment(self, conflicts: OfConflicts) -> Enrolment:
        """The request in the core's terms."""
        face = self.face or clear_face
        return Enrolment(self.id, self.name, self.image, self.metadata, self.action, face, self.detection, conflicts)


class RecognitionOptions(schemas.ThresholdOptions, _OriginalRequest):
    """How the faces of a picture are to be named."""

    include_unknown: Flag = Field(default=False, description="Also return the faces that match nobody.")
    candidates: Whole = Field(
        default=0,
        ge=0,
        le=10,
        description="Also name this many people who are closest to each face, near enough or not.",
    )
    detection: schemas.Detection = None
    quality: schemas.WithQuality = False
    liveness: schemas.WithLiveness = False


class RecognitionRequest(RecognitionOptions):
    """A picture whose faces are to be named."""

    image: schemas.Picture


class PlainErrorAnswer(BaseModel):
    """The body of an error at the original service's addresses."""

    error: str = Field(description="`Invalid request.` for 400, else what went wrong.")
    code: str = Field(description="Stable name of the error.")
    detail: str = Field(description="What exactly is wrong.")
    request_id: str


class UpdateAnswer(BaseModel):
    """What became of a batch. ``errors``, ``warnings`` and ``conflicts`` are left out when empty."""

    success: list[str] = Field(description="Ids that were stored.")
    fail: list[str] = Field(description="Ids that were not.")
    errors: dict[str, schemas.PictureErrorDetail] | None = Field(
        default=None, description="Why, for every id in `fail`."
    )
    warnings: dict[str, list[str]] | None = Field(default=None, description="Remarks on stored samples.")
    conflicts: dict[str, schemas.ConflictWarning] | None = Field(
        default=None, description="Of stored samples that are hardly of their person: why."
    )


class CandidateAnswer(BaseModel):
    """Somebody who is close to a face."""

    id: str
    name: str
    distance: float


class RecognisedFace(schemas.Measured):
    """A face and who it is; ``id``, ``name`` and ``metadata`` are empty for an unknown one.

    ``false_match_rate``, ``margin`` and ``ambiguous`` are left out for an unknown one.
    """

    bbox: str = Field(description="`x, y, width, height` in pixels of the upright picture.")
    angle: schemas.HeadAngle
    id: str
    name: str
    metadata: Any
    action: str | None = None
    distance: float | None = Field(description="To the nearest sample; null when the gallery is empty.")
    reason: Reason | None = Field(
        default=None,
        description="Why nobody is named however near somebody may be: `low_quality` for a face that cannot carry a "
        "name, `not_live` for one that failed the liveness check. Left out when the distance has decided.",
    )
    threshold: schemas.ThresholdUsed
    threshold_rate: schemas.ThresholdRate
    false_match_rate: schemas.MatchRate = None
    margin: schemas.Margin = None
    ambiguous: schemas.Ambiguous = False
    liveness: schemas.Liveness = None
    candidates: list[CandidateAnswer] | None = Field(
        default=None, description="The closest people, nearest first, if they were asked for."
    )

    @classmethod
    def of(cls, one: Recognised) -> RecognisedFace:
        """The answer for a face."""
        person = one.person
        closest = [
            CandidateAnswer(
                id=candidate.sample.person.id,
                name=candidate.sample.person.name,
                distance=round(candidate.distance, 4),
            )
            for candidate in one.closest
        ]
        return cls(
            bbox=str(one.face.box),
            angle=one.face.angle,
            id=person.id if person else "",
            name=person.name if person else "",
            metadata=person.metadata if person else "",
            action=person.action if person else None,
            distance=None if one.distance is None else round(one.distance, 4),
            reason=one.reason,
            liveness=None if one.liveness is None else round(one.liveness, 4),
            candidates=closest or None,
            **schemas.findings(one),
        )

    def dump(self, wanted: RecognitionOptions) -> dict[str, Any]:
        """What is told of a face."""
        left_out = set() if wanted.candidates else {"candidates"}
        left_out |= set() if wanted.quality else set(schemas.Measured.model_fields)
        left_out |= set() if self.reason else {"reason"}
        left_out |= set() if self.id else {"false_match_rate", "margin", "ambiguous"}
        return schemas.dump_checked(self, left_out)


def _word_originally(error: ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    return status, {
        "error": "Invalid request." if status == 400 else error.message,
        "code": error.code,
        "detail": error.message,
        "request_id": request_id,
        **error.details,
    }


ORIGINAL = FailureForm(_word_originally, PlainErrorAnswer)
"""The original service's body, whose ``error`` is a string."""

_SAMPLES = TypeAdapter(list[SampleRequest])
_RECOGNITION = TypeAdapter(RecognitionRequest)


async def running(request: web.Request) -> web.Response:
    """Say that the service is up."""
    return web.Response(text="Face detection server is running.")


async def update_samples(request: web.Request) -> web.Response:
    """Enrol a batch. A malformed request changes nothing."""
    samples = await _read_samples(request)
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InvalidRequest(f"The id {sample.id} appears twice.")
        seen.add(sample.id)
    enrolments = [sample.enrolment(of_conflicts(request, sample.on_conflict)) for sample in samples]
    samples.clear()  # pictures are large: let each go as soon as it is done with
    caller = request[CALLER]

    def respond(outcomes: Sequence[Outcome]) -> web.Response:
        return json_response(dump_outcomes(enrolments, outcomes))

    attempt = await first_attempt(request, caller.gallery, respond)
    return attempt.response(
        await request.app[RECOGNITION].enrol(
            caller.gallery, enrolments, occasion_of(request), caller.max_samples, attempt.once
        )
    )


def dump_outcomes(enrolments: Sequence[Enrolment], outcomes: Sequence[Outcome]) -> dict[str, object]:
    """What became of a batch as the body of the answer, see ``UpdateAnswer``."""
    success: list[str] = []
    failures: dict[str, object] = {}
    warnings: defaultdict[str, list[str]] = defaultdict(list)
    conflicts: dict[str, object] = {}
    for item, outcome in zip(enrolments, outcomes, strict=True):
        if isinstance(outcome, ServiceError):
            failures[item.id] = {"code": outcome.code, "message": outcome.message, **outcome.details}
            continue
        success.append(item.id)
        if outcome.faces > 1:
            warnings[item.id].append(remark(outcome.faces, str(outcome.face.box)))
        if outcome.conflict:
            warnings[item.id].append(outcome.conflict.text)
            conflicts[item.id] = outcome.conflict.members
    further = {"errors": failures, "warnings": warnings, "conflicts": conflicts}
    return {"success": success, "fail": list(failures)} | {name: told for name, told in further.items() if told}


async def recognise(request: web.Request) -> web.Response:
    """Name the faces of a picture."""
    wanted = validate(_RECOGNITION, await read_picture_request(request))
    found = await request.app[RECOGNITION].identify(
        request[CALLER].gallery,
        wanted.image,
        wanted.limit,
        occasion_of(request),
        closest=wanted.candidates,
        liveness=wanted.liveness,
        effort=wanted.detection,
    )
    faces = [(RecognisedFace.of(one), one) for one in found if one.person or wanted.include_unknown]
    shown = [face.measured(one.quality) if wanted.quality else face for face, one in faces]
    exact = all(one.exact for one in found)
    return await large_json_response(
        lambda: [one.dump(wanted) for one in shown],
        headers={"X-Search": "exact" if exact else "approximate"},
    )


async def clear_samples(request: web.Request) -> web.Response:
    """Delete all samples."""
    await request.app[PEOPLE].clear(request[CALLER].gallery)
    return json_response({"success": "Samples have been removed successfully"})


async def _read_samples(request: web.Request) -> list[SampleRequest]:
    settings = request.app[SETTINGS]
    if request.content_type == "multipart/form-data":
        parts = await read_form(
            request, settings.max_body_bytes, settings.max_image_bytes + 1, most_picture_bytes(request)
        )
        entries: object = _gather(parts)
    else:
        entries = await read_json(request, settings.max_body_bytes)
    if not isinstance(entries, list):
        raise InvalidRequest("The body must be a list of samples.")
    if len(entries) > settings.max_batch_items:
        raise InvalidRequest(f"There are more than {settings.max_batch_items} samples in the batch.")
    return validate(_SAMPLES, entries)


def _gather(parts: list[tuple[str, str | bytes]]) -> list[dict[str, object]]:
    """Samples of a form: each ``id`` begins a new one, and the fields after it belong to it."""
    entries: list[dict[str, object]] = []
    for name, content in parts:
        if name == "id":
            entries.append({})
        if not entries:
            raise InvalidRequest("A form must begin each sample with its id.")
        if name in entries[-1]:
            raise InvalidRequest(f"[{len(entries) - 1}].{name}: appears twice in one sample")
        entries[-1][name] = content
    return entries


_operation = partial(Operation, tag="Recognition", failure=ORIGINAL)

OPERATIONS = (
    _operation("GET", "/update-samples", "Whether the service runs", running, right=None, failure=None),
    _operation(
        "POST",
        "/update-samples",
        "Enrol people: one sample for each id",
        update_samples,
        in_collection=True,
        right=Right.ENROL,
        answer=TypeAdapter(UpdateAnswer),
        body=_SAMPLES,
        form=True,
        once=True,
        errors=(400, 404, 413, 502, 503, 504),
    ),
    _operation("GET", "/face-recognition", "Whether the service runs", running, right=None, failure=None),
    _operation(
        "POST",
        "/face-recognition",
        "Name the faces of a picture, in reading order",
        recognise,
        in_collection=True,
        right=Right.RECOGNISE,
        answer=TypeAdapter(list[RecognisedFace]),
        body=_RECOGNITION,
        query=RecognitionOptions,
        form=True,
        urlencoded=True,
        picture_body=True,
        errors=(400, 404, 409, 413, 415, 422, 501, 502, 503, 504),
    ),
    *(
        _operation(
            method,
            "/clear-samples",
            "Delete all samples",
            clear_samples,
            in_collection=True,
            right=Right.ADMIN,
            answer=TypeAdapter(schemas.SuccessAnswer),
            errors=(400, 403, 404),
            changes=method == "GET",
        )
        for method in ("GET", "POST", "DELETE")
    ),
)
