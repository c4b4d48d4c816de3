"""People as a resource: list them, look at one, add photos, change and delete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from face_detection.api import schemas
from face_detection.api.http.bodies import (
    IMAGE,
    SETTINGS,
    once_each,
    read_json,
    read_members,
    read_picture_request,
    read_query,
    take_pictures,
    validate,
)
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    Operation,
    dump,
    json_response,
    large_json_response,
    occasion_of,
    of_conflicts,
)
from face_detection.api.validation import Name, OwnRequest, StoredId, Text, Whole
from face_detection.gallery.directory import Right
from face_detection.gallery.metadata import MOST_CONDITIONS, Condition
from face_detection.gallery.people import Description, Person, Sample
from face_detection.naming import composed
from face_detection.recognition.choice import clear_face, main_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared import exact_json
from shared.calibration import short_rate
from shared.errors import InvalidRequest, NotFound, ServiceError

_METADATA = "metadata"
"""Query parameter, or with a dot and the path of a member behind it."""

_MOST_PHOTOS = 100


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
        return cls(number=sample.number, space=sample.space, updated_at=schemas.time_of(sample.revision))


class PhotosPageRequest(OwnRequest):
    """Which part of a person's samples."""

    limit: Whole = Field(default=1000, ge=1, le=1000, description="Most entries on the page.")
    after: Whole = Field(default=-1, ge=-1, lt=2**63, description="`next` of the page before.")


class PhotosAnswer(BaseModel):
    """A part of the samples of a person, ordered by number."""

    photos: list[PhotoAnswer]
    next: int | None = Field(description="`after` of the next page; null on the last.")


class AddedPhoto(schemas.Measured):
    """What became of one photo: ``number`` and ``bbox``, or ``error``."""

    number: int | None = None
    bbox: str | None = Field(default=None, description="The face that was taken: `x, y, width, height`.")
    angle: schemas.HeadAngle | None = None
    faces: int | None = Field(default=None, description="Faces in the picture.")
    warnings: list[schemas.ConflictWarning] | None = Field(
        default=None, description="Why it is hardly of this person. Left out where there is no reason."
    )
    error: schemas.PictureErrorDetail | None = None

    @classmethod
    def of(cls, one: Added | ServiceError, with_quality: bool) -> Self:
        """The answer for a photo."""
        if isinstance(one, ServiceError):
            return cls(error=schemas.PictureErrorDetail.of(one))
        warnings = schemas.ConflictWarning.all_of(one.conflict)
        number, face = one.sample.number, one.face
        answer = cls(number=number, bbox=str(face.box), angle=face.angle, faces=one.faces, warnings=warnings)
        return answer.measured(one.quality) if with_quality else answer


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
    detection: schemas.Detection = None
    on_conflict: schemas.ConflictAction = None
    quality: schemas.WithQuality = False


class PhotosRequest(PhotosOptions):
    """Photos of one person. In a form each is a field `image`."""

    images: list[schemas.Picture] = Field(min_length=1, max_length=_MOST_PHOTOS)


class PersonVerificationOptions(schemas.VerificationOptions):
    """How a face is compared with a person."""

    face: schemas.FaceChoice = None
    detection: schemas.Detection = None
    quality: schemas.WithQuality = False


class PersonVerificationRequest(PersonVerificationOptions):
    """A picture of which a face is compared with a person."""

    image: schemas.Picture


class PersonVerificationAnswer(schemas.Measured):
    """Whether the picture shows the person."""

    same: bool = Field(description="`distance` < `threshold`, and there is no `reason`.")
    distance: float = Field(description="To the nearest sample of the person.")
    threshold: schemas.ThresholdUsed
    false_match_rate: schemas.MatchRate
    threshold_rate: schemas.ThresholdRate
    trust: float = Field(description="0 to 100, 50 at the threshold.")
    bbox: str
    reason: schemas.NamedReason = None
    liveness: schemas.Liveness = None


_PAGE = TypeAdapter(PeopleRequest)
_PHOTO_PAGE = TypeAdapter(PhotosPageRequest)
_WHO = TypeAdapter(WhoRequest)
_PERSON = TypeAdapter(PersonRequest)
_PHOTOS = TypeAdapter(PhotosRequest)
_VERIFICATION = TypeAdapter(PersonVerificationRequest)


