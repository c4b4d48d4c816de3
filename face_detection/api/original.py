"""The original service's interface: enrol a batch, recognise, clear."""

from __future__ import annotations

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.bodies import SETTINGS, read_form, read_json, read_picture_request, validate
from face_detection.api.operations import RECOGNITION, TENANT, Operation, dump, json_response
from face_detection.enrolment import EnrolmentReport
from shared.errors import InvalidRequest

_SAMPLES = TypeAdapter(list[schemas.SampleRequest])
_RECOGNITION = TypeAdapter(schemas.RecognitionRequest)

TAG = "Recognition"


async def running(request: web.Request) -> web.Response:
    """Say that the service is up."""
    return web.Response(text="Face detection server is running.")


async def update_samples(request: web.Request) -> web.Response:
    """Enrol a batch. A malformed request changes nothing."""
    samples = await _read_samples(request)
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InvalidRequest(f"The id {sample.id} appears twice.")
        seen.add(sample.id)
    enrolments = [sample.enrolment() for sample in samples]
    samples.clear()  # pictures are large: let each go as soon as it is done with
    return json_response(dump_report(await request.app[RECOGNITION].enrol(TENANT, enrolments)))


def dump_report(report: EnrolmentReport) -> dict[str, object]:
    """A report as the body of the answer; ``errors`` and ``warnings`` are left out when empty."""
    body: dict[str, object] = {"success": report.success, "fail": list(report.errors)}
    if report.errors:
        body["errors"] = {id: {"code": error.code, "message": error.message} for id, error in report.errors.items()}
    if report.warnings:
        body["warnings"] = report.warnings
    return body


async def recognise(request: web.Request) -> web.Response:
    """Name the faces of a picture."""
    wanted = validate(_RECOGNITION, await read_picture_request(request))
    found = await request.app[RECOGNITION].identify(TENANT, wanted.image, wanted.min_distance)
    return json_response(
        [dump(schemas.RecognisedFace.of(one)) for one in found if one.record or wanted.include_unknown]
    )


async def clear_samples(request: web.Request) -> web.Response:
    """Delete all samples."""
    await request.app[RECOGNITION].clear(TENANT)
    return json_response({"success": "Samples have been removed successfully"})


async def _read_samples(request: web.Request) -> list[schemas.SampleRequest]:
    settings = request.app[SETTINGS]
    if request.content_type == "multipart/form-data":
        entries: object = _gather(await read_form(request, settings.max_body_bytes, settings.max_image_bytes + 1))
    else:
        entries = await read_json(request, settings.max_body_bytes)
    if not isinstance(entries, list):
        raise InvalidRequest("The body must be a list of samples.")
    if len(entries) > settings.max_batch_items:
        raise InvalidRequest(f"There are more than {settings.max_batch_items} samples in the batch.")
    return validate(_SAMPLES, entries)


def _gather(parts: list[tuple[str, str | bytes]]) -> list[dict[str, object]]:
    """Samples of a form: each ``id`` begins a new one, and the fields after it belong to it."""
    entries: list[dict[str, object]] = []
    for name, content in parts:
        if name == "id":
            entries.append({})
        if not entries:
            raise InvalidRequest("A form must begin each sample with its id.")
        if name in entries[-1]:
            raise InvalidRequest(f"The field {name} appears twice in one sample.")
        entries[-1][name] = content
    return entries


OPERATIONS = (
    Operation("GET", "/update-samples", "Whether the service runs", running, TAG),
    Operation(
        "POST",
        "/update-samples",
        "Enrol people: one sample for each id",
        update_samples,
        TAG,
        answer=TypeAdapter(schemas.UpdateAnswer),
        body=_SAMPLES,
        form=True,
        errors=(400, 413, 502, 503, 504),
        plain_errors=True,
    ),
    Operation("GET", "/face-recognition", "Whether the service runs", running, TAG),
    Operation(
        "POST",
        "/face-recognition",
        "Name the faces of a picture, in reading order",
        recognise,
        TAG,
        answer=TypeAdapter(list[schemas.RecognisedFace]),
        body=_RECOGNITION,
        form=True,
        picture_body=True,
        errors=(400, 413, 415, 422, 502, 503, 504),
        plain_errors=True,
    ),
    *(
        Operation(
            method,
            "/clear-samples",
            "Delete all samples",
            clear_samples,
            TAG,
            answer=TypeAdapter(schemas.SuccessAnswer),
            errors=(403,),
            plain_errors=True,
        )
        for method in ("GET", "POST", "DELETE")
    ),
)
