"""What requests and answers of the keyed galleries look like, failures among them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from face_detection.api import schemas
from face_detection.api.operation import FailureForm, dump
from face_detection.api.validation import ForeignRequest, Id
from shared.errors import ServiceError

MOST_PHOTOS = 100
"""In one training."""

_MAX_KEY = 256


class _Camel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class _CamelRequest(_Camel, ForeignRequest):
    pass


class _Keyed(_CamelRequest):
    api_key: str | None = Field(
        default=None,
        alias="API_KEY",
        max_length=_MAX_KEY,
        description="Unless it comes in the header `Authorization` or `X-API-Key`, or none is needed.",
    )


class KeyedTrainingRequest(_Keyed):
    """Photos of a user."""

    user_name: Id = Field(description="Id of the user, who is created if nobody has it.")
    stream: list[schemas.Picture] = Field(
        min_length=1,
        max_length=MOST_PHOTOS,
        description="The photos. In a form a field for each, or one field with a JSON list.",
    )
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None


class KeyedRecognitionRequest(_Keyed, schemas.ThresholdOptions):
    """A picture whose main face is compared with a user, or named."""

    # Not to be had as null: that would turn "is it Ann?" into "is it anybody?" by a mistake of the client.
    user_name: Id = Field(default="", description="Who it should be. When left out, anybody is looked for.")
    picture: schemas.Picture
    detection: schemas.Detection = None
    liveness: schemas.WithLiveness = False


class StreamQuery(_CamelRequest):
    """Whose photos follow."""

    user_name: Id | None = Field(default=None, description="Id of the user, unless the stream begins with it.")
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None


class StreamMessage(_CamelRequest):
    """A line of a stream, or a part."""

    user_name: Id | None = None
    picture: schemas.Picture | None = None


class KeyedSuccess(_Camel):
    """It worked out."""

    response_type: Literal["SUCCESS"] = "SUCCESS"
    success_description: str = Field(description="Of a recognition: the user's name.")
    detection_time: float = Field(description="Seconds that the work on the pictures took.")
    confidence_percentage: float = Field(description="0 to 100, more than 50 for a match; 0 without a comparison.")


class KeyedMatch(KeyedSuccess):
    """The face of a picture is somebody's."""

    box: schemas.FaceBox = Field(description="Of the face that was compared.")


class KeyedFailure(_Camel):
    """It did not."""

    response_type: Literal["FAILURE"] = "FAILURE"
    failure_description: str
    detection_time: float = Field(default=0, description="Seconds that the work on the pictures took; 0 for none.")
    confidence_percentage: float = Field(default=0, description="0 to 50; 0 without a comparison.")


class KeyedMismatch(KeyedFailure):
    """The face of a picture is nobody's, or somebody else's."""

    box: schemas.FaceBox = Field(description="Of the face that was compared.")


class KeyedError(KeyedFailure):
    """The request could not be answered."""

    error_code: str = Field(description="Stable name of the error.")
    request_id: str


class PhotoProblem(_Camel):
    """Why a photo was not learned."""

    index: int = Field(description="Of the photo in the request; the first is 0.")
    code: str = Field(description="Stable name of the error.")
    message: str


class TakenFace(_Camel):
    """The face of a photo that was learned."""

    index: int = Field(description="Of the photo in the request; the first is 0.")
    box: schemas.FaceBox
    faces: int = Field(description="How many faces the photo shows.")
    warnings: list[schemas.ConflictWarning] | None = Field(
        default=None, description="Why it is hardly of this user. Left out where there is no reason."
    )


class KeyedTraining(KeyedSuccess):
    """At least one photo was learned."""

    learned: int
    failed: int
    taken: list[TakenFace] = Field(description="The photos that were learned.")
    photos: list[PhotoProblem] = Field(description="Those that were not learned.")


class KeyedTrainingFailure(KeyedError):
    """No photo was learned; ``error_code`` is that of the first."""

    learned: int
    failed: int
    photos: list[PhotoProblem]


class StreamedPhoto(_Camel):
    """What became of one photo of a stream. Members that do not apply are left out."""

    photo: int = Field(description="Its number in the stream; the first is 1.")
    response_type: Literal["SUCCESS", "FAILURE"]
    failure_description: str | None = None
    error_code: str | None = None
    box: schemas.FaceBox | None = Field(default=None, description="Of the face that was learned.")
    faces: int | None = Field(default=None, description="How many faces the photo shows.")
    warnings: list[schemas.ConflictWarning] | None = Field(default=None, description="Why it is hardly of this user.")
    detection_time: float
    replayed: bool | None = Field(
        default=None, description="Whether it was learned from an earlier stream with the same Idempotency-Key."
    )


class StreamSummary(_Camel):
    """The last line of a stream. Members that do not apply are left out."""

    response_type: Literal["SUCCESS", "FAILURE"] = Field(
        description="FAILURE when no photo was learned, or when the stream was ended for an error."
    )
    success_description: str | None = None
    failure_description: str | None = None
    error_code: str | None = Field(default=None, description="Why the stream was ended.")
    learned: int
    failed: int


TRAINING = TypeAdapter(KeyedTrainingRequest)
RECOGNITION = TypeAdapter(KeyedRecognitionRequest)
STREAM_QUERY = TypeAdapter(StreamQuery)
STREAM_MESSAGE = TypeAdapter(StreamMessage)


def _word(error: ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    return status, dump(KeyedError(failure_description=error.message, error_code=error.code, request_id=request_id))


KEYED = FailureForm(_word, KeyedError)
"""Failures as these clients expect them."""
