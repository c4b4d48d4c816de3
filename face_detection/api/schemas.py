"""What requests and answers of several doors have in common; the rest stands beside its handlers."""

from __future__ import annotations

from collections.abc import Set
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from face_detection.api.http.bodies import validate
from face_detection.api.validation import FieldText, Flag, ForeignRequest, Id, OwnRequest, Real, StoredId, Text, Whole
from face_detection.live.session import LiveFace
from face_detection.recognition.choice import Choose, parse_choice
from face_detection.recognition.conflicts import Conflict, Kind
from face_detection.recognition.decision import Reason
from face_detection.recognition.identification import Recognised
from face_detection.recognition.quality import Quality
from shared import exact_json
from shared.calibration import Limit, limit_of, short_rate
from shared.errors import InvalidRequest, ServiceError
from shared.formats import ACCEPTED
from shared.geometry import Angle, Box
from shared.models import MINIFASNET, Effort, OnConflict

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
Detection = Annotated[
    Effort | None,
    Field(
        description="How hard faces are looked for: `fast`, or `thorough` for those of less than twice `MIN_FACE` in "
        "large pictures, and for turned heads beside upright ones. Default: as the service is set (`DETECTION`)."
    ),
]
ConflictAction = Annotated[
    OnConflict | None,
    Field(
        description="What becomes of a photo that is nearer to somebody else than to its own person, or unlike its "
        "person's others: `report` stores it and says so, `refuse` does not store it (`photo_conflict`). Default: as "
        "the service is set (`ON_CONFLICT`)."
    ),
]
HeadAngle = Annotated[
    Angle, Field(description="Degrees clockwise by which the head is turned in the picture, to the next quarter.")
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
    Field(description="Faces match when their distance is strictly less. Default: the company's, else the model's."),
]
WithQuality = Annotated[
    Flag, Field(description="Also say how well each face can be recognised: `quality` and `quality_parts`.")
]
WithLiveness = Annotated[
    Flag,
    Field(
        description="Check that faces are of people before the camera, and not of pictures of them: one that fails is "
        "not named. Where the company requires it, it is always so."
    ),
]
Liveness = Annotated[
    float | None,
    Field(
        description="How sure it is that the face is of a person before the camera, from 0 to 1; from "
        f"{MINIFASNET.threshold:g} on it counts as such. Left out where that was not checked."
    ),
]
NamedReason = Annotated[
    Reason | None,
    Field(
        description="Why nobody is named however near somebody may be: `low_quality` for a face that cannot carry a "
        "name, `not_live` for one that failed the liveness check. Null when the distance has decided."
    ),
]

FalseMatchRateWanted = Annotated[
    Annotated[Real, Field(gt=0, lt=1)] | None,
    Field(
        description="Instead of `min_distance`: the rate at which strangers may be named, such as 0.001. The threshold "
        "follows from the curve of the model or of the company, and from the number of samples."
    ),
]
ThresholdUsed = Annotated[float, Field(description="Below which a distance counts as a match.")]
ThresholdRate = Annotated[
    float | None,
    Field(
        description="At `threshold` the rate at which strangers are named, in a gallery of this size: more than was "
        "asked for where the curve knows nothing of smaller rates; null where the model has no curve."
    ),
]
MatchRate = Annotated[
    float | None,
    Field(
        description="At `distance` the rate at which strangers are named, in a gallery of this size; null for nobody, "
        "and where the model has no curve."
    ),
]
Margin = Annotated[
    float | None,
    Field(
        description="By how much the nearest sample of anybody else is further away, negative where it is nearer and "
        "was outvoted; null for nobody, and where there is nobody else."
    ),
]
Ambiguous = Annotated[bool, Field(description="Whether `margin` is too little to tell the two people apart.")]

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


class ThresholdOptions(BaseModel):
    """Below which distance faces match."""

    min_distance: MinDistance = None
    false_match_rate: FalseMatchRateWanted = None

    @property
    def limit(self) -> Limit | None:
        """The threshold, however it is named; None where it is not."""
        return limit_of(self.min_distance, self.false_match_rate)

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        try:
            limit_of(self.min_distance, self.false_match_rate)
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return self