async def list_people(request: web.Request) -> web.Response:
    """One page of people."""
    conditions = _read_conditions(request)
    wanted = validate(_PAGE, read_query(request, _is_condition))
    page = await request.app[PEOPLE].page(request[CALLER].gallery, wanted.limit, wanted.after, wanted.text, conditions)
    # One by one: each keeps other threads waiting only as long as it takes.
    return await large_json_response(
        lambda: {"people": [dump(PersonAnswer.of(person)) for person in page.people], "next": page.next}
    )


def _read_conditions(request: web.Request) -> list[Condition]:
    """What is asked of metadata."""
    asked = [(name, value) for name, value in request.query.items() if _is_condition(name)]
    if len(asked) > MOST_CONDITIONS:
        raise InvalidRequest(f"There are more than {MOST_CONDITIONS} conditions on metadata.")
    return [
        Condition.of(None if name == _METADATA else name.removeprefix(f"{_METADATA}."), value) for name, value in asked
    ]


def _is_condition(name: str) -> bool:
    return name == _METADATA or name.startswith(f"{_METADATA}.")


async def get_person(request: web.Request) -> web.Response:
    """One person."""
    person = await request.app[PEOPLE].get(request[CALLER].gallery, request.match_info["id"])
    return json_response(dump(PersonAnswer.of(person)))


async def change_person(request: web.Request) -> web.Response:
    """Give a person another name, metadata or action."""
    tenant, id, people = request[CALLER].gallery, request.match_info["id"], request.app[PEOPLE]
    wanted = validate(_PERSON, await read_json(request, request.app[SETTINGS].max_image_bytes))
    given = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    person = await people.get(tenant, id)
    # As JSON, in which 1, 1.0 and true differ. What repeats what is there is no change, and no time of one.
    if exact_json.dumps(given) != exact_json.dumps({name: getattr(person, name) for name in given}):
        await people.describe(tenant, id, Description(**given))
        person = await people.get(tenant, id)
    return json_response(dump(PersonAnswer.of(person)))


async def delete_unaddressable(request: web.Request) -> web.Response:
    """Delete a person whose id cannot stand in a path."""
    wanted = validate(_WHO, read_query(request))
    await request.app[PEOPLE].delete(request[CALLER].gallery, wanted.id)
    return json_response({"success": "The person has been removed."})


async def delete_person(request: web.Request) -> web.Response:
    """Delete a person with all photos and events."""
    await request.app[PEOPLE].delete(request[CALLER].gallery, request.match_info["id"])
    return json_response({"success": "The person has been removed."})


async def list_photos(request: web.Request) -> web.Response:
    """The samples of a person."""
    wanted = validate(_PHOTO_PAGE, read_query(request))
    tenant, id = request[CALLER].gallery, request.match_info["id"]
    # One more than asked for tells whether there is a next page.
    samples = await request.app[PEOPLE].samples(tenant, id, wanted.after, wanted.limit + 1)
    if not samples:
        await request.app[PEOPLE].get(tenant, id)
    page = samples[: wanted.limit]
    following = page[-1].number if len(samples) > len(page) else None
    return await large_json_response(
        lambda: dump(PhotosAnswer(photos=[PhotoAnswer.of(sample) for sample in page], next=following))
    )


async def add_photos(request: web.Request) -> web.Response:
    """Add photos to a person, who is created if nobody has the id."""
    caller, id = request[CALLER], schemas.check_id(request.match_info["id"])
    wanted = await _read_photos(request)
    face, effort = wanted.face or clear_face, wanted.detection
    name, conflicts = wanted.name or id, of_conflicts(request, wanted.on_conflict)
    enrolments = [Enrolment(id, name, image, face=face, effort=effort, conflicts=conflicts) for image in wanted.images]

    def respond(outcomes: Sequence[Added | ServiceError]) -> web.Response:
        photos = [AddedPhoto.of(one, wanted.quality) for one in outcomes]
        return json_response(AddedPhotos(photos=photos).model_dump(mode="json", exclude_none=True))

    attempt = await first_attempt(request, caller.gallery, respond)
    return attempt.response(
        await request.app[RECOGNITION].add(
            caller.gallery, enrolments, occasion_of(request), caller.max_samples, once=attempt.once
        )
    )


