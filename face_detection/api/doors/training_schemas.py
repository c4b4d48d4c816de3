"""Bodies of the door that trains and recognises."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, Field

from face_detection.api import schemas
from face_detection.api.validation import Flag, ForeignRequest, Id, Name, OwnRequest, StoredId
from face_detection.recognition.drawing import Mask
from face_detection.recognition.identification import Recognised

_MOST_PHOTOS = 100
_UNKNOWN = "unknown"


class TrainRequest(ForeignRequest):
    """Photos of one person."""

    images: list[schemas.Picture] = Field(min_length=1, max_length=_MOST_PHOTOS)
    id: Id
    name: Name
    face: schemas.FaceChoice = None


class TrainOptions(ForeignRequest):
    """Whose photos: the person has an id, a name, or both, and the one stands for the other."""

    id: Id | None = None
    name: Name | None = None
    face: schemas.FaceChoice = None


class TrainJsonRequest(TrainOptions):
    """A photo of a person. A form has any number, each in a field `file`."""

    image: schemas.Picture


class FailedPhoto(BaseModel):
    """A photo that was not used, and why."""

    photo: int = Field(description="Its place in the request, from 1.")
    error: str
    code: str


class TakenFace(BaseModel):
    """The face of a photo that was used."""

    photo: int = Field(description="The photo's place in the request, from 1.")
    box: schemas.FaceBox
    faces: int = Field(description="How many faces the photo shows.")


class TrainAnswer(BaseModel):
    """What became of the photos."""

    id: str
    name: str
    trained: int = Field(description="Photos that were used.")
    photos: int = Field(description="Photos that the person has now.")
    taken: list[TakenFace]
    failed: list[FailedPhoto]


class AnswerRequest(ForeignRequest):
    """Whether the answer is the picture, and what is done to it."""

    draw: Flag = Field(default=False, description="Answer with the picture (JPEG), boxes and names drawn.")
    mask: Mask | None = Field(default=None, description="Answer with the picture (JPEG), these faces destroyed.")


class RecognizeRequest(AnswerRequest):
    """A picture; a form may call it `file`."""

    image: schemas.Picture = Field(validation_alias=AliasChoices("image", "file"))


class FaceEdges(BaseModel):
    """A box by its edges, in pixels of the upright picture."""

    top: int
    right: int
    bottom: int
    left: int


class NamedFace(BaseModel):
    """A face and who it is."""

    id: str | None = Field(description="Null for somebody unknown.")
    name: str = Field(description=f"`{_UNKNOWN}` for somebody unknown.")
    distance: float | None = Field(description="To the nearest photo; null when there is none.")
    confidence: float = Field(description="0 to 100, 50 at the threshold.")
    location: FaceEdges
    box: schemas.FaceBox

    @classmethod
    def of(cls, one: Recognised) -> NamedFace:
        """The answer for a face."""
        person, box = one.person, one.face.box
        return cls(
            id=person.id if person else None,
            name=person.name if person else _UNKNOWN,
            distance=None if one.distance is None else round(one.distance, 4),
            confidence=round(one.trust, 1),
            location=FaceEdges(top=box.y, right=box.x + box.width, bottom=box.y + box.height, left=box.x),
            box=schemas.FaceBox.of(box),
        )


class RecognizeAnswer(BaseModel):
    """All faces of a picture, in reading order."""

    faces: list[NamedFace]


class TrainedFace(BaseModel):
    """Somebody who was trained."""

    id: str
    name: str
    photos: int


class TrainedFaces(BaseModel):
    """A part of them, ordered by id."""

    faces: list[TrainedFace]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class ClearRequest(OwnRequest):
    """Whom to delete; everybody when it is left out."""

    # Forbids what is not known: a misspelt name must not delete everybody.
    name: StoredId | None = Field(default=None, description="The id, which is the name of who was trained without.")


class ClearAnswer(BaseModel):
    """How many photos were deleted."""

    removed: int


class Endpoint(BaseModel):
    """Something that this door does."""

    method: str
    path: str
    summary: str


class TrainingEndpoints(BaseModel):
    """What there is."""

    endpoints: list[Endpoint]


class TrainingFailure(BaseModel):
    """The body of an error."""

    error: str
    code: str = Field(description="Stable name of the error.")
