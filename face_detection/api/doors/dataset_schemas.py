"""What requests and answers of the data set look like, failures among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from face_detection.api import schemas
from face_detection.api.operation import FailureForm
from face_detection.api.validation import Flag, ForeignRequest, Whole, read_as_text
from face_detection.fetching import MAX_URL
from face_detection.gallery.people import Cursor, Person, Sample, Tombstone, Vector, check_description
from face_detection.naming import normal_name
from face_detection.recognition.identification import Recognised
from face_detection.recognition.service import Added
from shared import errors, exact_json
from shared.errors import InvalidRequest
from shared.geometry import Box, Face
from shared.times import time_text


def _parse_cursor(text: object) -> object:
    if not isinstance(text, str):
        raise ValueError("must be text")
    return Cursor.parse(text)


def name_in(args: Mapping[str, Any]) -> str | None:
    """What ``unique_args`` call the person, if they do.

    Raises:
        InvalidRequest: nobody may be called so.
    """
    name = args.get("name")
    return normal_name(name) if isinstance(name, str) else None


def _parse_args(value: object) -> object:
    """``unique_args`` that can be stored, parsed where they came as text."""
    if isinstance(value, str | bytes):
        try:
            value = exact_json.loads(value)
        except ValueError as error:
            raise ValueError(f"must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    check_description("", value, None)
    try:
        name_in(value)
    except InvalidRequest as error:
        raise ValueError(f"name: {error.message}") from None
    return schemas.small(value)


# Numbers and truth values may come as text, in JSON too.
FaceId = Annotated[
    Whole,
    Field(ge=0, lt=2**63, description="Number of the face, never used again."),
    BeforeValidator(read_as_text),
]
UniqueArgs = Annotated[
    dict[str, Any],
    Field(description="Any JSON object of at most 64 KiB; in a form or a query its text. `name` names the person."),
    BeforeValidator(_parse_args),
]
Encoding = Annotated[list[float], Field(description="The embedding as the model gave it.")]


class FaceRequest(ForeignRequest):
    """Which face."""

    face_id: FaceId


class PictureRequest(ForeignRequest):
    """A picture or its address."""

    image: schemas.Picture | None = None
    image_url: Annotated[str, Field(max_length=MAX_URL)] | None = Field(
        default=None, description="Instead of `image`: http or https address at one of the hosts in IMAGE_URL_HOSTS."
    )
    detection: schemas.Detection = None

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        if (self.image is None) == (self.image_url is None):
            raise ValueError("needs either image or image_url")
        return self


class CreateRequest(PictureRequest):
    """A face to store."""

    unique_args: UniqueArgs = Field(default_factory=dict)
    face: schemas.FaceChoice = None
    on_conflict: schemas.ConflictAction = None


class MatchRequest(PictureRequest, schemas.ThresholdOptions):
    """A picture whose faces are looked for in the data set."""

    liveness: Annotated[schemas.WithLiveness, BeforeValidator(read_as_text)] = False


class DetectRequest(PictureRequest):
    """A picture whose faces are to be found."""

    encoding: Annotated[Flag, BeforeValidator(read_as_text)] = Field(
        default=False, description="Also return the encoding of each face."
    )


class UpdateRequest(FaceRequest):
    """What is to change of a face: what is left out stays."""

    image: schemas.Picture | None = None
    image_url: Annotated[str, Field(max_length=MAX_URL)] | None = None
    unique_args: UniqueArgs | None = None
    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.image is not None and self.image_url is not None:
            raise ValueError("needs either image or image_url, or none of them")
        if self.image is None and self.image_url is None and self.unique_args is None:
            raise ValueError("needs image, image_url or unique_args")
        return self


class SyncRequest(ForeignRequest):
    """Which changes."""

    last_updated_at: Annotated[Cursor, BeforeValidator(_parse_cursor), WithJsonSchema({"type": "string"})] = Field(
        default_factory=Cursor,
        description="The `X-Next-Cursor` of the answer before, or any time: ISO 8601 (UTC unless it says otherwise), "
        "or seconds or milliseconds since 1970. What has changed later is returned; everything when left out.",
    )
    limit: Annotated[Whole, Field(ge=1, le=10_000), BeforeValidator(read_as_text)] = Field(
        default=1000, description="Most entries of the answer."
    )


class Position(BaseModel):
    """Where a face is, in pixels of the upright picture."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, box: Box) -> Position:
        """The position of a box."""
        return cls(top=box.y, left=box.x, bottom=box.y + box.height, right=box.x + box.width)


class FaceAnswer(BaseModel):
    """A face of the data set."""

    face_id: int
    face_encoding: Encoding
    unique_args: dict[str, Any]
    position: Position | None = Field(default=None, description="Of the face that was taken of the picture just sent.")
    warnings: list[schemas.ConflictWarning] | None = Field(
        default=None,
        description="Why the picture just sent is hardly of this person. Left out where there is no reason.",
    )

    @classmethod
    def of(cls, sample: Sample, made_of: Added | None = None) -> FaceAnswer:
        """The answer for a sample, and for what it has just been made of."""
        known: dict[str, Any] = {"position": Position.of(made_of.face.box)} if made_of else {}
        if made_of and (warnings := schemas.ConflictWarning.all_of(made_of.conflict)):
            known["warnings"] = warnings
        return cls(
            face_id=sample.number,
            face_encoding=encoding_of(sample.vector),
            unique_args=args_of(sample.person),
            **known,
        )


