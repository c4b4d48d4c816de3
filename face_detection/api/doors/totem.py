"""Requests of companies' totems and gates: who is this, and register whoever is not known.

Whatever a client of this interface must tell apart is a ``status`` in an answer with HTTP 200, see ``Status``. What
has none (malformed JSON, a refused key, a service that is down) is answered with its HTTP status and the service's
own body, to which ``requestNumber`` is added where it is known.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from face_detection.access import Caller, demand
from face_detection.api.doors.totem_schemas import (
    NOBODY,
    AppCode,
    CompanyRecognitionAnswer,
    CompanyRecognitionFailure,
    CompanyRecognitionRequest,
    Number,
    Status,
)
from face_detection.api.http.authentication import authenticate, caller_for_company
from face_detection.api.http.bodies import SETTINGS, most_picture_bytes, parse_json, read_json
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import CALLER, DIRECTORY, RECOGNITION, FailureForm, Operation, json_response
from face_detection.gallery.directory import MAX_INTEGER, Right
from face_detection.gallery.events import Occasion
from face_detection.recognition.choice import main_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.identification import Recognised
from face_detection.recognition.service import Added
from shared import wire
from shared.errors import AmbiguousFace, FaceNotFound, ImageError, InvalidRequest, NotFound, ServiceError
from shared.models import Metric

TAG = "Company requests"

DLIB_DISTANCE = math.sqrt(0.2)
"""Threshold of the model ``dlib`` for companies without one: 0.447.

Clients of this interface were built on squared Euclidean distances with the threshold 0.2. Here distances are plain
Euclidean, and d² < 0.2 exactly when d < √0.2.
"""

_MAX_MEMBERS = 1 << 16
_KEY = re.compile(r"0|[1-9][0-9]{0,18}")

_RIGHTS = {
    AppCode.IDENTIFY: (Right.RECOGNISE,),
    AppCode.IDENTIFY_OR_REGISTER: (Right.RECOGNISE, Right.ENROL),
    AppCode.REGISTER: (Right.ENROL,),
}

_FAULTS = {
    "app_code": Status.INVALID_REQUEST_CODE,
    "key_person": Status.INVALID_REQUEST_CODE,
    "company_code": Status.COMPANY_NOT_REGISTERED,
    "capture_device_code": Status.NO_SUCH_DEVICE,
    "longitude": Status.INVALID_LONGITUDE,
    "latitude": Status.INVALID_LATITUDE,
    "type_image": Status.INCOMPATIBLE_IMAGE,
    "image_validate": Status.INCOMPATIBLE_IMAGE,
}
"""What a malformed member is answered with; of several the first here decides."""

_REQUEST = TypeAdapter(CompanyRecognitionRequest)
_NUMBER: TypeAdapter[int] = TypeAdapter(Number)

_request_number: ContextVar[int | None] = ContextVar("request_number", default=None)
"""Of the request at hand, for the answer if it fails; aiohttp gives every request a context of its own."""


class _Refused(ServiceError):
    """The request cannot be done, for a reason that has a status."""

    code = "refused"

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


async def recognise_in_company(request: web.Request) -> web.Response:
    """Identify or register the main face of a picture."""
    request[CALLER] = await authenticate(request)  # before the body is read
    wanted = _parse(await _read(request))
    caller = await _caller(request, wanted)
    for right in _RIGHTS[wanted.app_code]:
        demand(caller, right)
    await _check_device(request, caller.tenant, wanted.capture_device_code)
    occasion = Occasion(caller.key, wanted.capture_device_code, wanted.latitude, wanted.longitude)
    try:
        return await _work(request, wanted, caller, occasion)
    except NotFound:  # deleted meanwhile
        raise _Refused(Status.COMPANY_NOT_REGISTERED) from None


async def _work(
    request: web.Request, wanted: CompanyRecognitionRequest, caller: Caller, occasion: Occasion
) -> web.Response:
    recognition, id = request.app[RECOGNITION], str(wanted.key_person)

    def respond(outcomes: Sequence[Added | ServiceError]) -> web.Response:
        (added,) = outcomes
        if isinstance(added, ServiceError):
            raise added
        return json_response(_answer(Status.REGISTERED, _key(id)))

    attempt = await first_attempt(request, caller.tenant, respond)
    photo = Enrolment(id, id, wanted.image_validate)
    if wanted.app_code is AppCode.REGISTER:
        added = await recognition.add(caller.tenant, [photo], occasion, caller.max_samples, once=attempt.once)
        return attempt.response(added)
    threshold = await _threshold(request, caller.tenant)
    found: Recognised | list[Added | ServiceError]
    if wanted.app_code is AppCode.IDENTIFY:
        (found,) = await recognition.identify(caller.tenant, photo.picture, threshold, occasion, choose=main_face)
    else:
        found = await recognition.identify_or_add(
            caller.tenant, photo, threshold, occasion, caller.max_samples, attempt.once
        )
    if isinstance(found, list):
        return attempt.response(found)
    if found.person is None:
        return json_response(_answer(Status.NOT_FOUND))
    return json_response(_answer(Status.FOUND, _key(found.person.id)))


async def _read(request: web.Request) -> Mapping[str, Any]:
    """The request's members. Some clients send the JSON text once more as JSON, as a string."""
    body = await read_json(request, most_picture_bytes(request) + _MAX_MEMBERS)
    if isinstance(body, str):
        body = await parse_json(body)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _parse(body: Mapping[str, Any]) -> CompanyRecognitionRequest:
    """Validate a request, whose number is known from here on.

    Raises:
        InvalidRequest: the request's number is none.
        _Refused: another member is malformed or missing.
    """
    if body.get("requestNumber") is not None:
        try:
            _request_number.set(_NUMBER.validate_python(body["requestNumber"]))
        except ValidationError:
            raise InvalidRequest(f"requestNumber must be an integer from 0 to {MAX_INTEGER}.") from None
    try:
        return _REQUEST.validate_python(body)
    except ValidationError as error:
        members = {fault["loc"][0] for fault in error.errors(include_url=False, include_context=False)}
        raise _Refused(next(status for member, status in _FAULTS.items() if member in members)) from None


