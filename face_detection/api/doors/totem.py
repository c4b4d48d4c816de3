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
from enum import IntEnum
from typing import Annotated, Any

from aiohttp import web
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.alias_generators import to_camel

from face_detection.access import Caller, demand
from face_detection.api import schemas
from face_detection.api.http.authentication import authenticate, caller_for_company
from face_detection.api.http.bodies import SETTINGS, most_picture_bytes, parse_json, read_json
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import CALLER, DIRECTORY, RECOGNITION, FailureForm, Operation, json_response
from face_detection.api.validation import ForeignRequest, Numbered, Real, Whole, read_as_text
from face_detection.gallery.directory import MAX_INTEGER, Right
from face_detection.gallery.events import Occasion
from face_detection.recognition.choice import main_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.identification import Recognised
from face_detection.recognition.service import Added
from shared import wire
from shared.errors import (
    AmbiguousFace,
    FaceNotFound,
    ImageError,
    InvalidRequest,
    LowQuality,
    NotFound,
    PhotoConflict,
    ServiceError,
)
from shared.models import Metric

TAG = "Company requests"

DLIB_DISTANCE = math.sqrt(0.2)
"""Threshold of the model ``dlib`` for companies without one: 0.447.

Clients of this interface were built on squared Euclidean distances with the threshold 0.2. Here distances are plain
Euclidean, and d² < 0.2 exactly when d < √0.2.
"""


NOBODY = 999_999_999
"""``idPerson`` where there is none; nobody is registered under it."""


class Status(IntEnum):
    """What became of a request."""

    FOUND = 1
    NOT_FOUND = 3
    REGISTERED = 6
    INVALID_REQUEST_CODE = 5001
    DEVICE_WITHOUT_SECTOR = 5002
    COMPANY_NOT_REGISTERED = 5005
    INCOMPATIBLE_IMAGE = 5009
    NO_SUCH_DEVICE = 5012
    INVALID_LONGITUDE = 5013
    INVALID_LATITUDE = 5014


class AppCode(IntEnum):
    """What a request wants."""

    IDENTIFY = 1
    IDENTIFY_OR_REGISTER = 2
    REGISTER = 3


# Numbers may come as text.
AnyWhole = Annotated[Whole, BeforeValidator(read_as_text)]
Number = Annotated[AnyWhole, Field(ge=0, le=MAX_INTEGER)]
Degrees = Annotated[Real, BeforeValidator(read_as_text)]


_WHOLE: TypeAdapter[int] = TypeAdapter(AnyWhole)


def _app_code(value: object) -> int:
    return _WHOLE.validate_python(value)


_CAMEL = ConfigDict(alias_generator=to_camel, loc_by_alias=False)


class CompanyRecognitionRequest(ForeignRequest):
    """One picture of one person, in one company. Numbers may be sent as text; further members are ignored."""

    model_config = _CAMEL

    request_number: Number | None = Field(default=None, description="Comes back in the answer.")
    app_code: Annotated[AppCode, BeforeValidator(_app_code)] = Field(
        description="1: who is this? 2: the same, and register whoever is not known. 3: register."
    )
    company_code: Annotated[str, Field(max_length=64), Numbered] = Field(description="Whose people.")
    capture_device_code: Number = Field(description="A device of the company that stands in a sector.")
    latitude: Annotated[Degrees, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Degrees, Field(ge=-180, le=180)] | None = None
    key_person: Number | None = Field(
        default=None, validate_default=True, description=f"Needed to register, ignored otherwise. Not {NOBODY}."
    )
    type_image: Annotated[AnyWhole, Field(ge=2, le=2)] = Field(
        description="2: base64, with or without data:image/…;base64, in front."
    )
    image_validate: str = Field(min_length=1, description="The picture; its main face counts.")

    @field_validator("key_person", mode="wrap")
    @classmethod
    def _need_key(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> int | None:
        if info.data.get("app_code", AppCode.IDENTIFY) is AppCode.IDENTIFY:
            return None
        number: int | None = validate(value)
        if number in (None, NOBODY):
            raise ValueError("is needed to register")
        return number


class CompanyRecognitionAnswer(BaseModel):
    """What became of the request."""

    model_config = _CAMEL

    request_number: int | None = Field(description="As in the request.")
    status: Status
    id_person: int | str = Field(
        description=f"Key of the person, {NOBODY} where there is none; text where the person's id is not a number."
    )


class CompanyRecognitionFailure(schemas.ErrorAnswer):
    """The body of an error that has no status of its own."""

    request_number: int | None = Field(None, alias="requestNumber", description="Left out where it is not known.")


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
    chosen = settings.limit is not None or request.app[SETTINGS].limit is not None
    return None if chosen else DLIB_DISTANCE


def _key(id: str) -> int | str:
    """A person's id as a number where it is one in its shortest form, so that different ids stay different."""
    return int(id) if _KEY.fullmatch(id) and int(id) <= MAX_INTEGER else id


def _answer(status: Status, person: int | str = NOBODY) -> dict[str, Any]:
    return {"requestNumber": _request_number.get(), "status": int(status), "idPerson": person}


def _word(error: ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    if isinstance(error, _Refused):
        return 200, _answer(error.status)
    if isinstance(error, ImageError | FaceNotFound | AmbiguousFace | LowQuality | PhotoConflict):
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
        errors=(400, 401, 403, 413, 501, 502, 503, 504),
        failure=_FAILURE,
    )
    for path in ("/", "/companies/recognition")
)
