"""A data set of faces that clients mirror: create, find, change and delete faces, and follow what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode
from uuid import uuid4

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.api import dataset_schemas as schemas
from face_detection.api.bodies import validate
from face_detection.api.dataset_failures import DATASET
from face_detection.api.operations import (
    CALLER,
    DIRECTORY,
    PEOPLE,
    RECOGNITION,
    Operation,
    json_response,
    occasion_of,
)
from face_detection.api.parameters import read_parameters
from face_detection.enrolment import Enrolment
from face_detection.fetching import PictureFetcher
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.gallery.store import Description, Sample, Tombstone
from shared.errors import ServiceError

TAG = "Data set"

FETCHER: web.AppKey[PictureFetcher] = web.AppKey("fetcher", PictureFetcher)

SPACE_HEADER = "X-Embedding-Space"
METRIC_HEADER = "X-Metric"
THRESHOLD_HEADER = "X-Threshold"
CURSOR_HEADER = "X-Next-Cursor"

_MOST_NUMBERS = 2_000_000
"""Of all encodings on one page: 1.3 MiB of JSON for each 100,000."""

_FACE = TypeAdapter(schemas.FaceRequest)
_CREATE = TypeAdapter(schemas.CreateRequest)
_UPDATE = TypeAdapter(schemas.UpdateRequest)
_MATCH = TypeAdapter(schemas.PictureRequest)
_DETECT = TypeAdapter(schemas.DetectRequest)
_SYNC = TypeAdapter(schemas.SyncRequest)


async def create(request: web.Request) -> web.Response:
    """Store the largest face of a picture as a person of its own."""
    wanted = validate(_CREATE, await read_parameters(request))
    picture = await _picture(request, wanted)
    caller, name = request[CALLER], wanted.unique_args.get("name")
    enrolment = Enrolment(uuid4().hex, name if isinstance(name, str) else "", picture, wanted.unique_args)
    (added,) = await request.app[RECOGNITION].add(caller.tenant, [enrolment], occasion_of(request), caller.max_samples)
    if isinstance(added, ServiceError):
        raise added
    return _face_response(added.sample)


async def get_face(request: web.Request) -> web.Response:
    """One face."""
    wanted = validate(_FACE, await read_parameters(request))
    return _face_response(await request.app[PEOPLE].sample(request[CALLER].tenant, wanted.face_id))


async def update(request: web.Request) -> web.Response:
    """Give a face another picture, its person other arguments, or both."""
    wanted = validate(_UPDATE, await read_parameters(request))
    tenant, people = request[CALLER].tenant, request.app[PEOPLE]
    person = (await people.sample(tenant, wanted.face_id)).person
    description = None
    if wanted.unique_args is not None:
        name = wanted.unique_args.get("name")
        description = Description(name if isinstance(name, str) else person.name, wanted.unique_args, person.action)
    if wanted.image is not None or wanted.image_url is not None:
        picture = await _picture(request, wanted)
        await request.app[RECOGNITION].replace(tenant, wanted.face_id, picture, occasion_of(request), description)
    elif description is not None:
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
    found = await request.app[RECOGNITION].identify(request[CALLER].tenant, picture, occasion=occasion_of(request))
    return _respond(schemas.MatchAnswer(faces=[schemas.MatchedFace.of(one) for one in found]))


async def detect(request: web.Request) -> web.Response:
    """Find the faces of a picture, with their encodings if these are wanted."""
    wanted = validate(_DETECT, await read_parameters(request))
    picture, recognition = await _picture(request, wanted), request.app[RECOGNITION]
    if not wanted.encoding:
        found = await recognition.detect(picture)
        return _respond(schemas.DetectAnswer(faces=[schemas.DetectedPosition.of(face) for face in found]))
    embedded = await recognition.embed_faces(picture)
    faces = [schemas.DetectedPosition.of(*one) for one in zip(embedded.faces, embedded.vectors, strict=True)]
    model, identifier = embedded.model, recognition.identifier
    threshold = identifier.threshold(model, await _settings(request))
    return _respond(schemas.DetectAnswer(faces=faces), _frame(model.space, identifier.metric(model), threshold))


async def sync(request: web.Request) -> web.Response:
    """What has changed since a time, oldest change first."""
    wanted = validate(_SYNC, await read_parameters(request))
    model, identifier = await request.app[RECOGNITION].model(), request.app[RECOGNITION].identifier
    limit = min(wanted.limit, max(1, _MOST_NUMBERS // model.card.dimensions))
    # One more than asked for tells whether there is a next page.
    found = await request.app[PEOPLE].feed(request[CALLER].tenant, wanted.last_updated_at, limit + 1)
    page = found[:limit]
    body = await asyncio.to_thread(_dump_page, page, model.space)
    cursor = schemas.time_text(page[-1].revision if page else wanted.last_updated_at)
    threshold = identifier.threshold(model, await _settings(request))
    headers = _frame(model.space, identifier.metric(model), threshold)
    headers |= {CURSOR_HEADER: cursor, "Vary": "Accept-Encoding"}
    if len(found) > limit:
        following = urlencode({"last_updated_at": cursor, "limit": wanted.limit})
        headers["Link"] = f'<{request.path}?{following}>; rel="next"'
    response = web.Response(body=body, headers=headers, content_type="application/json")
    if "gzip" in request.headers.get("Accept-Encoding", "").lower():
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _dump_page(page: Sequence[Sample | Tombstone], space: str) -> bytes:
    entries = [schemas.dump_entry(entry, space) for entry in page]
    return orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)


async def _settings(request: web.Request) -> TenantSettings:
    return (await asyncio.to_thread(request.app[DIRECTORY].tenant, request[CALLER].tenant)).settings


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


def _respond(answer: BaseModel, headers: dict[str, str] | None = None) -> web.Response:
    return json_response(answer.model_dump(mode="json", exclude_unset=True), headers=headers)


_PICTURE_ERRORS = (400, 413, 415, 422, 502, 503, 504)

OPERATIONS = (
    Operation(
        "POST",
        "/face",
        "Store the largest face of a picture",
        create,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        body=_CREATE,
        form=True,
        picture_body=True,
        errors=(*_PICTURE_ERRORS, 404),
        failure=DATASET,
    ),
    Operation(
        "GET",
        "/face",
        "One face",
        get_face,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        query=schemas.FaceRequest,
        errors=(400, 404),
        failure=DATASET,
    ),
    Operation(
        "GET",
        "/face/{face_id}",
        "One face",
        get_face,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        errors=(400, 404),
        failure=DATASET,
    ),
    Operation(
        "GET",
        "/faces/sync",
        "What has changed since a time, oldest change first; see docs/api/dataset.md for its headers",
        sync,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(list[schemas.ChangedEntry | schemas.DeletedEntry]),
        query=schemas.SyncRequest,
        errors=(400, 502, 503, 504),
        failure=DATASET,
    ),
    Operation(
        "POST",
        "/face/match",
        "Which face of the data set each face of a picture is",
        match,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(schemas.MatchAnswer),
        body=_MATCH,
        form=True,
        picture_body=True,
        errors=_PICTURE_ERRORS,
        failure=DATASET,
    ),
    Operation(
        "POST",
        "/face/detect",
        "Find the faces of a picture",
        detect,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(schemas.DetectAnswer),
        body=_DETECT,
        form=True,
        picture_body=True,
        errors=_PICTURE_ERRORS,
        failure=DATASET,
    ),
    Operation(
        "POST",
        "/face/update",
        "Give a face another picture or other arguments",
        update,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.FaceAnswer),
        body=_UPDATE,
        form=True,
        picture_body=True,
        errors=(*_PICTURE_ERRORS, 404),
        failure=DATASET,
    ),
    Operation(
        "POST",
        "/face/delete",
        "Delete a face",
        delete,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.DeletedAnswer),
        body=_FACE,
        form=True,
        errors=(400, 404, 413),
        failure=DATASET,
    ),
)
