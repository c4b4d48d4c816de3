"""How the service is, and what it offers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.access import Caller
from face_detection.api.http.authentication import authenticate, key_text
from face_detection.api.http.middleware import METRICS
from face_detection.api.http.origins import public_path
from face_detection.api.operation import ACCESS, CALLER, DIRECTORY, POOL, RECOGNITION, Operation, json_response
from face_detection.extraction.client import ServedModel
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.recognition.readiness import Readiness, Shared
from shared import __version__
from shared.errors import NotCalibrated, NotFound, ServiceError, Unauthorized

READINESS: web.AppKey[Readiness] = web.AppKey("readiness", Readiness)

STRANGERS: web.AppKey[Shared[dict[str, object]]] = web.AppKey("strangers", Shared)
"""What ``/readyz`` says to requests without a key: it is open to everybody, so each of them costs nothing."""

OPENAPI: web.AppKey[dict[str, object]] = web.AppKey("openapi", dict)

WEB = Path(__file__).resolve().parents[2] / "web"

# Pictures that the visitor chose are blobs.
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class ReadyAnswer(BaseModel):
    """The service is ready, and with what."""

    status: str
    version: str = Field(description="The version of the service.")
    model: str
    engine: str
    device: str
    distance: str = Field(description="How embeddings are compared.")
    min_distance: float = Field(description="The default threshold.")
    company_min_distance: float | None = Field(
        default=None, description="That of the caller's company, where it has one of its own."
    )
    samples: int | None = Field(
        default=None, description="Samples in the search index; told to callers that may use the service."
    )
    people_of_other_models: int | None = Field(
        default=None,
        description="People who are not found, since they have no photo of this model; told to the same callers.",
    )


class AliveAnswer(BaseModel):
    """The process is up."""

    status: str


async def live(request: web.Request) -> web.Response:
    """The process answers."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """Database, index and extraction service are ready. How many samples a tenant has is told to its callers only."""
    with suppress(Unauthorized):
        if key_text(request) is not None:
            caller = await authenticate(request)
            return json_response(await _ready_answer(request.app, caller))
    return json_response(await request.app[STRANGERS].get())


async def answer_strangers(app: web.Application) -> dict[str, object]:
    """The answer of ``/readyz`` to requests without a key, who may be allowed to do everything.

    Raises:
        StorageError, ExtractionError, NotReady, DeadlinePassed: see ``Readiness.check``.
    """
    try:
        caller = await asyncio.to_thread(app[ACCESS].authenticate, None)
    except Unauthorized:
        caller = None
    return await _ready_answer(app, caller)


async def _ready_answer(app: web.Application, caller: Caller | None) -> dict[str, object]:
    recognition, readiness = app[RECOGNITION], app[READINESS]
    await readiness.check()
    model = await recognition.model()
    samples = await readiness.size(caller.tenant) if caller else None
    answer = ReadyAnswer(
        status="ready",
        version=__version__,
        model=model.card.name,
        engine=model.engine,
        device=model.device,
        distance=recognition.identifier.metric(model),
        min_distance=recognition.identifier.threshold(model, TenantSettings(), samples or 0),
        company_min_distance=await _company_threshold(app, caller, model, samples or 0) if caller else None,
        samples=samples,
        people_of_other_models=(await readiness.unseen(caller.tenant)).get(caller.tenant, 0) if caller else None,
    )
    return answer.model_dump(mode="json", exclude_none=True)


async def _company_threshold(app: web.Application, caller: Caller, model: ServedModel, samples: int) -> float | None:
    try:
        settings = (await app[POOL].run(lambda: app[DIRECTORY].tenant(caller.tenant))).settings
        own = settings.limit is not None or settings.calibration is not None
        return app[RECOGNITION].identifier.threshold(model, settings, samples) if own else None
    except (NotFound, NotCalibrated):  # deleted meanwhile; or its requests are told
        return None


async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics."""
    values = request.app[METRICS]
    readiness = request.app[READINESS]
    with suppress(ServiceError):  # the rest is wanted most while the database or the extraction service is away
        values.search_lag.set(await readiness.lag())
        values.index_samples.set(await readiness.size(request[CALLER].tenant))
        values.set_unseen(await readiness.unseen())
    return web.Response(body=values.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def openapi(request: web.Request) -> web.Response:
    """The description of everything."""
    prefix = public_path(request, "")
    return json_response(request.app[OPENAPI] | ({"servers": [{"url": prefix}]} if prefix else {}))


async def docs(request: web.Request) -> web.StreamResponse:
    """The description as a page."""
    return _page("docs")


async def console(request: web.Request) -> web.StreamResponse:
    """The web console."""
    return _page("console")


async def to_console(request: web.Request) -> web.Response:
    """From ``/faces`` to ``/faces/``, where the relative addresses in the page lead on."""
    return web.Response(status=308, headers={"Location": public_path(request, "/")})


def _page(name: str) -> web.FileResponse:
    """A page that may load nothing but the service's own files, run no script inside itself and be in no frame."""
    page = web.FileResponse(WEB / name / "index.html")
    page.headers["Content-Security-Policy"] = CONTENT_POLICY
    page.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    page.headers["Referrer-Policy"] = "no-referrer"
    return page


_operation = partial(Operation, tag="Operation")

OPERATIONS = (
    _operation("GET", "/livez", "Whether the process is up", live, right=None, answer=TypeAdapter(AliveAnswer)),
    _operation(
        "GET",
        "/readyz",
        "Whether it can recognise, and with which model and threshold",
        ready,
        right=None,
        answer=TypeAdapter(ReadyAnswer),
        errors=(409, 502, 503, 504),
    ),
    _operation("GET", "/metrics", "Metrics for Prometheus", metrics, right=Right.ADMIN, operator=True),
    _operation("GET", "/openapi.json", "This description", openapi, right=None),
    _operation("GET", "/docs", "This description as a page", docs, right=None, strict=False),
    _operation("GET", "/", "The web console", console, right=None, strict=False),
)