async def delete_photo(request: web.Request) -> web.Response:
    """Delete one photo, and with the last one the person."""
    tenant, people = request[CALLER].gallery, request.app[PEOPLE]
    number = schemas.parse_number(request.match_info["number"])
    id = request.match_info["id"]
    if (await people.sample(tenant, number)).person.id not in (id, composed(id)):
        raise NotFound("The person has no such photo.")
    await people.delete_sample(tenant, number)
    return json_response({"success": "The photo has been removed."})


async def verify_person(request: web.Request) -> web.Response:
    """Compare a face of a picture with a person."""
    wanted = validate(_VERIFICATION, await read_picture_request(request))
    result = await request.app[RECOGNITION].verify_person(
        request[CALLER].gallery,
        request.match_info["id"],
        wanted.image,
        wanted.limit,
        occasion_of(request),
        wanted.face or main_face,
        wanted.liveness,
        wanted.detection,
    )
    answer = PersonVerificationAnswer(
        same=result.same,
        distance=round(result.distance, 4),
        threshold=result.threshold,
        false_match_rate=short_rate(result.false_match_rate),
        threshold_rate=short_rate(result.threshold_rate),
        trust=round(result.trust, 1),
        bbox=str(result.faces[0].box),
        reason=result.reason,
        liveness=None if result.liveness is None else round(result.liveness[0], 4),
    )
    if wanted.quality:
        return json_response(schemas.dump_checked(answer.measured(result.qualities[0])))
    return json_response(schemas.dump_checked(answer, set(schemas.Measured.model_fields)))


async def _read_photos(request: web.Request) -> PhotosRequest:
    body = await read_members(request, request.app[SETTINGS].max_body_bytes, IMAGE)
    images, others = take_pictures(body, (IMAGE,))
    given = [*read_query(request).items(), *others, *([("images", images)] if images else [])]
    return validate(_PHOTOS, once_each(given))


_operation = partial(Operation, tag="People", in_collection=True)
_picture_operation = partial(_operation, form=True, urlencoded=True, picture_body=True)

OPERATIONS = (
    _operation(
        "GET",
        "/people",
        "List people, ordered by id",
        list_people,
        right=Right.ENROL,
        answer=TypeAdapter(PeopleAnswer),
        query=PeopleRequest,
        paths=(_METADATA,),
        errors=(400, 404),
    ),
    _operation(
        "DELETE",
        "/people",
        "Delete a person whose id, from former releases, cannot stand in a path: . or .., or with control characters",
        delete_unaddressable,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.SuccessAnswer),
        query=WhoRequest,
        errors=(400, 404),
    ),
    _operation(
        "GET",
        "/people/{id}",
        "One person",
        get_person,
        right=Right.ENROL,
        answer=TypeAdapter(PersonAnswer),
        errors=(404,),
    ),
    _operation(
        "PATCH",
        "/people/{id}",
        "Change a person's name, metadata or action",
        change_person,
        right=Right.ENROL,
        answer=TypeAdapter(PersonAnswer),
        body=_PERSON,
        errors=(400, 404, 413),
    ),
    _operation(
        "DELETE",
        "/people/{id}",
        "Delete a person with all photos and events",
        delete_person,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(404,),
    ),
    _operation(
        "GET",
        "/people/{id}/photos",
        "The samples of a person",
        list_photos,
        right=Right.ENROL,
        answer=TypeAdapter(PhotosAnswer),
        query=PhotosPageRequest,
        errors=(400, 404),
    ),
    _picture_operation(
        "POST",
        "/people/{id}/photos",
        "Add photos to a person, who is created if nobody has the id",
        add_photos,
        right=Right.ENROL,
        answer=TypeAdapter(AddedPhotos),
        body=_PHOTOS,
        query=PhotosOptions,
        once=True,
        errors=(400, 404, 413, 502, 503, 504),
    ),
    _operation(
        "DELETE",
        "/people/{id}/photos/{number}",
        "Delete one photo, and with the last one the person",
        delete_photo,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(400, 404),
    ),
    _picture_operation(
        "POST",
        "/people/{id}/verification",
        "Whether a picture shows this person",
        verify_person,
        right=Right.RECOGNISE,
        answer=TypeAdapter(PersonVerificationAnswer),
        body=_VERIFICATION,
        query=PersonVerificationOptions,
        errors=(400, 404, 409, 413, 415, 422, 501, 502, 503, 504),
    ),
)
