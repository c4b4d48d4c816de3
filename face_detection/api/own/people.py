"""People as a resource: list them, look at one, add photos, change and delete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aiohttp import web
from pydantic import TypeAdapter

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
)
from face_detection.api.own.people_schemas import (
    AddedPhoto,
    AddedPhotos,
    PeopleAnswer,
    PeopleRequest,
    PersonAnswer,
    PersonRequest,
    PersonVerificationAnswer,
    PersonVerificationOptions,
    PersonVerificationRequest,
    PhotoAnswer,
    PhotosAnswer,
    PhotosOptions,
    PhotosPageRequest,
    PhotosRequest,
    WhoRequest,
)
from face_detection.gallery.directory import Right
from face_detection.gallery.metadata import MOST_CONDITIONS, Condition
from face_detection.gallery.people import Description
from face_detection.naming import composed
from face_detection.recognition.choice import clear_face, main_face
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared import exact_json
from shared.errors import InvalidRequest, NotFound, ServiceError

_METADATA = "metadata"
"""Query parameter, or with a dot and the path of a member behind it."""

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
    page = await request.app[PEOPLE].page(request[CALLER].tenant, wanted.limit, wanted.after, wanted.text, conditions)
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
    person = await request.app[PEOPLE].get(request[CALLER].tenant, request.match_info["id"])
    return json_response(dump(PersonAnswer.of(person)))


async def change_person(request: web.Request) -> web.Response:
    """Give a person another name, metadata or action."""
    tenant, id, people = request[CALLER].tenant, request.match_info["id"], request.app[PEOPLE]
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
    await request.app[PEOPLE].delete(request[CALLER].tenant, wanted.id)
    return json_response({"success": "The person has been removed."})


async def delete_person(request: web.Request) -> web.Response:
    """Delete a person with all photos and events."""
    await request.app[PEOPLE].delete(request[CALLER].tenant, request.match_info["id"])
    return json_response({"success": "The person has been removed."})


async def list_photos(request: web.Request) -> web.Response:
    """The samples of a person."""
    wanted = validate(_PHOTO_PAGE, read_query(request))
    tenant, id = request[CALLER].tenant, request.match_info["id"]
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
    face = wanted.face or clear_face
    enrolments = [Enrolment(id, wanted.name or id, image, face=face) for image in wanted.images]
    attempt = await first_attempt(request, caller.tenant, _respond_added)
    return attempt.response(
        await request.app[RECOGNITION].add(
            caller.tenant, enrolments, occasion_of(request), caller.max_samples, once=attempt.once
        )
    )


def _respond_added(outcomes: Sequence[Added | ServiceError]) -> web.Response:
    photos = [
        AddedPhoto(error=schemas.PictureErrorDetail.of(one))
        if isinstance(one, ServiceError)
        else AddedPhoto(number=one.sample.number, bbox=str(one.face.box), faces=one.faces)
        for one in outcomes
    ]
    return json_response(AddedPhotos(photos=photos).model_dump(mode="json", exclude_none=True))


async def delete_photo(request: web.Request) -> web.Response:
    """Delete one photo, and with the last one the person."""
    tenant, people = request[CALLER].tenant, request.app[PEOPLE]
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
        request[CALLER].tenant,
        request.match_info["id"],
        wanted.image,
        wanted.min_distance,
        occasion_of(request),
        wanted.face or main_face,
    )
    answer = PersonVerificationAnswer(
        same=result.same,
        distance=round(result.distance, 4),
        threshold=result.threshold,
        trust=round(result.trust, 1),
        bbox=str(result.faces[0].box),
    )
    return json_response(dump(answer))


async def _read_photos(request: web.Request) -> PhotosRequest:
    body = await read_members(request, request.app[SETTINGS].max_body_bytes, IMAGE)
    images, others = take_pictures(body, (IMAGE,))
    given = [*read_query(request).items(), *others, *([("images", images)] if images else [])]
    return validate(_PHOTOS, once_each(given))


_operation = partial(Operation, tag="People")
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
        errors=(400,),
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
        errors=(400, 404, 409, 413, 415, 422, 502, 503, 504),
    ),
)
