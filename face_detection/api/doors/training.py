"""A door for clients that train a face classifier: train, recognise, list, clear; pictures with names or masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aiohttp import web
from pydantic import AliasChoices, BaseModel, Field, TypeAdapter

from face_detection.access import demand
from face_detection.api import schemas
from face_detection.api.http.bodies import (
    IMAGE,
    SETTINGS,
    once_each,
    read_form,
    read_json,
    read_members,
    read_picture_request,
    read_query,
    take_pictures,
    validate,
)
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    FailureForm,
    Operation,
    dump,
    json_response,
    large_json_response,
    occasion_of,
    of_conflicts,
)
from face_detection.api.validation import Flag, ForeignRequest, Id, Name, OwnRequest, StoredId
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import clear_face
from face_detection.recognition.drawing import Mark, Mask, marked_jpeg
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.identification import Recognised
from face_detection.recognition.service import Added
from shared.errors import InvalidRequest, ServiceError

_MAX_MEMBERS = 1 << 16
"""Bytes of a request beside pictures."""

_MOST_PHOTOS = 100
_UNKNOWN = "unknown"


class TrainRequest(ForeignRequest):
    """Photos of one person."""

    images: list[schemas.Picture] = Field(min_length=1, max_length=_MOST_PHOTOS)
    id: Id
    name: Name
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None


class TrainOptions(ForeignRequest):
    """Whose photos: the person has an id, a name, or both, and the one stands for the other."""

    id: Id | None = None
    name: Name | None = None
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None


class TrainJsonRequest(TrainOptions):
    """A photo of a person. A form has any number, each in a field `file`."""

    image: schemas.Picture


class FailedPhoto(BaseModel):
    """A photo that was not used, and why."""

    photo: int = Field(description="Its place in the request, from 1.")
    error: str
    code: str


class TakenFace(BaseModel):
    """The face of a photo that was used."""

    photo: int = Field(description="The photo's place in the request, from 1.")
    box: schemas.FaceBox
    faces: int = Field(description="How many faces the photo shows.")
    warnings: list[schemas.ConflictWarning] | None = Field(
        default=None, description="Why it is hardly of this person. Left out where there is no reason."
    )


class TrainAnswer(BaseModel):
    """What became of the photos."""

    id: str
    name: str
    trained: int = Field(description="Photos that were used.")
    photos: int = Field(description="Photos that the person has now.")
    taken: list[TakenFace]
    failed: list[FailedPhoto]


class AnswerRequest(ForeignRequest):
    """Whether the answer is the picture, and what is done to it."""

    draw: Flag = Field(default=False, description="Answer with the picture (JPEG), boxes and names drawn.")
    mask: Mask | None = Field(default=None, description="Answer with the picture (JPEG), these faces destroyed.")


class RecognizeOptions(AnswerRequest, schemas.ThresholdOptions):
    """What is said beside the picture."""

    detection: schemas.Detection = None
    liveness: schemas.WithLiveness = False


class RecognizeRequest(RecognizeOptions):
    """A picture; a form may call it `file`."""

    image: schemas.Picture = Field(validation_alias=AliasChoices("image", "file"))


class FaceEdges(BaseModel):
    """A box by its edges, in pixels of the upright picture."""

    top: int
    right: int
    bottom: int
    left: int


class NamedFace(BaseModel):
    """A face and who it is."""

    id: str | None = Field(description="Null for somebody unknown.")
    name: str = Field(description=f"`{_UNKNOWN}` for somebody unknown.")
    distance: float | None = Field(description="To the nearest photo; null when there is none.")
    confidence: float = Field(description="0 to 100, 50 at the threshold.")
    location: FaceEdges
    box: schemas.FaceBox

    @classmethod
    def of(cls, one: Recognised) -> NamedFace:
        """The answer for a face."""
        person, box = one.person, one.face.box
        return cls(
            id=person.id if person else None,
            name=person.name if person else _UNKNOWN,
            distance=None if one.distance is None else round(one.distance, 4),
            confidence=round(one.trust, 1),
            location=FaceEdges(top=box.y, right=box.x + box.width, bottom=box.y + box.height, left=box.x),
            box=schemas.FaceBox.of(box),
        )


class RecognizeAnswer(BaseModel):
    """All faces of a picture, in reading order."""

    faces: list[NamedFace]


class TrainedFace(BaseModel):
    """Somebody who was trained."""

    id: str
    name: str
    photos: int


class TrainedFaces(BaseModel):
    """A part of them, ordered by id."""

    faces: list[TrainedFace]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class ClearRequest(OwnRequest):
    """Whom to delete; everybody when it is left out."""

    # Forbids what is not known: a misspelt name must not delete everybody.
    name: StoredId | None = Field(default=None, description="The id, which is the name of who was trained without.")


class ClearAnswer(BaseModel):
    """How many photos were deleted."""

    removed: int


class Endpoint(BaseModel):
    """Something that this door does."""

    method: str
    path: str
    summary: str


class TrainingEndpoints(BaseModel):
    """What there is."""

    endpoints: list[Endpoint]


class TrainingFailure(BaseModel):
    """The body of an error."""

    error: str
    code: str = Field(description="Stable name of the error.")


_FAILURE = FailureForm(
    lambda error, status, _: (status, {"error": error.message, "code": error.code}),
    TrainingFailure,
)
_TRAIN, _TRAIN_JSON = TypeAdapter(TrainRequest), TypeAdapter(TrainJsonRequest)
_RECOGNIZE, _CLEAR = TypeAdapter(RecognizeRequest), TypeAdapter(ClearRequest)
_IMAGES = (IMAGE, "file")
_PAGE = TypeAdapter(schemas.ForeignPageRequest)


async def describe(request: web.Request) -> web.Response:
    """What there is."""
    endpoints = [Endpoint(method=one.method, path=one.path, summary=one.summary) for one in OPERATIONS]
    return json_response(dump(TrainingEndpoints(endpoints=endpoints)))


async def train(request: web.Request) -> web.Response:
    """Add photos to a person, who is created if nobody has the id."""
    caller, wanted = request[CALLER], await _read_photos(request)
    face, effort = wanted.face or clear_face, wanted.detection
    conflicts = of_conflicts(request, wanted.on_conflict)
    enrolments = [
        Enrolment(wanted.id, wanted.name, image, face=face, effort=effort, conflicts=conflicts)
        for image in wanted.images
    ]
    attempt = await first_attempt(request, caller.tenant, _respond_trained)
    return attempt.response(
        await request.app[RECOGNITION].add(
            caller.tenant, enrolments, occasion_of(request), caller.max_samples, once=attempt.once
        )
    )


def _respond_trained(outcomes: Sequence[Added | ServiceError]) -> web.Response:
    added = [(photo, one) for photo, one in enumerate(outcomes, 1) if not isinstance(one, ServiceError)]
    failed = [(photo, one) for photo, one in enumerate(outcomes, 1) if isinstance(one, ServiceError)]
    if not added:
        photo, error = failed[0]
        if len(failed) > 1:
            error.input = f"photo {photo}"
        raise error
    person = added[-1][1].sample.person
    answer = TrainAnswer(
        id=person.id,
        name=person.name,
        trained=len(added),
        photos=person.samples,
        taken=[
            TakenFace(
                photo=photo,
                box=schemas.FaceBox.of(one.face.box),
                faces=one.faces,
                warnings=schemas.ConflictWarning.all_of(one.conflict),
            )
            for photo, one in added
        ],
        failed=[FailedPhoto(photo=photo, error=error.message, code=error.code) for photo, error in failed],
    )
    return json_response(answer.model_dump(mode="json", exclude_none=True))


async def recognize(request: web.Request) -> web.Response:
    """Name all faces of a picture by a vote of the nearest photos, and show it if that is wanted."""
    wanted = validate(_RECOGNIZE, await read_picture_request(request))
    recognition = request.app[RECOGNITION]
    found = await recognition.identify(
        request[CALLER].tenant,
        wanted.image,
        wanted.limit,
        occasion_of(request),
        rule="vote",
        liveness=wanted.liveness,
        effort=wanted.detection,
    )
    if not wanted.draw and wanted.mask is None:
        return await large_json_response(lambda: dump(RecognizeAnswer(faces=[NamedFace.of(one) for one in found])))
    marks = [Mark(one.face.box, one.person.name if one.person else None) for one in found]
    jpeg = await recognition.render(wanted.image, lambda pixels: marked_jpeg(pixels, marks, wanted.draw, wanted.mask))
    return web.Response(body=jpeg, content_type="image/jpeg")


async def list_faces(request: web.Request) -> web.Response:
    """Who was trained, with how many photos."""
    wanted = validate(_PAGE, read_query(request))
    page = await request.app[PEOPLE].page(request[CALLER].tenant, wanted.limit, wanted.after)
    faces = [TrainedFace(id=person.id, name=person.name, photos=person.samples) for person in page.people]
    return await large_json_response(lambda: dump(TrainedFaces(faces=faces, next=page.next)))


async def clear(request: web.Request) -> web.Response:
    """Delete one person, or everybody, which takes an administrator."""
    caller, people = request[CALLER], request.app[PEOPLE]
    wanted = validate(_CLEAR, await _read_clear(request))
    if wanted.name is not None:
        removed = (await people.get(caller.tenant, wanted.name)).samples
        await people.delete(caller.tenant, wanted.name)
    elif "name" in wanted.model_fields_set:
        raise InvalidRequest("name: must not be null")
    else:
        demand(caller, Right.ADMIN)
        removed = await people.clear(caller.tenant)
    return json_response(dump(ClearAnswer(removed=removed)))


async def _read_photos(request: web.Request) -> TrainRequest:
    images, others = take_pictures(await read_members(request, request.app[SETTINGS].max_body_bytes, IMAGE), _IMAGES)
    members = once_each([*read_query(request).items(), *others])
    id, name = members.get("id"), members.get("name")
    if id is None and name is None:
        raise InvalidRequest("A name or an id is needed.")
    named = {"id": name if id is None else id, "name": id if name is None else name}
    return validate(_TRAIN, members | named | {"images": images})


async def _read_clear(request: web.Request) -> object:
    if not request.can_read_body:
        return read_query(request)
    if request.content_type == "multipart/form-data":
        parts = await read_form(request, _MAX_MEMBERS, _MAX_MEMBERS, _MAX_MEMBERS)
        if len(parts) > 1:
            raise InvalidRequest("The form has more than the field name.")
        return read_query(request) | dict(parts)
    body = await read_json(request, _MAX_MEMBERS)
    return read_query(request) | body if isinstance(body, dict) else body


_operation = partial(Operation, tag="Train and recognise", failure=_FAILURE)
_picture_operation = partial(_operation, form=True, urlencoded=True, picture_body=True)

OPERATIONS: tuple[Operation, ...] = (
    _operation("GET", "/api", "What there is", describe, right=None, answer=TypeAdapter(TrainingEndpoints)),
    _picture_operation(
        "POST",
        "/api/train",
        "Add photos to a person, who is created if nobody has the id",
        train,
        right=Right.ENROL,
        answer=TypeAdapter(TrainAnswer),
        errors=(400, 404, 409, 413, 415, 422, 502, 503, 504),
        body=_TRAIN_JSON,
        query=TrainOptions,
        once=True,
    ),
    _picture_operation(
        "POST",
        "/api/recognize",
        "Name all faces of a picture; answer with the picture if wanted",
        recognize,
        right=Right.RECOGNISE,
        answer=TypeAdapter(RecognizeAnswer),
        errors=(400, 409, 413, 415, 422, 501, 502, 503, 504),
        body=_RECOGNIZE,
        query=RecognizeOptions,
        picture_answer=True,
    ),
    _operation(
        "GET",
        "/api/faces",
        "Who was trained, with how many photos",
        list_faces,
        right=Right.ENROL,
        answer=TypeAdapter(TrainedFaces),
        errors=(400,),
        query=schemas.ForeignPageRequest,
    ),
    _operation(
        "POST",
        "/api/clear",
        "Delete one person, or everybody",
        clear,
        right=Right.ENROL,
        answer=TypeAdapter(ClearAnswer),
        errors=(400, 404, 413),
        body=_CLEAR,
    ),
)
