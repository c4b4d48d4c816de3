"""What requests about people look like, and their answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from face_detection.api import schemas
from face_detection.gallery.store import Person, Sample

_MOST_PHOTOS = 100


def time_of(revision: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(revision // 1_000_000, UTC).replace(microsecond=revision % 1_000_000).isoformat()


class PersonAnswer(BaseModel):
    """Somebody who is enrolled."""

    id: str
    name: str
    metadata: Any
    action: str | None
    photos: int = Field(description="Number of samples.")
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, person: Person) -> PersonAnswer:
        """The answer for a person."""
        return cls(
            id=person.id,
            name=person.name,
            metadata=person.metadata,
            action=person.action,
            photos=person.samples,
            created_at=person.created_at,
            updated_at=person.updated_at,
        )


class PeopleRequest(schemas.PageRequest):
    """Which people."""

    text: Annotated[schemas.Text, Field(max_length=256)] | None = Field(
        default=None, description="Only those with this text in their id or name."
    )


class PeopleAnswer(BaseModel):
    """A part of the people, ordered by id."""

    people: list[PersonAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class PhotoAnswer(BaseModel):
    """A sample of a person."""

    number: int = Field(description="Unique within the tenant, never used again.")
    space: str = Field(description="Model, revision, alignment and normalisation of its embedding.")
    updated_at: str

    @classmethod
    def of(cls, sample: Sample) -> PhotoAnswer:
        """The answer for a sample."""
        return cls(number=sample.number, space=sample.space, updated_at=time_of(sample.revision))


class PhotosAnswer(BaseModel):
    """The samples of a person, ordered by number."""

    photos: list[PhotoAnswer]


class AddedPhoto(BaseModel):
    """What became of one photo: ``number`` and ``bbox``, or ``error``."""

    number: int | None = None
    bbox: str | None = Field(default=None, description="The face that was taken: `x, y, width, height`.")
    faces: int | None = Field(default=None, description="Faces in the picture; the largest was taken.")
    error: schemas.ErrorDetail | None = None


class AddedPhotos(BaseModel):
    """What became of the photos, in their order."""

    photos: list[AddedPhoto]


class PersonRequest(BaseModel):
    """What is to change; what is left out stays."""

    name: Annotated[schemas.Text, Field(max_length=512)] | None = None
    metadata: Annotated[Any, AfterValidator(schemas.small)] = None
    action: Annotated[schemas.Text, Field(max_length=256)] | None = None


class PhotosRequest(BaseModel):
    """Photos of one person."""

    images: list[schemas.Picture] = Field(min_length=1, max_length=_MOST_PHOTOS)
    name: Annotated[schemas.Text, Field(max_length=512)] | None = Field(
        default=None, description="For somebody new; the id when left out."
    )


class PersonVerificationRequest(BaseModel):
    """A picture whose largest face is compared with a person."""

    image: schemas.Picture
    min_distance: schemas.MinDistance = None


class PersonVerificationAnswer(BaseModel):
    """Whether the picture shows the person."""

    same: bool = Field(description="`distance` < `threshold`")
    distance: float = Field(description="To the nearest sample of the person.")
    threshold: float
    trust: float = Field(description="0 to 100, 50 at the threshold.")
    bbox: str
