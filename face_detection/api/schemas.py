"""What requests and answers look like: validates the former, documents both in ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from face_detection.enrolment import Enrolment
from face_detection.gallery.store import Page, Record
from face_detection.recognition import Recognised, Verification
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


def _small(metadata: Any) -> Any:
    # What came in a form is bytes when it was sent as a file.
    if isinstance(metadata, bytes) or len(orjson.dumps(metadata)) > _MAX_METADATA:
        raise ValueError(f"must be JSON of at most {_MAX_METADATA} bytes")
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


class _Request(BaseModel):
    # Unknown members are ignored: clients of the original service send some.
    model_config = ConfigDict(extra="ignore")


class SampleRequest(_Request):
    """One sample to enrol."""

    id: Id = Field(description="Unique; sending an id again replaces its sample.")
    name: Annotated[Text, Field(max_length=512)] = Field(description="What to call the person.")
    image: Picture
    metadata: Annotated[Any, AfterValidator(_small)] = Field(
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


class RecognisedFace(BaseModel):
    """A face and who it is; ``id``, ``name`` and ``metadata`` are empty for an unknown one."""

    bbox: str = Field(description="`x, y, width, height` in pixels of the upright picture.")
    id: str
    name: str
    metadata: Any
    action: str | None = None
    distance: float | None = Field(description="To the nearest sample; null when the gallery is empty.")

    @classmethod
    def of(cls, one: Recognised) -> RecognisedFace:
        """The answer for a face."""
        record = one.record
        return cls(
            bbox=str(one.face.box),
            id=record.id if record else "",
            name=record.name if record else "",
            metadata=record.metadata if record else "",
            action=record.action if record else None,
            distance=None if one.distance is None else round(one.distance, _DISTANCE_DIGITS),
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


class SampleAnswer(BaseModel):
    """A stored sample."""

    id: str
    name: str
    metadata: Any
    action: str | None
    space: str = Field(description="Model, revision, alignment and normalisation of its embedding.")
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, record: Record) -> SampleAnswer:
        """The answer for a stored sample."""
        return cls(
            id=record.id,
            name=record.name,
            metadata=record.metadata,
            action=record.action,
            space=record.space,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )


class PageAnswer(BaseModel):
    """A part of the samples, ordered by id."""

    samples: list[SampleAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")

    @classmethod
    def of(cls, page: Page) -> PageAnswer:
        """The answer for a page."""
        return cls(samples=[SampleAnswer.of(record) for record in page.records], next=page.next)


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
    samples: int = Field(description="Samples in the search index.")


class AliveAnswer(BaseModel):
    """The process is up."""

    status: str
