"""The original service's interface: enrol a batch, recognise, clear."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.bodies import SETTINGS, most_picture_bytes, read_form, read_json, validate
from face_detection.api.http.failures import ORIGINAL
from face_detection.api.http.idempotency import first_attempt
from face_detection.api.operation import (
    CALLER,
    PEOPLE,
    RECOGNITION,
    Operation,
    json_response,
    large_json_response,
    occasion_of,
)
from face_detection.api.parameters import read_picture_request
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import remark
from face_detection.recognition.enrolment import Enrolment, Outcome
from shared.errors import InvalidRequest, ServiceError

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
    caller = request[CALLER]

    def respond(outcomes: Sequence[Outcome]) -> web.Response:
        return json_response(dump_outcomes(enrolments, outcomes))

    attempt = await first_attempt(request, caller.tenant, respond)
    return attempt.response(
        await request.app[RECOGNITION].enrol(
            caller.tenant, enrolments, occasion_of(request), caller.max_samples, attempt.once
        )
    )


def dump_outcomes(enrolments: Sequence[Enrolment], outcomes: Sequence[Outcome]) -> dict[str, object]:
    """What became of a batch as the body of the answer; ``errors`` and ``warnings`` are left out when empty."""
    success: list[str] = []
    failures: dict[str, object] = {}
    warnings: dict[str, list[str]] = {}
    for item, outcome in zip(enrolments, outcomes, strict=True):
        if isinstance(outcome, ServiceError):
            failures[item.id] = {"code": outcome.code, "message": outcome.message, **outcome.details}
            continue
        success.append(item.id)
        if outcome.faces > 1:
            warnings[item.id] = [remark(outcome.faces, str(outcome.face.box))]
    body: dict[str, object] = {"success": success, "fail": list(failures)}
    return body | ({"errors": failures} if failures else {}) | ({"warnings": warnings} if warnings else {})


async def recognise(request: web.Request) -> web.Response:
    """Name the faces of a picture."""
    wanted = validate(_RECOGNITION, await read_picture_request(request))
    found = await request.app[RECOGNITION].identify(
        request[CALLER].tenant,
        wanted.image,
        wanted.min_distance,
        occasion_of(request),
        closest=wanted.candidates,
    )
    shown = [schemas.RecognisedFace.of(one) for one in found if one.person or wanted.include_unknown]
    left_out = set() if wanted.candidates else {"candidates"}
    exact = all(one.exact for one in found)
    return await large_json_response(
        lambda: [one.model_dump(mode="json", exclude=left_out) for one in shown],
        headers={"X-Search": "exact" if exact else "approximate"},
    )


async def clear_samples(request: web.Request) -> web.Response:
    """Delete all samples."""
    await request.app[PEOPLE].clear(request[CALLER].tenant)
    return json_response({"success": "Samples have been removed successfully"})


async def _read_samples(request: web.Request) -> list[schemas.SampleRequest]:
    settings = request.app[SETTINGS]
    if request.content_type == "multipart/form-data":
        parts = await read_form(
            request, settings.max_body_bytes, settings.max_image_bytes + 1, most_picture_bytes(request)
        )
        entries: object = _gather(parts)
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
            raise InvalidRequest(f"[{len(entries) - 1}].{name}: appears twice in one sample")
        entries[-1][name] = content
    return entries


OPERATIONS = (
    Operation("GET", "/update-samples", "Whether the service runs", running, TAG, right=None),
    Operation(
        "POST",
        "/update-samples",
        "Enrol people: one sample for each id",
        update_samples,
        TAG,
        right=Right.ENROL,
        answer=TypeAdapter(schemas.UpdateAnswer),
        body=_SAMPLES,
        form=True,
        once=True,
        errors=(400, 404, 413, 502, 503, 504),
        failure=ORIGINAL,
    ),
    Operation("GET", "/face-recognition", "Whether the service runs", running, TAG, right=None),
    Operation(
        "POST",
        "/face-recognition",
        "Name the faces of a picture, in reading order",
        recognise,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(list[schemas.RecognisedFace]),
        body=_RECOGNITION,
        query=schemas.RecognitionOptions,
        form=True,
        urlencoded=True,
        picture_body=True,
        errors=(400, 413, 415, 422, 502, 503, 504),
        failure=ORIGINAL,
    ),
    *(
        Operation(
            method,
            "/clear-samples",
            "Delete all samples",
            clear_samples,
            TAG,
            right=Right.ADMIN,
            answer=TypeAdapter(schemas.SuccessAnswer),
            errors=(403,),
            failure=ORIGINAL,
            changes=method == "GET",
        )
        for method in ("GET", "POST", "DELETE")
    ),
)
