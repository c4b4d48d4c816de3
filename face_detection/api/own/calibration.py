"""What distances mean to a company: the curve of the model, or one of its own photos in place of it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api.http.bodies import read_json, validate
from face_detection.api.operation import CALLER, DIRECTORY, POOL, RECOGNITION, Operation, dump, json_response
from face_detection.api.own.status import READINESS
from face_detection.api.schemas import SuccessAnswer
from face_detection.api.validation import OwnRequest, Real, Whole
from face_detection.gallery.directory import Calibration, Right
from shared.calibration import MOST_POINTS, Curve, FalseMatchRate, Point
from shared.errors import SpaceMismatch
from shared.models import Metric

_MAX_BODY = 1 << 16
_MOST = 2**53

_Triple = tuple[Real, Real, Real]


class CurveMembers(OwnRequest):
    """A curve and what it was measured on."""

    people: Whole = Field(ge=0, le=_MOST)
    impostor_pairs: Whole = Field(ge=0, le=_MOST, description="Pairs of photos of different people.")
    genuine_pairs: Whole = Field(ge=0, le=_MOST, description="Pairs of photos of one person.")
    points: Annotated[list[_Triple], Field(min_length=2, max_length=MOST_POINTS)] = Field(
        description="Ascending, each [distance, false match rate, true accept rate]: the shares of pairs of different "
        "people and of one person that are nearer."
    )


class CalibrationRequest(OwnRequest):
    """A curve of photos of one's own, such as `python -m face_detection calibrate` measures."""

    space: str = Field(max_length=1024, description="The embedding space, which must be that of the model in use.")
    distance: Metric = Field(description="How embeddings were compared, which must be as the service does.")
    curve: CurveMembers


class CalibrationAnswer(BaseModel):
    """What distances mean to the caller's company."""

    space: str = Field(description="The embedding space of the model in use.")
    distance: Metric = Field(description="How embeddings are compared.")
    own: bool = Field(description="Whether the curve is of the company's own photos, and not the model's.")
    curve: CurveMembers | None = Field(description="Null where the model has none, and the company neither.")
    least_rate: float | None = Field(description="The least false match rate of which anything is known.")
    samples: int = Field(description="With how many samples a face is compared.")
    threshold: float | None = Field(
        description="Below which a distance counts as a match in requests that name none; null where that is a rate "
        "and there is no curve."
    )


_REQUEST = TypeAdapter(CalibrationRequest)


async def get_calibration(request: web.Request) -> web.Response:
    """The curve that counts for the caller's company."""
    tenant, recognition = request[CALLER].tenant, request.app[RECOGNITION]
    model, identifier = await recognition.model(), recognition.identifier
    settings = (await asyncio.to_thread(request.app[DIRECTORY].tenant, tenant)).settings
    curve, samples = identifier.curve(model, settings), await request.app[READINESS].size(tenant)
    known = curve is not None or not isinstance(identifier.limit(model, settings), FalseMatchRate)
    answer = CalibrationAnswer(
        space=model.space,
        distance=identifier.metric(model),
        own=curve is not None and settings.calibration is not None and curve is settings.calibration.curve,
        curve=None if curve is None else CurveMembers.model_validate(asdict(curve)),
        least_rate=None if curve is None else curve.least_rate,
        samples=samples,
        threshold=identifier.threshold(model, settings, samples) if known else None,
    )
    return json_response(dump(answer))


async def put_calibration(request: web.Request) -> web.Response:
    """Use a curve of the company's own photos."""
    wanted = validate(_REQUEST, await read_json(request, _MAX_BODY))
    recognition = request.app[RECOGNITION]
    model = await recognition.model()
    if (wanted.space, wanted.distance) != (model.space, recognition.identifier.metric(model)):
        raise SpaceMismatch("The curve is not of the embedding space and the distance in use, see GET /calibration.")
    members = wanted.curve
    points = tuple(Point(*point) for point in members.points)
    curve = Curve(members.people, members.impostor_pairs, members.genuine_pairs, points)
    changes = {"calibration": Calibration(wanted.space, wanted.distance, curve)}
    tenant, directory = request[CALLER].tenant, request.app[DIRECTORY]
    await request.app[POOL].write(lambda: directory.update_tenant(tenant, settings=changes))
    return await get_calibration(request)


async def delete_calibration(request: web.Request) -> web.Response:
    """Take the model's curve again."""
    tenant, directory = request[CALLER].tenant, request.app[DIRECTORY]
    await request.app[POOL].write(lambda: directory.update_tenant(tenant, settings={"calibration": None}))
    return json_response({"success": "The curve of the model counts again."})


_operation = partial(Operation, path="/calibration", tag="Companies")

OPERATIONS = (
    _operation(
        "GET",
        summary="What distances mean: the curve of the model, or of the company's own photos",
        handler=get_calibration,
        right=Right.RECOGNISE,
        answer=TypeAdapter(CalibrationAnswer),
        errors=(404, 502, 503, 504),
    ),
    _operation(
        "PUT",
        summary="Use a curve of the company's own photos",
        handler=put_calibration,
        right=Right.ADMIN,
        answer=TypeAdapter(CalibrationAnswer),
        body=_REQUEST,
        errors=(400, 404, 409, 413, 502, 503, 504),
    ),
    _operation(
        "DELETE",
        summary="Take the curve of the model again",
        handler=delete_calibration,
        right=Right.ADMIN,
        answer=TypeAdapter(SuccessAnswer),
        errors=(404,),
    ),
)