async def _caller(request: web.Request, wanted: CompanyRecognitionRequest) -> Caller:
    """Whom the request is from. A company that is another's and one that does not exist look the same."""
    try:
        return await caller_for_company(request, wanted.company_code)
    except NotFound:
        raise _Refused(Status.COMPANY_NOT_REGISTERED) from None


async def _check_device(request: web.Request, tenant: str, code: int) -> None:
    try:
        device = await asyncio.to_thread(request.app[DIRECTORY].device, tenant, code)
    except NotFound:
        raise _Refused(Status.NO_SUCH_DEVICE) from None
    if device.sector is None:
        raise _Refused(Status.DEVICE_WITHOUT_SECTOR)


async def _threshold(request: web.Request, tenant: str) -> float | None:
    """The company's, else the installation's, else for dlib ``DLIB_DISTANCE``; None leaves it to the model."""
    recognition = request.app[RECOGNITION]
    model = await recognition.model()
    if model.card.name != "dlib" or recognition.identifier.metric(model) is not Metric.EUCLIDEAN:
        return None
    settings = (await asyncio.to_thread(request.app[DIRECTORY].tenant, tenant)).settings
    chosen = settings.min_distance is not None or request.app[SETTINGS].min_distance is not None
    return None if chosen else DLIB_DISTANCE


def _key(id: str) -> int | str:
    """A person's id as a number where it is one in its shortest form, so that different ids stay different."""
    return int(id) if _KEY.fullmatch(id) and int(id) <= MAX_INTEGER else id


def _answer(status: Status, person: int | str = NOBODY) -> dict[str, Any]:
    return {"requestNumber": _request_number.get(), "status": int(status), "idPerson": person}


def _word(error: ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    if isinstance(error, _Refused):
        return 200, _answer(error.status)
    if isinstance(error, ImageError | FaceNotFound | AmbiguousFace):
        return 200, _answer(Status.INCOMPATIBLE_IMAGE)
    number = _request_number.get()
    known = {} if number is None else {"requestNumber": number}
    return status, {**wire.error_body(error, request_id), **known}


_FAILURE = FailureForm(_word, CompanyRecognitionFailure)

OPERATIONS = tuple(
    Operation(
        "POST",
        path,
        "Identify or register a person of a company",
        recognise_in_company,
        TAG,
        right=None,
        answer=TypeAdapter(CompanyRecognitionAnswer),
        body=_REQUEST,
        once=True,
        errors=(400, 401, 403, 413, 502, 503, 504),
        failure=_FAILURE,
    )
    for path in ("/", "/companies/recognition")
)
