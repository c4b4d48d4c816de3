"""Samples as a resource: list, look at one, delete one."""

from __future__ import annotations

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.bodies import validate
from face_detection.api.operations import RECOGNITION, TENANT, Operation, dump, json_response

_PAGE = TypeAdapter(schemas.PageRequest)

TAG = "Samples"


async def list_samples(request: web.Request) -> web.Response:
    """One page of samples."""
    wanted = validate(_PAGE, dict(request.query))
    page = await request.app[RECOGNITION].samples(TENANT, wanted.limit, wanted.after)
    return json_response(dump(schemas.PageAnswer.of(page)))


async def get_sample(request: web.Request) -> web.Response:
    """One sample."""
    sample = await request.app[RECOGNITION].sample(TENANT, request.match_info["id"])
    return json_response(dump(schemas.SampleAnswer.of(sample)))


async def delete_sample(request: web.Request) -> web.Response:
    """Delete one sample."""
    await request.app[RECOGNITION].delete(TENANT, request.match_info["id"])
    return json_response({"success": "The sample has been removed."})


OPERATIONS = (
    Operation(
        "GET",
        "/samples",
        "List samples, ordered by id",
        list_samples,
        TAG,
        answer=TypeAdapter(schemas.PageAnswer),
        query=schemas.PageRequest,
        errors=(400,),
    ),
    Operation(
        "GET",
        "/samples/{id}",
        "One sample",
        get_sample,
        TAG,
        answer=TypeAdapter(schemas.SampleAnswer),
        errors=(404,),
    ),
    Operation(
        "DELETE",
        "/samples/{id}",
        "Delete one sample",
        delete_sample,
        TAG,
        answer=TypeAdapter(schemas.SuccessAnswer),
        errors=(403, 404),
    ),
)