def findings(one: Recognised | LiveFace) -> dict[str, Any]:
    """How near a face is to whom it was recognised as, beside its distance: the members with the types above."""
    return {
        "threshold": one.threshold,
        "threshold_rate": short_rate(one.threshold_rate),
        "false_match_rate": short_rate(one.false_match_rate),
        "margin": None if one.margin is None else round(one.margin, 4),
        "ambiguous": one.ambiguous,
    }


class VerificationOptions(ThresholdOptions, OwnRequest):
    """How two faces are compared."""

    liveness: WithLiveness = False


def dump_checked(answer: BaseModel, without: Set[str] = frozenset()) -> dict[str, Any]:
    """An answer as plain values, without some members, and without scores of the liveness check that was not asked."""
    unchecked = {name for name in ("liveness", "liveness1", "liveness2") if getattr(answer, name, None) is None}
    return answer.model_dump(mode="json", exclude={*without, *unchecked})


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


class QualityParts(BaseModel):
    """What was measured of a face, see docs/models.md."""

    eyes: float = Field(description="Pixels of the picture between the eyes.")
    sharpness: float = Field(description="0.2 where a name can just be told, 0.5 and more in clean photos.")
    detail: float = Field(description="Share of the face that is not plain, 0 to 1.")
    noise: float = Field(description="Standard deviation, in gray levels.")
    brightness: float = Field(description="Mean gray level, 0 to 255.")
    contrast: float = Field(description="Standard deviation of the gray levels.")
    yaw: float = Field(description="Degrees by which the face is turned to the right of the picture.")
    pitch: float = Field(description="Degrees by which it is turned up.")
    roll: float = Field(description="Degrees by which it is tilted, clockwise.")
    inside: float = Field(description="Share of the face that the picture shows, 0 to 1.")
    score: float = Field(description="The detector's confidence, 0 to 1.")
    tolerance: float = Field(description="Share of the threshold that counts for this face, 0.85 to 1 for a clear one.")


class Measured(BaseModel):
    """How well a face can be recognised, if that was asked for."""

    quality: float | None = Field(default=None, description="0 to 1: that of the worst part.")
    quality_parts: QualityParts | None = None

    def measured(self, quality: Quality) -> Self:
        """The same with what was measured."""
        figures = {name: round(getattr(quality, name), 4) for name in QualityParts.model_fields}
        return self.model_copy(update={"quality": round(quality.value, 4), "quality_parts": QualityParts(**figures)})


class ConflictWarning(BaseModel):
    """Why a photo is hardly of its person.

    ``id``, ``name``, ``photo`` and ``distance`` are left out where somebody else is nearer and the API key may not
    recognise, and ``photo`` where it is of the same request.
    """

    code: Kind = Field(
        description="`nearer_to_other`: somebody else's photo is a match, and none of its own person is as near; "
        "`unlike_own`: far from all other photos of its person."
    )
    message: str
    id: str | None = Field(default=None, description="Of whoever is nearest: somebody else, or the person.")
    name: str | None = None
    photo: int | None = Field(default=None, description="Number of the nearest photo of theirs.")
    distance: float | None = Field(default=None, description="To that.")
    threshold: float = Field(description="Below which a distance is a match.")

    @classmethod
    def all_of(cls, conflict: Conflict | None) -> list[Self] | None:
        """The warnings that a photo comes to, None where there is no conflict."""
        return [cls(**conflict.members)] if conflict else None


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable name of the error.")
    message: str


class PictureErrorDetail(ErrorDetail):
    """What went wrong, perhaps with a picture. Members that do not apply are left out."""

    input: str | None = Field(default=None, description="Which of several pictures it is about.")
    bbox: str | None = Field(
        default=None, description="Of the face that is too bad, `x, y, width, height`; for `low_quality`."
    )
    boxes: list[str] | None = Field(
        default=None, description="Of the faces that may be meant, each `x, y, width, height`; for `ambiguous_face`."
    )
    conflict: ConflictWarning | None = Field(default=None, description="What it contradicts; for `photo_conflict`.")

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