class DeletedAnswer(BaseModel):
    """A face that was deleted."""

    face_id: int
    deleted: Literal[True]


class MatchedFace(BaseModel):
    """A face of a picture, and which one of the data set it is."""

    face_id: int | None = Field(description="Null when it is none of the data set.")
    trust: float = Field(description="How sure that is the same person as the nearest face, from 0 to 100.")
    unique_args: dict[str, Any] | None
    position: Position

    @classmethod
    def of(cls, one: Recognised) -> MatchedFace:
        """The answer for a face."""
        return cls(
            face_id=one.sample.number if one.sample else None,
            trust=round(one.trust, 1),
            unique_args=args_of(one.sample.person) if one.sample else None,
            position=Position.of(one.face.box),
        )


class MatchAnswer(BaseModel):
    """The faces of a picture in reading order."""

    faces: list[MatchedFace]


class DetectedPosition(BaseModel):
    """A face of a picture; ``face_encoding`` is there when it was asked for."""

    position: Position
    face_encoding: Encoding | None = None

    @classmethod
    def of(cls, face: Face, vector: Vector | None = None) -> DetectedPosition:
        """The answer for a face."""
        position = Position.of(face.box)
        return cls(position=position) if vector is None else cls(position=position, face_encoding=encoding_of(vector))


class DetectAnswer(BaseModel):
    """The faces of a picture in reading order."""

    faces: list[DetectedPosition]


class _Entry(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    face_id: int
    updated_at: str = Field(description="ISO 8601 with microseconds, UTC; no two entries have the same.")


class ChangedEntry(_Entry):
    """A face as it is now."""

    face_encoding: Encoding
    unique_args: dict[str, Any]
    name: str
    person_id: str


class DeletedEntry(_Entry):
    """A face that is no longer there."""

    deleted: Literal[True]


def dump_entry(entry: Sample | Tombstone, space: str) -> dict[str, Any]:
    """An entry of the sync as ``ChangedEntry`` or ``DeletedEntry`` has it; the encoding stays an array.

    A face of another embedding space than ``space`` must not be compared, so for the client there is none.
    """
    base = {"faceId": entry.number, "updatedAt": time_text(entry.revision)}
    if isinstance(entry, Tombstone) or entry.space != space:
        return base | {"deleted": True}
    person = entry.person
    described = {"uniqueArgs": args_of(person), "name": person.name, "personId": person.id}
    return {"faceEncoding": entry.vector} | base | described


def args_of(person: Person) -> dict[str, Any]:
    """The metadata of a person as the object that clients of the data set expect."""
    if isinstance(person.metadata, dict):
        return person.metadata
    return {} if person.metadata is None else {"metadata": person.metadata}


def encoding_of(vector: Vector) -> list[float]:
    """An embedding as numbers with no more digits than float32 has."""
    numbers: list[float] = orjson.loads(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY))
    return numbers


ERROR_TYPES: Mapping[type[errors.ServiceError], int] = {
    errors.ServiceError: 100,
    errors.StorageError: 101,
    errors.DeadlinePassed: 102,
    errors.NotReady: 103,
    errors.StorageUnavailable: 104,
    errors.SearchUnavailable: 105,
    errors.StorageRefused: 106,
    errors.ExtractionError: 110,
    errors.ExtractionFailed: 111,
    errors.ExtractionUnavailable: 112,
    errors.LivenessUnavailable: 113,
    errors.Overloaded: 120,
    errors.RateLimited: 121,
    errors.InvalidRequest: 200,
    errors.BodyTooLarge: 201,
    errors.RequestTooSlow: 202,
    errors.UnsupportedRate: 203,
    errors.TooFewPhotos: 204,
    errors.NotFound: 210,
    errors.CursorExpired: 211,
    errors.Conflict: 220,
    errors.SpaceMismatch: 221,
    errors.KeyReused: 222,
    errors.AnswerDeleted: 223,
    errors.NoPhotoOfModel: 224,
    errors.NotCalibrated: 225,
    errors.PhotoConflict: 226,
    errors.Unauthorized: 230,
    errors.Forbidden: 231,
    errors.QuotaExceeded: 232,
    errors.HostNotAllowed: 233,
    errors.ImageError: 300,
    errors.ImageTooLarge: 301,
    errors.TooManyPixels: 302,
    errors.UnsupportedImage: 303,
    errors.UndecodableImage: 304,
    errors.FetchFailed: 305,
    errors.ImageByReference: 306,
    errors.FaceNotFound: 310,
    errors.AmbiguousFace: 311,
    errors.LowQuality: 312,
}
"""``error_type`` of each error; one without an entry has its nearest base's. A number never changes its meaning."""


def error_type(error: errors.ServiceError) -> int:
    """The number of an error."""
    return next(ERROR_TYPES[kind] for kind in type(error).__mro__ if kind in ERROR_TYPES)


class FailureAnswer(BaseModel):
    """The body of an error at the data set's addresses."""

    error_type: int = Field(description="Stable number of the error.")
    error_message: str


def _word(error: errors.ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    hint = " Its address may stand in image_url." if isinstance(error, errors.ImageByReference) else ""
    return status, {"error_type": error_type(error), "error_message": error.message + hint}


DATASET = FailureForm(_word, FailureAnswer)
