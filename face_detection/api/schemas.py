"""What requests and answers of several doors have in common; the rest stands beside its handlers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, TypeAdapter, WithJsonSchema

from face_detection.api.http.bodies import validate
from face_detection.api.validation import FieldText, ForeignRequest, Id, OwnRequest, Real, StoredId, Text, Whole
from face_detection.recognition.choice import Choose, parse_choice
from shared import exact_json
from shared.errors import InvalidRequest, ServiceError
from shared.formats import ACCEPTED
from shared.geometry import Box

_MAX_METADATA = 1 << 16

T = TypeVar("T")


def small(metadata: Any) -> Any:
    """Metadata as it is, if it is JSON of at most 64 KiB that will come back as it was sent."""
    if exact_json.has_inexact_numbers(metadata):
        raise ValueError("has a number with more digits than a 64-bit number holds: send it as text")
    try:
        size = len(exact_json.dumps(metadata))
    except TypeError:  # bytes, as a form's file has them, or nested deeper than orjson goes
        size = _MAX_METADATA + 1
    if size > _MAX_METADATA:
        raise ValueError(f"must be JSON of at most {_MAX_METADATA} bytes, and not too deep")
    return metadata


def _text_or_file(value: object) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise ValueError("must be text or a file")
    return value


def _chosen(value: object) -> Choose:
    if not isinstance(value, str):
        raise ValueError("must be largest, or x,y of a point in the face, as text")
    try:
        return parse_choice(value)
    except InvalidRequest as error:
        raise ValueError(error.message) from None


Metadata = Annotated[Any, AfterValidator(small)]
Action = Annotated[Text, Field(max_length=256)]
Picture = Annotated[
    str | bytes,
    PlainValidator(_text_or_file),
    WithJsonSchema(
        {
            "type": "string",
            "description": f"{ACCEPTED}: a data URI (data:image/jpeg;base64,…) or base64 alone; "
            "in a multipart form the file itself.",
        }
    ),
]
FaceChoice = Annotated[
    Annotated[
        Choose,
        PlainValidator(_chosen),
        WithJsonSchema({"type": "string", "examples": ["largest", "420,310"]}),
    ]
    | None,
    Field(
        description="Which face of the picture is meant: `largest`, or `x,y` of a point in it, in pixels of the "
        "upright picture. Default: the one that is large and near to the middle."
    ),
]
MinDistance = Annotated[
    Annotated[Real, Field(ge=0)] | None,
    Field(description="Faces match when their distance is strictly less. Default: the model's, see /readyz."),
]


_NUMBER: TypeAdapter[int] = TypeAdapter(Annotated[Whole, Field(ge=0, lt=2**63)])
_ID: TypeAdapter[str] = TypeAdapter(Id)


def check_id(text: str) -> str:
    """An id that stands in an address, of somebody who may be new.

    Raises:
        InvalidRequest: nobody may have it.
    """
    return _worded("id", _ID, text)


def parse_number(text: str) -> int:
    """A number that stands in an address.

    Raises:
        InvalidRequest: it is not an integer from 0 to 2⁶³ − 1.
    """
    return _worded("number", _NUMBER, FieldText(text))


def time_of(revision: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(revision // 1_000_000, UTC).replace(microsecond=revision % 1_000_000).isoformat()


def _worded(what: str, adapter: TypeAdapter[T], value: object) -> T:
    try:
        return validate(adapter, value)
    except InvalidRequest as error:
        raise InvalidRequest(f"{what}: {error.message}") from None


class VerificationOptions(OwnRequest):
    """How two faces are compared."""

    min_distance: MinDistance = None


class _Page(BaseModel):
    """Which part of a list."""

    limit: Whole = Field(default=100, ge=1, le=1000, description="Most entries on the page.")
    after: Annotated[StoredId | None, BeforeValidator(lambda after: None if after == "" else after)] = Field(
        default=None, description="`next` of the page before; empty for the first."
    )


class PageRequest(_Page, OwnRequest):
    """Which part of a list."""


class ForeignPageRequest(_Page, ForeignRequest):
    """Which part of a list, at a door of others."""


class FaceBox(BaseModel):
    """A box by its top left corner and its size, in pixels of the upright picture."""

    x: int
    y: int
    w: int
    h: int

    @classmethod
    def of(cls, box: Box) -> FaceBox:
        """The answer for a box."""
        return cls(x=box.x, y=box.y, w=box.width, h=box.height)


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable name of the error.")
    message: str


class PictureErrorDetail(ErrorDetail):
    """What went wrong, perhaps with a picture. Members that do not apply are left out."""

    input: str | None = Field(default=None, description="Which of several pictures it is about.")
    boxes: list[str] | None = Field(
        default=None, description="Of the faces that may be meant, each `x, y, width, height`; for `ambiguous_face`."
    )

    @classmethod
    def of(cls, error: ServiceError) -> PictureErrorDetail:
        """What is said of an error."""
        return cls(code=error.code, message=error.message, **error.details)


class ErrorAnswer(BaseModel):
    """The body of an error."""

    error: PictureErrorDetail
    request_id: str


class SuccessAnswer(BaseModel):
    """It was done."""

    success: str
