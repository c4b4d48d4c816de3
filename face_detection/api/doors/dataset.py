"""A data set of faces that clients mirror: create, find, change and delete faces, and follow what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.api.doors import dataset_schemas as schemas
from face_detection.api.http.bodies import read_parameters, validate
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    Operation,
    json_response,
    large_json_response,
    occasion_of,
    of_conflicts,
)
from face_detection.extraction.client import ServedModel
from face_detection.fetching import PictureFetcher
from face_detection.gallery.directory import Right
from face_detection.gallery.people import KEPT, Description, Sample, Tombstone
from face_detection.recognition.choice import clear_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared import exact_json
from shared.errors import ServiceError

FETCHER: web.AppKey[PictureFetcher] = web.AppKey("fetcher", PictureFetcher)

SPACE_HEADER = "X-Embedding-Space"
METRIC_HEADER = "X-Metric"
THRESHOLD_HEADER = "X-Threshold"
CURSOR_HEADER = "X-Next-Cursor"

_FACE = TypeAdapter(schemas.FaceRequest)
_CREATE = TypeAdapter(schemas.CreateRequest)
_UPDATE = TypeAdapter(schemas.UpdateRequest)
_MATCH = TypeAdapter(schemas.MatchRequest)
_DETECT = TypeAdapter(schemas.DetectRequest)
_SYNC = TypeAdapter(schemas.SyncRequest)


async def create(request: web.Request) -> web.Response:
    """Store a face of a picture as a person of its own."""
    wanted = validate(_CREATE, await read_parameters(request))
    caller, id = request[CALLER], uuid4().hex
    attempt = await first_attempt(request, caller.tenant, _respond_created)
    picture = await _picture(request, wanted)
    name = schemas.name_in(wanted.unique_args) or id
    face, effort = wanted.face or clear_face, wanted.detection
    conflicts = of_conflicts(request, wanted.on_conflict)
    enrolment = Enrolment(id, name, picture, wanted.unique_args, face=face, effort=effort, conflicts=conflicts)
    return attempt.response(
        await request.app[RECOGNITION].add(
            caller.tenant, [enrolment], occasion_of(request), caller.max_samples, once=attempt.once
        )
    )


def _respond_created(outcomes: Sequence[Added | ServiceError]) -> web.Response:
    (added,) = outcomes
    if isinstance(added, ServiceError):
        raise added
    return _taken_response(added)


async def get_face(request: web.Request) -> web.Response:
    """One face."""
    wanted = validate(_FACE, await read_parameters(request))
    return _face_response(await request.app[PEOPLE].sample(request[CALLER].tenant, wanted.face_id))


async def update(request: web.Request) -> web.Response:
    """Give a face another picture, its person other arguments, or both."""
    wanted = validate(_UPDATE, await read_parameters(request))
    tenant, people = request[CALLER].tenant, request.app[PEOPLE]
    attempt = await first_attempt(request, tenant, _taken_response)
    description = None
    if wanted.unique_args is not None:
        description = Description(schemas.name_in(wanted.unique_args) or KEPT, wanted.unique_args)
    if wanted.image is not None or wanted.image_url is not None:
        picture = await _picture(request, wanted)
        return attempt.response(
            await request.app[RECOGNITION].replace(
                tenant,
                wanted.face_id,
                picture,
                occasion_of(request),
                description,
                attempt.once,
                wanted.face or clear_face,
                wanted.detection,
                of_conflicts(request, wanted.on_conflict),
            )
        )
    if description is not None:
        person = (await people.sample(tenant, wanted.face_id)).person
        await people.describe(tenant, person.id, description)
    return _face_response(await people.sample(tenant, wanted.face_id))


async def delete(request: web.Request) -> web.Response:
    """Delete a face, and with the last one its person."""
    wanted = validate(_FACE, await read_parameters(request))
    await request.app[PEOPLE].delete_sample(request[CALLER].tenant, wanted.face_id)
    return _respond(schemas.DeletedAnswer(face_id=wanted.face_id, deleted=True))


async def match(request: web.Request) -> web.Response:
    """Say of each face of a picture which one of the data set it is."""
    wanted = validate(_MATCH, await read_parameters(request))
    picture = await _picture(request, wanted)
    found = await request.app[RECOGNITION].identify(
        request[CALLER].tenant,
        picture,
        wanted.limit,
        occasion=occasion_of(request),
        liveness=wanted.liveness,
        effort=wanted.detection,
    )
    return await large_json_response(
        lambda: schemas.MatchAnswer(faces=[schemas.MatchedFace.of(one) for one in found]).model_dump(mode="json")
    )


async def detect(request: web.Request) -> web.Response:
    """Find the faces of a picture, with their encodings if these are wanted."""
    wanted = validate(_DETECT, await read_parameters(request))
    picture, recognition = await _picture(request, wanted), request.app[RECOGNITION]
    if not wanted.encoding:
        found = await recognition.detect(picture, wanted.detection)
        return _respond(schemas.DetectAnswer(faces=[schemas.DetectedPosition.of(face) for face in found]))
    embedded = await recognition.embed_faces(picture, wanted.detection)
    model, identifier = embedded.model, recognition.identifier
    threshold = await _threshold(request, model)

    def faces() -> dict[str, Any]:
        found = [schemas.DetectedPosition.of(*one) for one in zip(embedded.faces, embedded.vectors, strict=True)]
        return schemas.DetectAnswer(faces=found).model_dump(mode="json", exclude_unset=True)

    return await large_json_response(faces, _frame(model.space, identifier.metric(model), threshold))


async def sync(request: web.Request) -> web.Response:
    """What has changed since a time, oldest change first."""
    wanted = validate(_SYNC, await read_parameters(request))
    model, identifier = await request.app[RECOGNITION].model(), request.app[RECOGNITION].identifier
    feed, cursor = await request.app[PEOPLE].feed(request[CALLER].tenant, wanted.last_updated_at, wanted.limit)
    body = await asyncio.to_thread(_dump_page, feed.entries, model.space)
    threshold = await _threshold(request, model)
    headers = _frame(model.space, identifier.metric(model), threshold)
    headers |= {CURSOR_HEADER: str(cursor), "Vary": "Accept-Encoding"}
    if feed.more:
        following = urlencode({"last_updated_at": str(cursor), "limit": wanted.limit})
        headers["Link"] = f'<?{following}>; rel="next"'
    response = web.Response(body=body, headers=headers, content_type="application/json")
    if "gzip" in request.headers.get("Accept-Encoding", "").lower():
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _dump_page(page: Sequence[Sample | Tombstone], space: str) -> bytes:
    entries = [schemas.dump_entry(entry, space) for entry in page]
    return exact_json.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)


async def _threshold(request: web.Request, model: ServedModel) -> float:
    return await asyncio.to_thread(request.app[RECOGNITION].identifier.threshold_of, request[CALLER].tenant, model)


def _frame(space: str, metric: str, threshold: float) -> dict[str, str]:
    """What must be known to compare encodings."""
    return {SPACE_HEADER: space, METRIC_HEADER: metric, THRESHOLD_HEADER: f"{threshold:.17g}"}


async def _picture(request: web.Request, wanted: schemas.PictureRequest | schemas.UpdateRequest) -> str | bytes:
    if wanted.image_url is not None:
        return await request.app[FETCHER].fetch(wanted.image_url)
    assert wanted.image is not None
    return wanted.image


def _face_response(sample: Sample) -> web.Response:
    return _respond(schemas.FaceAnswer.of(sample), {SPACE_HEADER: sample.space})


def _taken_response(added: Added) -> web.Response:
    sample = added.sample
    return _respond(schemas.FaceAnswer.of(sample, added), {SPACE_HEADER: sample.space})


def _respond(answer: BaseModel, headers: dict[str, str] | None = None) -> web.Response:
    return json_response(answer.model_dump(mode="json", exclude_unset=True), headers=headers)


_PICTURE_ERRORS = (400, 413, 415, 422, 502, 503, 504)


_operation = partial(Operation, tag="Data set", failure=schemas.DATASET)
_picture_operation = partial(_operation, form=True, urlencoded=True, picture_body=True)

OPERATIONS = (
    _picture_operation(
        "POST",
        "/face",
        "Store a face of a picture",
        create,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        body=_CREATE,
        once=True,
        errors=(*_PICTURE_ERRORS, 404, 409),
    ),
    _operation(
        "GET",
        "/face",
        "One face",
        get_face,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        query=schemas.FaceRequest,
        errors=(400, 404),
    ),
    _operation(
        "GET",
        "/face/{face_id}",
        "One face",
        get_face,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        errors=(400, 404),
    ),
    _operation(
        "GET",
        "/faces/sync",
        "What has changed since a time, oldest change first; see docs/api/dataset.md for its headers",
        sync,
        right=Right.ENROL,
        answer=TypeAdapter(list[schemas.ChangedEntry | schemas.DeletedEntry]),
        query=schemas.SyncRequest,
        errors=(400, 410, 502, 503, 504),
    ),
    _picture_operation(
        "POST",
        "/face/match",
        "Which face of the data set each face of a picture is",
        match,
        right=Right.RECOGNISE,
        answer=TypeAdapter(schemas.MatchAnswer),
        body=_MATCH,
        errors=(*_PICTURE_ERRORS, 409, 501),
    ),
    _picture_operation(
        "POST",
        "/face/detect",
        "Find the faces of a picture",
        detect,
        right=Right.RECOGNISE,
        answer=TypeAdapter(schemas.DetectAnswer),
        body=_DETECT,
        errors=_PICTURE_ERRORS,
    ),
    _picture_operation(
        "POST",
        "/face/update",
        "Give a face another picture or other arguments",
        update,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        body=_UPDATE,
        once=True,
        errors=(*_PICTURE_ERRORS, 404, 409),
    ),
    _operation(
        "POST",
        "/face/delete",
        "Delete a face",
        delete,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.DeletedAnswer),
        body=_FACE,
        form=True,
        urlencoded=True,
        errors=(400, 404, 413),
    ),
)
