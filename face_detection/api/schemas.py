"""What requests and answers look like: validates the former, documents both in ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, TypeAdapter, WithJsonSchema

from face_detection.api.http.bodies import validate
from face_detection.api.validation import (
    FieldText,
    Flag,
    ForeignRequest,
    Id,
    Name,
    OwnRequest,
    Real,
    StoredId,
    Text,
    Whole,
)
from face_detection.recognition.choice import Choose, clear_face, parse_choice
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.identification import Recognised
from face_detection.recognition.verification import Verification
from shared import exact_json
from shared.errors import InvalidRequest, ServiceError
from shared.formats import ACCEPTED
from shared.geometry import Box, Face

_DISTANCE_DIGITS = 4
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


def parse_number(text: str, what: str = "number") -> int:
    """A number that stands in an address.

    Raises:
        InvalidRequest: it is not an integer from 0 to 2⁶³ − 1.
    """
    return _worded(what, _NUMBER, FieldText(text))


def _worded(what: str, adapter: TypeAdapter[T], value: object) -> T:
    try:
        return validate(adapter, value)
    except InvalidRequest as error:
        raise InvalidRequest(f"{what}: {error.message}") from None


class _OriginalRequest(ForeignRequest):
    # Clients of the original service send members of their own, none of which is a slip of a known name.
    refuses_slips = True


class SampleRequest(_OriginalRequest):
    """One sample to enrol."""

    id: Id = Field(description="Unique; sending an id again replaces its sample.")
    name: Name = Field(description="What to call the person.")
    image: Picture
    metadata: Metadata = Field(
        default=None, description="Any JSON value of at most 64 KiB; given back with every match."
    )
    action: Action | None = Field(default=None, description="Free text for the client; given back with every match.")
    face: FaceChoice = None

    def enrolment(self) -> Enrolment:
        """The request in the core's terms."""
        return Enrolment(self.id, self.name, self.image, self.metadata, self.action, self.face or clear_face)


class RecognitionOptions(_OriginalRequest):
    """How the faces of a picture are to be named."""

    min_distance: MinDistance = None
    include_unknown: Flag = Field(default=False, description="Also return the faces that match nobody.")
    candidates: Whole = Field(
        default=0,
        ge=0,
        le=10,
        description="Also name this many people who are closest to each face, near enough or not.",
    )


class RecognitionRequest(RecognitionOptions):
    """A picture whose faces are to be named."""

    image: Picture


class VerificationOptions(OwnRequest):
    """How two faces are compared."""

    min_distance: MinDistance = None


class PairOptions(VerificationOptions):
    """How the faces of two pictures are compared."""

    face1: FaceChoice = None
    face2: FaceChoice = None


class VerificationRequest(PairOptions):
    """Two pictures; one face of each is compared."""

    image1: Picture
    image2: Picture


class DetectionRequest(OwnRequest):
    """A picture whose faces are to be found."""

    image: Picture


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


class PlainErrorAnswer(BaseModel):
    """The body of an error at the original service's addresses."""

    error: str = Field(description="`Invalid request.` for 400, else what went wrong.")
    code: str = Field(description="Stable name of the error.")
    detail: str = Field(description="What exactly is wrong.")
    request_id: str


class UpdateAnswer(BaseModel):
    """What became of a batch. ``errors`` and ``warnings`` are left out when empty."""

    success: list[str] = Field(description="Ids that were stored.")
    fail: list[str] = Field(description="Ids that were not.")
    errors: dict[str, PictureErrorDetail] | None = Field(default=None, description="Why, for every id in `fail`.")
    warnings: dict[str, list[str]] | None = Field(default=None, description="Remarks on stored samples.")


class CandidateAnswer(BaseModel):
    """Somebody who is close to a face."""

    id: str
    name: str
    distance: float


class RecognisedFace(BaseModel):
    """A face and who it is; ``id``, ``name`` and ``metadata`` are empty for an unknown one."""

    bbox: str = Field(description="`x, y, width, height` in pixels of the upright picture.")
    id: str
    name: str
    metadata: Any
    action: str | None = None
    distance: float | None = Field(description="To the nearest sample; null when the gallery is empty.")
    candidates: list[CandidateAnswer] | None = Field(
        default=None, description="The closest people, nearest first, if they were asked for."
    )

    @classmethod
    def of(cls, one: Recognised) -> RecognisedFace:
        """The answer for a face."""
        person = one.person
        closest = [
            CandidateAnswer(
                id=candidate.sample.person.id,
                name=candidate.sample.person.name,
                distance=round(candidate.distance, _DISTANCE_DIGITS),
            )
            for candidate in one.closest
        ]
        return cls(
            bbox=str(one.face.box),
            id=person.id if person else "",
            name=person.name if person else "",
            metadata=person.metadata if person else "",
            action=person.action if person else None,
            distance=None if one.distance is None else round(one.distance, _DISTANCE_DIGITS),
            candidates=closest or None,
        )


class VerificationAnswer(BaseModel):
    """Whether two pictures show the same person."""

    same: bool = Field(description="`distance` < `threshold`")
    distance: float
    threshold: float
    bbox1: str
    bbox2: str

    @classmethod
    def of(cls, one: Verification) -> VerificationAnswer:
        """The answer for a comparison."""
        first, second = one.faces
        return cls(
            same=one.same,
            distance=round(one.distance, _DISTANCE_DIGITS),
            threshold=one.threshold,
            bbox1=str(first.box),
            bbox2=str(second.box),
        )


class LandmarksAnswer(BaseModel):
    """Five points, each [x, y] in pixels; right and left are the person's own."""

    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    nose: tuple[float, float]
    right_mouth: tuple[float, float]
    left_mouth: tuple[float, float]


class DetectedFace(BaseModel):
    """A face that was found."""

    bbox: str = Field(description="`x, y, width, height` in pixels of the upright picture.")
    landmarks: LandmarksAnswer
    score: float = Field(description="The detector's confidence, from 0 to 1.")

    @classmethod
    def of(cls, face: Face) -> DetectedFace:
        """The answer for a face."""
        names = LandmarksAnswer.model_fields
        points = [(round(x, 1), round(y, 1)) for x, y in face.landmarks.points]
        return cls(
            bbox=str(face.box),
            landmarks=LandmarksAnswer(**dict(zip(names, points, strict=True))),
            score=round(face.score, 4),
        )


class SuccessAnswer(BaseModel):
    """It was done."""

    success: str


class ReadyAnswer(BaseModel):
    """The service is ready, and with what."""

    status: str
    version: str = Field(description="The version of the service.")
    model: str
    engine: str
    device: str
    distance: str = Field(description="How embeddings are compared.")
    min_distance: float = Field(description="The default threshold.")
    company_min_distance: float | None = Field(
        default=None, description="That of the caller's company, where it has one of its own."
    )
    samples: int | None = Field(
        default=None, description="Samples in the search index; told to callers that may use the service."
    )
    people_of_other_models: int | None = Field(
        default=None,
        description="People who are not found, since they have no photo of this model; told to the same callers.",
    )


class AliveAnswer(BaseModel):
    """The process is up."""

    status: str
