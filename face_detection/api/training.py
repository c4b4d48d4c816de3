"""A door for clients that train a face classifier: train, recognise, list, clear; pictures with names or masks."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.access import demand
from face_detection.api import schemas
from face_detection.api.bodies import SETTINGS, read_form, read_json, read_picture_request, validate
from face_detection.api.operations import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    FailureForm,
    Handler,
    Operation,
    dump,
    json_response,
    occasion_of,
)
from face_detection.api.training_schemas import (
    ClearAnswer,
    ClearRequest,
    Endpoint,
    FailedPhoto,
    NamedFace,
    PictureRequest,
    RecognizeAnswer,
    RecognizeRequest,
    TrainAnswer,
    TrainedFace,
    TrainedFaces,
    TrainingEndpoints,
    TrainingFailure,
    TrainJsonRequest,
    TrainRequest,
)
from face_detection.drawing import Mark, marked_jpeg
from face_detection.enrolment import Enrolment
from face_detection.gallery.directory import Right
from shared.errors import InvalidRequest, ServiceError

TAG = "Train and recognise"

_MAX_MEMBERS = 1 << 16
"""Bytes of a request beside pictures."""

_FAILURE = FailureForm(
    lambda error, status, _: (status, {"error": error.message, "code": error.code}),
    TrainingFailure,
)
_TRAIN, _TRAIN_JSON = TypeAdapter(TrainRequest), TypeAdapter(TrainJsonRequest)
_RECOGNIZE, _PICTURE = TypeAdapter(RecognizeRequest), TypeAdapter(PictureRequest)
_PAGE, _CLEAR = TypeAdapter(schemas.PageRequest), TypeAdapter(ClearRequest)


async def describe(request: web.Request) -> web.Response:
    """What there is."""
    endpoints = [Endpoint(method=one.method, path=one.path, summary=one.summary) for one in OPERATIONS]
    return json_response(dump(TrainingEndpoints(endpoints=endpoints)))


async def train(request: web.Request) -> web.Response:
    """Add photos to a person, who is created if nobody has the id."""
    caller, wanted = request[CALLER], await _read_photos(request)
    enrolments = [Enrolment(wanted.id, wanted.name, image) for image in wanted.images]
    outcomes = await request.app[RECOGNITION].add(caller.tenant, enrolments, occasion_of(request), caller.max_samples)
    added = [one for one in outcomes if not isinstance(one, ServiceError)]
    failed = [(photo, one) for photo, one in enumerate(outcomes, 1) if isinstance(one, ServiceError)]
    if not added:
        raise failed[0][1]
    person = added[-1].sample.person
    answer = TrainAnswer(
        id=person.id,
        name=person.name,
        trained=len(added),
        photos=person.samples,
        failed=[FailedPhoto(photo=photo, error=error.message, code=error.code) for photo, error in failed],
    )
    return json_response(dump(answer))


async def recognize(request: web.Request) -> web.Response:
    """Name all faces of a picture by a vote of the nearest photos, and show it if that is wanted."""
    shown = validate(_PICTURE, dict(request.query))
    image = validate(_RECOGNIZE, await read_picture_request(request)).image
    recognition = request.app[RECOGNITION]
    found = await recognition.identify(request[CALLER].tenant, image, occasion=occasion_of(request), rule="vote")
    if not shown.draw and shown.mask is None:
        return json_response(dump(RecognizeAnswer(faces=[NamedFace.of(one) for one in found])))
    marks = [Mark(one.face.box, one.person.name if one.person else None) for one in found]
    jpeg = await recognition.render(image, lambda pixels: marked_jpeg(pixels, marks, shown.draw, shown.mask))
    return web.Response(body=jpeg, content_type="image/jpeg")


async def list_faces(request: web.Request) -> web.Response:
    """Who was trained, with how many photos."""
    wanted = validate(_PAGE, dict(request.query))
    page = await request.app[PEOPLE].page(request[CALLER].tenant, wanted.limit, wanted.after)
    faces = [TrainedFace(id=person.id, name=person.name, photos=person.samples) for person in page.people]
    return json_response(dump(TrainedFaces(faces=faces, next=page.next)))


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
    settings = request.app[SETTINGS]
    members: dict[str, Any]
    if request.content_type == "multipart/form-data":
        members = {"images": []}
        for field, content in await read_form(request, settings.max_body_bytes, settings.max_image_bytes + 1):
            if field in ("file", "image"):
                members["images"].append(content)
            elif field in members:
                raise InvalidRequest(f"The field {field} appears twice.")
            else:
                members[field] = content
    else:
        body = validate(_TRAIN_JSON, await read_json(request, settings.max_image_bytes * 3 // 2 + _MAX_MEMBERS))
        members = {"images": [body.image], "id": body.id, "name": body.name}
    id, name = members.get("id"), members.get("name")
    if id is None and name is None:
        raise InvalidRequest("A name or an id is needed.")
    return validate(_TRAIN, members | {"id": name if id is None else id, "name": id if name is None else name})


async def _read_clear(request: web.Request) -> object:
    if not request.can_read_body:
        return dict(request.query)
    if request.content_type == "multipart/form-data":
        parts = await read_form(request, _MAX_MEMBERS, _MAX_MEMBERS)
        if len(parts) > 1:
            raise InvalidRequest("The form has more than the field name.")
        return dict(request.query) | dict(parts)
    body = await read_json(request, _MAX_MEMBERS)
    return dict(request.query) | body if isinstance(body, dict) else body


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
        form=True,
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
        query=PictureRequest,
        form=True,
        picture_body=True,
    ),
    _operation(
        "GET",
        "/api/faces",
        "Who was trained, with how many photos",
        list_faces,
        TrainedFaces,
        Right.ENROL,
        (400,),
        query=schemas.PageRequest,
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
