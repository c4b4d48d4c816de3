"""Collections as a resource: list, create, describe and delete them, and enrol somebody in a further one."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.bodies import read_json, read_query, validate
from face_detection.api.operation import CALLER, COLLECTIONS, POOL, Operation, dump, json_response
from face_detection.api.validation import OwnRequest, StoredId, Text
from face_detection.gallery.collections import DEFAULT_COLLECTION, Collection
from face_detection.gallery.directory import Right

_MAX_BODY = 1 << 16

CollectionName = Annotated[Text, Field(min_length=1, max_length=255)]


class CollectionAnswer(BaseModel):
    """One of several galleries of a company."""

    collection: str
    created_at: str

    @classmethod
    def of(cls, collection: Collection) -> CollectionAnswer:
        """The answer for a collection."""
        return cls(collection=collection.name, created_at=collection.created_at.isoformat(timespec="milliseconds"))


class DescribedCollection(CollectionAnswer):
    """The same with what is in it."""

    people: int
    samples: int = Field(description="Of all models.")


class CollectionsAnswer(BaseModel):
    """A part of the collections, ordered by name."""

    collections: list[CollectionAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class CollectionRequest(OwnRequest):
    """A collection to create."""

    collection: CollectionName = Field(description="A-Z, a-z, 0-9, `.`, `_` and `-`; not a dot first.")


class CopyRequest(OwnRequest):
    """Somebody of another collection."""

    id: StoredId = Field(description="As it is stored.")
    origin: CollectionName = Field(default=DEFAULT_COLLECTION, alias="from", description="Where they are enrolled.")


class CopyAnswer(BaseModel):
    """What was copied."""

    id: str
    photos: int = Field(description="Number of samples.")


_PAGE = TypeAdapter(schemas.PageRequest)
_COLLECTION = TypeAdapter(CollectionRequest)
_COPY = TypeAdapter(CopyRequest)


async def list_collections(request: web.Request) -> web.Response:
    """One page of collections."""
    wanted = validate(_PAGE, read_query(request))
    collections, tenant = request.app[COLLECTIONS], request[CALLER].tenant
    page = await request.app[POOL].run(lambda: collections.page(tenant, wanted.limit, wanted.after or ""))
    shown = [dump(CollectionAnswer.of(collection)) for collection in page.collections]
    return json_response({"collections": shown, "next": page.next})


async def create_collection(request: web.Request) -> web.Response:
    """Create a collection."""
    wanted = validate(_COLLECTION, await read_json(request, _MAX_BODY))
    collections, tenant = request.app[COLLECTIONS], request[CALLER].tenant
    created = await request.app[POOL].write(lambda: collections.create(tenant, wanted.collection))
    return json_response(dump(CollectionAnswer.of(created)))


async def describe_collection(request: web.Request) -> web.Response:
    """One collection."""
    collections, tenant, name = request.app[COLLECTIONS], request[CALLER].tenant, request.match_info["name"]

    def read() -> DescribedCollection:
        collection = collections.get(tenant, name)
        contents = collections.contents(collection)
        return DescribedCollection(**dict(CollectionAnswer.of(collection)), **vars(contents))

    return json_response(dump(await request.app[POOL].run(read)))


async def delete_collection(request: web.Request) -> web.Response:
    """Delete a collection with its people and events."""
    collections, tenant, name = request.app[COLLECTIONS], request[CALLER].tenant, request.match_info["name"]
    await request.app[POOL].write(lambda: collections.delete(tenant, name))
    return json_response({"success": "The collection has been removed."})


async def copy_person(request: web.Request) -> web.Response:
    """Enrol somebody of another collection in this one, too."""
    caller, collections, name = request[CALLER], request.app[COLLECTIONS], request.match_info["name"]
    wanted = validate(_COPY, await read_json(request, _MAX_BODY))

    def copy() -> int:
        source, target = collections.get(caller.tenant, wanted.origin), collections.get(caller.tenant, name)
        return collections.copy_person(source, target, wanted.id, caller.max_samples)

    photos = await request.app[POOL].write(copy)
    return json_response(dump(CopyAnswer(id=wanted.id, photos=photos)))


_operation = partial(Operation, tag="Collections")
_ONE = "/collections/{name}"

OPERATIONS = (
    _operation(
        "GET",
        "/collections",
        "List collections, ordered by name",
        list_collections,
        right=Right.ADMIN,
        answer=TypeAdapter(CollectionsAnswer),
        query=schemas.PageRequest,
        errors=(400,),
    ),
    _operation(
        "POST",
        "/collections",
        "Create a collection",
        create_collection,
        right=Right.ADMIN,
        answer=TypeAdapter(CollectionAnswer),
        body=_COLLECTION,
        errors=(400, 404, 409, 413),
    ),
    _operation(
        "GET",
        _ONE,
        "One collection, and how many people and samples it has",
        describe_collection,
        right=Right.ADMIN,
        answer=TypeAdapter(DescribedCollection),
        errors=(404,),
    ),
    _operation(
        "DELETE",
        _ONE,
        "Delete a collection with its people, photos and events",
        delete_collection,
        right=Right.ADMIN,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(404, 409),
    ),
    _operation(
        "POST",
        f"{_ONE}/people",
        "Enrol somebody of another collection in this one, with all photos",
        copy_person,
        right=Right.ADMIN,
        answer=TypeAdapter(CopyAnswer),
        body=_COPY,
        errors=(400, 403, 404, 409, 413),
    ),
)
