"""Galleries that belong to an API key and learn: add photos to a user, ask whether a picture shows that user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.access import Caller, demand
from face_detection.api import keyed_schemas as schemas
from face_detection.api.bodies import SETTINGS, parse_json, read_form, read_json, read_urlencoded, validate
from face_detection.api.guard import key_text
from face_detection.api.keyed_stream import STREAM_TYPES, train_stream
from face_detection.api.operations import ACCESS, CALLER, RECOGNITION, Operation, dump, json_response, occasion_of
from face_detection.enrolment import Enrolment
from face_detection.gallery.directory import Right
from face_detection.preparation import largest_face
from face_detection.recognition import Added
from shared import logs
from shared.errors import InvalidRequest, ServiceError, Unauthorized

TAG = "Keyed galleries"

_MAX_OTHER = 1 << 20
"""Bytes of a recognition beside its picture."""


async def train(request: web.Request) -> web.Response:
    """Add photos to a user."""
    members = await _read_authorised(request, Right.ENROL, request.app[SETTINGS].max_body_bytes)
    wanted = validate(schemas.TRAINING, members)
    caller = request[CALLER]
    enrolments = [Enrolment(wanted.user_name, wanted.user_name, photo) for photo in wanted.stream]
    started = time.perf_counter()
    outcomes = await request.app[RECOGNITION].add(caller.tenant, enrolments, occasion_of(request), caller.max_samples)
    return _answer_training(outcomes, time.perf_counter() - started)


def _answer_training(outcomes: Sequence[Added | ServiceError], seconds: float) -> web.Response:
    problems = [
        schemas.PhotoProblem(index=index, code=outcome.code, message=outcome.message)
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, ServiceError)
    ]
    learned = len(outcomes) - len(problems)
    if not learned:
        failure = schemas.KeyedTrainingFailure(
            failure_description=f"No photo could be learned: {problems[0].message}",
            detection_time=_rounded(seconds),
            error_code=problems[0].code,
            request_id=logs.request_id.get(),
            learned=0,
            failed=len(problems),
            photos=problems,
        )
        return json_response(dump(failure), 422)
    answer = schemas.KeyedTraining(
        success_description=f"Photos learned: {learned} of {len(outcomes)}.",
        detection_time=_rounded(seconds),
        confidence_percentage=0,
        learned=learned,
        failed=len(problems),
        photos=problems,
    )
    return json_response(dump(answer))


async def recognise(request: web.Request) -> web.Response:
    """Say whether a picture shows a user, or which one."""
    # Base64 needs four bytes for three; JSON and forms may escape some of them.
    limit = request.app[SETTINGS].max_image_bytes * 3 // 2 + _MAX_OTHER
    wanted = validate(schemas.RECOGNITION, await _read_authorised(request, Right.RECOGNISE, limit))
    core, tenant, occasion = request.app[RECOGNITION], request[CALLER].tenant, occasion_of(request)
    started = time.perf_counter()
    name: str | None
    if wanted.user_name:
        result = await core.verify_person(tenant, wanted.user_name, wanted.picture, occasion=occasion)
        name, trust = wanted.user_name if result.same else None, result.trust
        failure = "The picture does not show this user."
    else:
        (found,) = await core.identify(tenant, wanted.picture, occasion=occasion, choose=largest_face)
        name, trust = found.person.name if found.person else None, found.trust
        failure = "The picture shows nobody who is known."
    seconds, percentage = _rounded(time.perf_counter() - started), round(trust, 1)
    answer: schemas.KeyedSuccess | schemas.KeyedFailure
    if name is not None:
        answer = schemas.KeyedSuccess(
            success_description=name, detection_time=seconds, confidence_percentage=percentage
        )
    else:
        answer = schemas.KeyedFailure(
            failure_description=failure, detection_time=seconds, confidence_percentage=percentage
        )
    return json_response(dump(answer))


def _rounded(seconds: float) -> float:
    return round(seconds, 4)


async def _read_authorised(request: web.Request, right: Right, limit: int) -> dict[str, object]:
    """The members of a request whose caller, now in ``request[CALLER]``, has a right.

    The key comes in the header or in the member ``API_KEY``.

    Raises:
        InvalidRequest, BodyTooLarge, RequestTooSlow: the body is malformed, too large or too slow.
        Unauthorized, Forbidden, RateLimited, StorageError: see ``Access.authenticate`` and ``demand``.
    """
    header = key_text(request)
    # Whoever shows a key in the header is refused before the body is read.
    caller = None if header is None else await _authenticate(request, header, right)
    members = await _read_members(request, limit)
    given = members.pop("API_KEY", None)
    if given is not None and not isinstance(given, str):
        raise InvalidRequest("API_KEY: must be text")
    if header is not None and given is not None and given.strip() != header:
        raise Unauthorized("The request has several different API keys.")
    request[CALLER] = caller or await _authenticate(request, given and given.strip(), right)
    return members


async def _authenticate(request: web.Request, text: str | None, right: Right) -> Caller:
    caller = await asyncio.to_thread(request.app[ACCESS].authenticate, text)
    demand(caller, right)
    return caller


async def _read_members(request: web.Request, limit: int) -> dict[str, object]:
    kind = request.content_type
    if kind == "multipart/form-data":
        return await _gather(await read_form(request, limit, request.app[SETTINGS].max_image_bytes + 1, limit))
    if kind == "application/x-www-form-urlencoded":
        members = await _gather(await read_urlencoded(request, limit))
        return {name: _mended(value) if name in ("stream", "picture") else value for name, value in members.items()}
    body = await read_json(request, limit)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _mended(photos: object) -> object:
    """Photos of an urlencoded form: clients forget to escape the "+" of base64, which then means a space."""
    if isinstance(photos, list):
        return [_mended(photo) for photo in photos]
    return photos.replace(" ", "+") if isinstance(photos, str) else photos


async def _gather(fields: Sequence[tuple[str, str | bytes]]) -> dict[str, object]:
    """A form as members: the field ``stream`` for each photo, or with a JSON list of them; the others once."""
    members: dict[str, object] = {}
    photos: list[object] = []
    for name, content in fields:
        if name == "stream":
            photos.append(content)
        elif name in members:
            raise InvalidRequest(f"The field {name} appears twice.")
        else:
            members[name] = content
    if len(photos) == 1 and isinstance(photos[0], str) and photos[0].lstrip().startswith("["):
        members["stream"] = await parse_json(photos[0])
    elif photos:
        members["stream"] = photos
    return members


OPERATIONS = (
    *(
        Operation(
            "POST",
            path,
            "Add photos to a user, who is created if nobody has the name",
            train,
            TAG,
            right=None,
            answer=TypeAdapter(schemas.KeyedTraining),
            body=schemas.TRAINING,
            form=True,
            urlencoded=True,
            errors=(400, 401, 403, 404, 413, 422, 502, 503, 504),
            failure=schemas.KEYED,
        )
        for path in ("/train/", "/train")
    ),
    Operation(
        "POST",
        "/train/stream",
        "Add photos to a user, one after another, with an answer for each as soon as it is learned",
        train_stream,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.StreamedPhoto | schemas.StreamSummary),
        query=schemas.StreamQuery,
        stream_types=STREAM_TYPES,
        errors=(400, 504),
        failure=schemas.KEYED,
    ),
    *(
        Operation(
            "POST",
            path,
            "Say whether a picture shows a user, or which one",
            recognise,
            TAG,
            right=None,
            answer=TypeAdapter(schemas.KeyedSuccess | schemas.KeyedFailure),
            body=schemas.RECOGNITION,
            form=True,
            urlencoded=True,
            errors=(400, 401, 403, 404, 413, 415, 422, 502, 503, 504),
            failure=schemas.KEYED,
        )
        for path in ("/recognize/", "/recognize")
    ),
)
