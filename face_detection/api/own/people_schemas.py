"""What requests about people look like, and their answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from face_detection.api import schemas
from face_detection.api.validation import Name, OwnRequest, StoredId, Text, Whole
from face_detection.gallery.people import Person, Sample

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

    text: Annotated[Text, Field(max_length=256)] | None = Field(
        default=None, description="Only those with this text in their id or name, without regard to case and accents."
    )
    metadata: str | None = Field(
        default=None,
        description="Only those whose metadata are this text, number, truth value or null; with the path of a member, "
        "as in `metadata.department=Sales` or `metadata.address.city=Bern`, those where this member is. Several must "
        "all be so.",
    )


class WhoRequest(OwnRequest):
    """Which person."""

    id: StoredId = Field(description="As it is stored.")


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


class PhotosPageRequest(OwnRequest):
    """Which part of a person's samples."""

    limit: Whole = Field(default=1000, ge=1, le=1000, description="Most entries on the page.")
    after: Whole = Field(default=-1, ge=-1, lt=2**63, description="`next` of the page before.")


class PhotosAnswer(BaseModel):
    """A part of the samples of a person, ordered by number."""

    photos: list[PhotoAnswer]
    next: int | None = Field(description="`after` of the next page; null on the last.")


class AddedPhoto(BaseModel):
    """What became of one photo: ``number`` and ``bbox``, or ``error``."""

    number: int | None = None
    bbox: str | None = Field(default=None, description="The face that was taken: `x, y, width, height`.")
    faces: int | None = Field(default=None, description="Faces in the picture.")
    error: schemas.PictureErrorDetail | None = None


class AddedPhotos(BaseModel):
    """What became of the photos, in their order."""

    photos: list[AddedPhoto]


class PersonRequest(OwnRequest):
    """What is to change, at least one of these; what is left out stays."""

    name: Name | None = Field(default=None, description="Not null.")
    metadata: schemas.Metadata = None
    action: schemas.Action | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("There is nothing to change: send name, metadata or action.")
        if self.name is None and "name" in self.model_fields_set:
            raise ValueError("name: must not be null")
        return self


class PhotosOptions(OwnRequest):
    """What is said beside the photos."""

    name: Name | None = Field(default=None, description="For somebody new; the id when left out.")
    face: schemas.FaceChoice = None


class PhotosRequest(PhotosOptions):
    """Photos of one person. In a form each is a field `image`."""

    images: list[schemas.Picture] = Field(min_length=1, max_length=_MOST_PHOTOS)


class PersonVerificationOptions(schemas.VerificationOptions):
    """How a face is compared with a person."""

    face: schemas.FaceChoice = None


class PersonVerificationRequest(PersonVerificationOptions):
    """A picture of which a face is compared with a person."""

    image: schemas.Picture


class PersonVerificationAnswer(BaseModel):
    """Whether the picture shows the person."""

    same: bool = Field(description="`distance` < `threshold`")
    distance: float = Field(description="To the nearest sample of the person.")
    threshold: float
    trust: float = Field(description="0 to 100, 50 at the threshold.")
    bbox: str
