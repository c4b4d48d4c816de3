"""What requests and answers look like: validates the former, documents both in ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema

from face_detection.api.bodies import validate
from face_detection.enrolment import Enrolment
from face_detection.identification import Recognised
from face_detection.verification import Verification
from shared.geometry import Face

_DISTANCE_DIGITS = 4
_MAX_METADATA = 1 << 16


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def small(metadata: Any) -> Any:
    """Metadata as it is, if it is JSON of at most 64 KiB."""
    try:
        size = len(orjson.dumps(metadata))
    except TypeError:  # bytes, as a form's file has them, or nested deeper than orjson goes
        size = _MAX_METADATA + 1
    if size > _MAX_METADATA:
        raise ValueError(f"must be JSON of at most {_MAX_METADATA} bytes, and not too deep")
    return metadata


Text = Annotated[str, AfterValidator(_storable)]
# Some clients number their people.
Id = Annotated[str, Field(min_length=1, max_length=256, coerce_numbers_to_str=True), AfterValidator(_storable)]
Picture = Annotated[
    str | bytes,
    WithJsonSchema(
        {
            "type": "string",
            "description": "JPEG, PNG, WebP or BMP: a data URI (data:image/jpeg;base64,…) or base64 alone; "
            "in a multipart form the file itself.",
        }
    ),
]
MinDistance = Annotated[
    float | None,
    Field(
        ge=0,
        allow_inf_nan=False,
        description="Faces match when their distance is strictly less. Default: the model's, see /readyz.",
    ),
]


_ID: TypeAdapter[str] = TypeAdapter(Id)
_NUMBER: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0, lt=2**63)])


def check_id(text: str) -> str:
    """An id that stands in an address.

    Raises:
        InvalidRequest: no sample could have it.
    """
    return validate(_ID, text)


def parse_number(text: str) -> int:
    """A number that stands in an address.

    Raises:
        InvalidRequest: it is not an integer from 0 to 2⁶³ − 1.
    """
    return validate(_NUMBER, text)


class _Request(BaseModel):
    # Unknown members are ignored: clients of the original service send some.
    model_config = ConfigDict(extra="ignore")


class SampleRequest(_Request):
    """One sample to enrol."""

    id: Id = Field(description="Unique; sending an id again replaces its sample.")
    name: Annotated[Text, Field(max_length=512)] = Field(description="What to call the person.")
    image: Picture
    metadata: Annotated[Any, AfterValidator(small)] = Field(
        default=None, description="Any JSON value of at most 64 KiB; given back with every match."
    )
    action: Annotated[Text, Field(max_length=256)] | None = Field(
        default=None, description="Free text for the client; given back with every match."
    )

    def enrolment(self) -> Enrolment:
        """The request in the core's terms."""
        return Enrolment(self.id, self.name, self.image, self.metadata, self.action)


class RecognitionRequest(_Request):
    """A picture whose faces are to be named."""

    image: Picture
    min_distance: MinDistance = None
    include_unknown: bool = Field(default=False, description="Also return the faces that match nobody.")
    candidates: int = Field(
        default=0,
        ge=0,
        le=10,
        description="Also name this many people who are closest to each face, near enough or not.",
    )


class VerificationRequest(_Request):
    """Two pictures; the largest face of each is compared."""

    image1: Picture
    image2: Picture
    min_distance: MinDistance = None


class DetectionRequest(_Request):
    """A picture whose faces are to be found."""

    image: Picture


class PageRequest(_Request):
    """Which part of a list."""

    limit: int = Field(default=100, ge=1, le=1000, description="Most entries on the page.")
    after: Annotated[Text, Field(max_length=256)] | None = Field(default=None, description="`next` of the page before.")


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable name of the error.")
    message: str


class ErrorAnswer(BaseModel):
    """The body of an error."""

    error: ErrorDetail
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
    errors: dict[str, ErrorDetail] | None = Field(default=None, description="Why, for every id in `fail`.")
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
    model: str
    engine: str
    device: str
    distance: str = Field(description="How embeddings are compared.")
    min_distance: float = Field(description="The default threshold.")
    samples: int | None = Field(
        default=None, description="Samples in the search index; told to callers that may use the service."
    )


class AliveAnswer(BaseModel):
    """The process is up."""

    status: str
