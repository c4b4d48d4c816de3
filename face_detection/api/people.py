"""People as a resource: list them, look at one, add photos, change and delete."""

from __future__ import annotations

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.bodies import SETTINGS, read_form, read_json, read_picture_request, validate
from face_detection.api.operations import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    Operation,
    dump,
    json_response,
    occasion_of,
)
from face_detection.api.people_schemas import (
    AddedPhoto,
    AddedPhotos,
    PeopleAnswer,
    PeopleRequest,
    PersonAnswer,
    PersonRequest,
    PersonVerificationAnswer,
    PersonVerificationRequest,
    PhotoAnswer,
    PhotosAnswer,
    PhotosRequest,
)
from face_detection.enrolment import Enrolment
from face_detection.gallery.directory import Right
from face_detection.gallery.store import Description
from shared.errors import InvalidRequest, NotFound, ServiceError

TAG = "People"

_PAGE = TypeAdapter(PeopleRequest)
_PERSON = TypeAdapter(PersonRequest)
_PHOTOS = TypeAdapter(PhotosRequest)
_VERIFICATION = TypeAdapter(PersonVerificationRequest)


async def list_people(request: web.Request) -> web.Response:
    """One page of people."""
    wanted = validate(_PAGE, dict(request.query))
    page = await request.app[PEOPLE].page(request[CALLER].tenant, wanted.limit, wanted.after, wanted.text)
    answer = PeopleAnswer(people=[PersonAnswer.of(person) for person in page.people], next=page.next)
    return json_response(dump(answer))


async def get_person(request: web.Request) -> web.Response:
    """One person."""
    person = await request.app[PEOPLE].get(request[CALLER].tenant, request.match_info["id"])
    return json_response(dump(PersonAnswer.of(person)))


async def change_person(request: web.Request) -> web.Response:
    """Give a person another name, metadata or action."""
    tenant, id, people = request[CALLER].tenant, request.match_info["id"], request.app[PEOPLE]
    wanted = validate(_PERSON, await read_json(request, request.app[SETTINGS].max_image_bytes))
    person = await people.get(tenant, id)
    given = {"name": person.name, "metadata": person.metadata, "action": person.action}
    given |= {name: getattr(wanted, name) for name in wanted.model_fields_set}
    if given["name"] is None:
        raise InvalidRequest("name: must not be null")
    await people.describe(tenant, id, Description(**given))
    return json_response(dump(PersonAnswer.of(await people.get(tenant, id))))


async def delete_person(request: web.Request) -> web.Response:
    """Delete a person with all photos and events."""
    await request.app[PEOPLE].delete(request[CALLER].tenant, request.match_info["id"])
    return json_response({"success": "The person has been removed."})


async def list_photos(request: web.Request) -> web.Response:
    """The samples of a person."""
    samples = await request.app[PEOPLE].samples(request[CALLER].tenant, request.match_info["id"])
    if not samples:
        raise NotFound("There is nobody with this id.")
    return json_response(dump(PhotosAnswer(photos=[PhotoAnswer.of(sample) for sample in samples])))


async def add_photos(request: web.Request) -> web.Response:
    """Add photos to a person, who is created if nobody has the id."""
    caller, id = request[CALLER], schemas.check_id(request.match_info["id"])
    wanted = await _read_photos(request)
    enrolments = [Enrolment(id, wanted.name or id, image) for image in wanted.images]
    outcomes = await request.app[RECOGNITION].add(caller.tenant, enrolments, occasion_of(request), caller.max_samples)
    photos = [
        AddedPhoto(error=schemas.ErrorDetail(code=one.code, message=one.message))
        if isinstance(one, ServiceError)
        else AddedPhoto(number=one.sample.number, bbox=str(one.face.box), faces=one.faces)
        for one in outcomes
    ]
    return json_response(AddedPhotos(photos=photos).model_dump(mode="json", exclude_none=True))


async def delete_photo(request: web.Request) -> web.Response:
    """Delete one photo, and with the last one the person."""
    tenant, people = request[CALLER].tenant, request.app[PEOPLE]
    number = schemas.parse_number(request.match_info["number"])
    if (await people.sample(tenant, number)).person.id != request.match_info["id"]:
        raise NotFound("The person has no such photo.")
    await people.delete_sample(tenant, number)
    return json_response({"success": "The photo has been removed."})


async def verify_person(request: web.Request) -> web.Response:
    """Compare the largest face of a picture with a person."""
    wanted = validate(_VERIFICATION, await read_picture_request(request))
    result = await request.app[RECOGNITION].verify_person(
        request[CALLER].tenant, request.match_info["id"], wanted.image, wanted.min_distance, occasion_of(request)
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
    settings = request.app[SETTINGS]
    if request.content_type == "multipart/form-data":
        parts = await read_form(request, settings.max_body_bytes, settings.max_image_bytes + 1)
        body: object = {
            "images": [content for name, content in parts if name == "image"],
            **{name: content for name, content in parts if name != "image"},
        }
    else:
        body = await read_json(request, settings.max_body_bytes)
    return validate(_PHOTOS, body)


OPERATIONS = (
    Operation(
        "GET",
        "/people",
        "List people, ordered by id",
        list_people,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(PeopleAnswer),
        query=PeopleRequest,
        errors=(400,),
    ),
    Operation(
        "GET",
        "/people/{id}",
        "One person",
        get_person,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(PersonAnswer),
        errors=(404,),
    ),
    Operation(
        "PATCH",
        "/people/{id}",
        "Change a person's name, metadata or action",
        change_person,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(PersonAnswer),
        body=_PERSON,
        errors=(400, 404, 413),
    ),
    Operation(
        "DELETE",
        "/people/{id}",
        "Delete a person with all photos and events",
        delete_person,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(404,),
    ),
    Operation(
        "GET",
        "/people/{id}/photos",
        "The samples of a person",
        list_photos,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(PhotosAnswer),
        errors=(404,),
    ),
    Operation(
        "POST",
        "/people/{id}/photos",
        "Add photos to a person, who is created if nobody has the id",
        add_photos,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(AddedPhotos),
        body=_PHOTOS,
        form=True,
        errors=(400, 404, 413, 502, 503, 504),
    ),
    Operation(
        "DELETE",
        "/people/{id}/photos/{number}",
        "Delete one photo, and with the last one the person",
        delete_photo,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(400, 404),
    ),
    Operation(
        "POST",
        "/people/{id}/verification",
        "Whether a picture shows this person",
        verify_person,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(PersonVerificationAnswer),
        body=_VERIFICATION,
        form=True,
        picture_body=True,
        errors=(400, 404, 413, 415, 422, 502, 503, 504),
    ),
)
