"""Galleries that belong to an API key and learn: add photos to a user, ask whether a picture shows that user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.access import Caller, demand
from face_detection.api.doors import keyed_schemas as schemas
from face_detection.api.doors.keyed_stream import STREAM_TYPES, train_stream
from face_detection.api.http.authentication import KEY_HEADER, key_text
from face_detection.api.http.bodies import (
    MAX_OTHER,
    SETTINGS,
    URLENCODED,
    most_picture_bytes,
    once_each,
    parse_json,
    read_members,
    take_pictures,
    validate,
)
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.http.load import LOAD, PLACE
from face_detection.api.operation import (
    ACCESS,
    CALLER,
    RECOGNITION,
    Operation,
    dump,
    json_response,
    occasion_of,
    of_conflicts,
)
from face_detection.api.schemas import ConflictWarning, FaceBox
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import clear_face, main_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared import logs
from shared.errors import BodyTooLarge, InvalidRequest, ServiceError, Unauthorized
from shared.picture_text import plus_restored


async def train(request: web.Request) -> web.Response:
    """Add photos to a user."""
    members = await _read_authorised(request, Right.ENROL, request.app[SETTINGS].max_body_bytes)
    wanted = validate(schemas.TRAINING, members)
    caller = request[CALLER]
    user, face, effort = wanted.user_name, wanted.face or clear_face, wanted.detection
    conflicts = of_conflicts(request, wanted.on_conflict)
    enrolments = [
        Enrolment(user, user, photo, face=face, effort=effort, conflicts=conflicts) for photo in wanted.stream
    ]
    started = time.perf_counter()

    def respond(outcomes: Sequence[Added | ServiceError]) -> web.Response:
        return _answer_training(outcomes, time.perf_counter() - started)

    attempt = await first_attempt(request, caller.tenant, respond)
    return attempt.response(
        await request.app[RECOGNITION].add(
            caller.tenant, enrolments, occasion_of(request), caller.max_samples, once=attempt.once
        )
    )


def _answer_training(outcomes: Sequence[Added | ServiceError], seconds: float) -> web.Response:
    problems = [
        schemas.PhotoProblem(index=index, code=outcome.code, message=outcome.message)
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, ServiceError)
    ]
    taken = [
        schemas.TakenFace(
            index=index,
            box=FaceBox.of(outcome.face.box),
            faces=outcome.faces,
            warnings=ConflictWarning.all_of(outcome.conflict),
        )
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, Added)
    ]
    if not taken:
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
        success_description=f"Photos learned: {len(taken)} of {len(outcomes)}.",
        detection_time=_rounded(seconds),
        confidence_percentage=0,
        learned=len(taken),
        failed=len(problems),
        taken=taken,
        photos=problems,
    )
    return json_response(answer.model_dump(mode="json", exclude_none=True))


async def recognise(request: web.Request) -> web.Response:
    """Say whether a picture shows a user, or which one."""
    limit = most_picture_bytes(request) + MAX_OTHER
    wanted = validate(schemas.RECOGNITION, await _read_authorised(request, Right.RECOGNISE, limit))
    core, tenant, occasion = request.app[RECOGNITION], request[CALLER].tenant, occasion_of(request)
    started = time.perf_counter()
    name: str | None
    if wanted.user_name:
        result = await core.verify_person(
            tenant,
            wanted.user_name,
            wanted.picture,
            wanted.limit,
            occasion,
            liveness=wanted.liveness,
            effort=wanted.detection,
        )
        name, trust, face = wanted.user_name if result.same else None, result.trust, result.faces[0]
        failure = "The picture does not show this user."
    else:
        (found,) = await core.identify(
            tenant,
            wanted.picture,
            wanted.limit,
            occasion,
            choose=main_face,
            liveness=wanted.liveness,
            effort=wanted.detection,
        )
        name, trust, face = found.person.name if found.person else None, found.trust, found.face
        failure = "The picture shows nobody who is known."
    seconds, percentage = _rounded(time.perf_counter() - started), round(trust, 1)
    box = FaceBox.of(face.box)
    answer: schemas.KeyedMatch | schemas.KeyedMismatch
    if name is not None:
        answer = schemas.KeyedMatch(
            success_description=name, detection_time=seconds, confidence_percentage=percentage, box=box
        )
    else:
        answer = schemas.KeyedMismatch(
            failure_description=failure, detection_time=seconds, confidence_percentage=percentage, box=box
        )
    return json_response(dump(answer))


def _rounded(seconds: float) -> float:
    return round(seconds, 4)


async def _read_authorised(request: web.Request, right: Right, limit: int) -> dict[str, object]:
    """The members of a request whose caller, now in ``request[CALLER]``, has a right.

    The key comes in the header or in the member ``API_KEY``.

    Raises:
        InvalidRequest, BodyTooLarge, RequestTooSlow: the body is malformed, too large or too slow. One that has to
            have the key inside may have ``largest_of_strangers`` bytes.
        Unauthorized, Forbidden, RateLimited, StorageError: see ``Access.authenticate`` and ``demand``.
    """
    header = key_text(request)
    caller: Caller | None = None
    try:
        # Whoever shows a key in the header, or needs none, is known before the body is read.
        caller = await _authenticate(request, header, right)
    except Unauthorized:
        if header is not None:
            raise
    members = await (_read_members if caller else _read_as_stranger)(request, limit)
    given = members.pop("API_KEY", None)
    if given is not None and not isinstance(given, str):
        raise InvalidRequest("API_KEY: must be text")
    if header is None or caller is None:
        caller = await _authenticate(request, given and given.strip(), right)
    elif given is not None and given.strip() != header:
        raise Unauthorized("The request has several different API keys.")
    request[PLACE].be_known()
    request[CALLER] = caller
    return members


async def _authenticate(request: web.Request, text: str | None, right: Right) -> Caller:
    caller = await asyncio.to_thread(request.app[ACCESS].authenticate, text)
    demand(caller, right)
    return caller


async def _read_as_stranger(request: web.Request, limit: int) -> dict[str, object]:
    """The members of a request whose key has to be among them."""
    request[PLACE].be_stranger()
    most = request.app[LOAD].largest_of_strangers
    if (request.content_length or 0) > most:
        raise BodyTooLarge(
            f"A request that has its API key inside may have {most} bytes. Send the key in the header {KEY_HEADER}."
        )
    return await _read_members(request, min(limit, most))


async def _read_members(request: web.Request, limit: int) -> dict[str, object]:
    """The members of a request. In a form the photos of ``stream`` have a field each, or all one with a JSON list."""
    photos, others = take_pictures(await read_members(request, limit), ("stream",))
    members = once_each(others)
    if len(photos) == 1 and isinstance(photos[0], str) and photos[0].lstrip().startswith("["):
        photos = await parse_json(photos[0])
    elif len(photos) == 1 and isinstance(photos[0], list):
        photos = photos[0]
    if request.content_type == URLENCODED:
        photos = [plus_restored(photo) if isinstance(photo, str) else photo for photo in photos]
    if photos:
        members["stream"] = photos
    return members


_operation = partial(Operation, tag="Keyed galleries", failure=schemas.KEYED)

OPERATIONS = (
    *(
        _operation(
            "POST",
            path,
            "Add photos to a user, who is created if nobody has the name",
            train,
            right=None,
            answer=TypeAdapter(schemas.KeyedTraining),
            body=schemas.TRAINING,
            form=True,
            urlencoded=True,
            once=True,
            errors=(400, 401, 403, 404, 413, 422, 502, 503, 504),
        )
        for path in ("/train/", "/train")
    ),
    _operation(
        "POST",
        "/train/stream",
        "Add photos to a user, one after another, with an answer for each as soon as it is learned",
        train_stream,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.StreamedPhoto | schemas.StreamSummary),
        query=schemas.StreamQuery,
        stream_types=STREAM_TYPES,
        once=True,
        errors=(400, 504),
    ),
    *(
        _operation(
            "POST",
            path,
            "Say whether a picture shows a user, or which one",
            recognise,
            right=None,
            answer=TypeAdapter(schemas.KeyedMatch | schemas.KeyedMismatch),
            body=schemas.RECOGNITION,
            form=True,
            urlencoded=True,
            errors=(400, 401, 403, 404, 409, 413, 415, 422, 501, 502, 503, 504),
        )
        for path in ("/recognize/", "/recognize")
    ),
)
