"""A door for clients that train a face classifier: train, recognise, list, clear; pictures with names or masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.access import demand
from face_detection.api import schemas
from face_detection.api.doors.training_schemas import (
    AnswerRequest,
    ClearAnswer,
    ClearRequest,
    Endpoint,
    FailedPhoto,
    NamedFace,
    RecognizeAnswer,
    RecognizeRequest,
    TakenFace,
    TrainAnswer,
    TrainedFace,
    TrainedFaces,
    TrainingEndpoints,
    TrainingFailure,
    TrainJsonRequest,
    TrainOptions,
    TrainRequest,
)
from face_detection.api.http.bodies import SETTINGS, read_form, read_json, read_query, validate
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    FailureForm,
    Handler,
    Operation,
    dump,
    json_response,
    large_json_response,
    occasion_of,
)
from face_detection.api.parameters import IMAGE, once_each, read_members, read_picture_request, take_pictures
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import clear_face
from face_detection.recognition.drawing import Mark, marked_jpeg
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared.errors import InvalidRequest, ServiceError

TAG = "Train and recognise"

_MAX_MEMBERS = 1 << 16
"""Bytes of a request beside pictures."""

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
    face = wanted.face or clear_face
    enrolments = [Enrolment(wanted.id, wanted.name, image, face=face) for image in wanted.images]
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
        taken=[TakenFace(photo=photo, box=schemas.FaceBox.of(one.face.box), faces=one.faces) for photo, one in added],
        failed=[FailedPhoto(photo=photo, error=error.message, code=error.code) for photo, error in failed],
    )
    return json_response(dump(answer))


async def recognize(request: web.Request) -> web.Response:
    """Name all faces of a picture by a vote of the nearest photos, and show it if that is wanted."""
    wanted = validate(_RECOGNIZE, await read_picture_request(request))
    recognition = request.app[RECOGNITION]
    found = await recognition.identify(request[CALLER].tenant, wanted.image, occasion=occasion_of(request), rule="vote")
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


def _operation(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    answer: type[BaseModel],
    right: Right | None,
    errors: tuple[int, ...],
    **more: Any,
) -> Operation:
    return Operation(
        method,
        path,
        summary,
        handler,
        TAG,
        right=right,
        answer=TypeAdapter(answer),
        errors=errors,
        failure=_FAILURE,
        **more,
    )


OPERATIONS: tuple[Operation, ...] = (
    _operation("GET", "/api", "What there is", describe, TrainingEndpoints, None, ()),
    _operation(
        "POST",
        "/api/train",
        "Add photos to a person, who is created if nobody has the id",
        train,
        TrainAnswer,
        Right.ENROL,
        (400, 404, 413, 415, 422, 502, 503, 504),
        body=_TRAIN_JSON,
        query=TrainOptions,
        form=True,
        urlencoded=True,
        picture_body=True,
        once=True,
    ),
    _operation(
        "POST",
        "/api/recognize",
        "Name all faces of a picture; answer with the picture if wanted",
        recognize,
        RecognizeAnswer,
        Right.RECOGNISE,
        (400, 413, 415, 422, 502, 503, 504),
        body=_RECOGNIZE,
        query=AnswerRequest,
        form=True,
        urlencoded=True,
        picture_body=True,
        picture_answer=True,
    ),
    _operation(
        "GET",
        "/api/faces",
        "Who was trained, with how many photos",
        list_faces,
        TrainedFaces,
        Right.ENROL,
        (400,),
        query=schemas.ForeignPageRequest,
    ),
    _operation(
        "POST",
        "/api/clear",
        "Delete one person, or everybody",
        clear,
        ClearAnswer,
        Right.ENROL,
        (400, 404, 413),
        body=_CLEAR,
    ),
)
