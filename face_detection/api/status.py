"""How the service is, and what it offers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.access import Caller
from face_detection.api import schemas
from face_detection.api.guard import authenticate
from face_detection.api.middleware import METRICS
from face_detection.api.operations import CALLER, RECOGNITION, Operation, json_response
from face_detection.gallery.directory import Right
from face_detection.readiness import Readiness
from shared.errors import StorageError, Unauthorized

TAG = "Operation"

READINESS: web.AppKey[Readiness] = web.AppKey("readiness", Readiness)

OPENAPI: web.AppKey[dict[str, object]] = web.AppKey("openapi", dict)

WEB = Path(__file__).resolve().parent.parent / "web"

# Pictures that the visitor chose are blobs.
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


async def live(request: web.Request) -> web.Response:
    """The process answers."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """Database, index and extraction service are ready. How many samples a tenant has is told to its callers only."""
    caller = await _caller(request)
    recognition = request.app[RECOGNITION]
    readiness = request.app[READINESS]
    await readiness.check()
    model = await recognition.model()
    answer = schemas.ReadyAnswer(
        status="ready",
        model=model.card.name,
        engine=model.engine,
        device=model.device,
        distance=recognition.identifier.metric(model),
        min_distance=recognition.identifier.threshold(model),
        samples=await readiness.size(caller.tenant) if caller else None,
    )
    return json_response(answer.model_dump(mode="json", exclude_none=True))


async def _caller(request: web.Request) -> Caller | None:
    try:
        return await authenticate(request)
    except Unauthorized:
        return None


async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics."""
    values = request.app[METRICS]
    readiness = request.app[READINESS]
    with suppress(StorageError):  # the rest is wanted most while the database is away
        values.index_samples.set(await readiness.size(request[CALLER].tenant))
        values.search_lag.set(await readiness.lag())
    return web.Response(body=values.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def openapi(request: web.Request) -> web.Response:
    """The description of everything."""
    return json_response(request.app[OPENAPI])


async def docs(request: web.Request) -> web.StreamResponse:
    """The description as a page."""
    return _page("docs.html")


async def console(request: web.Request) -> web.StreamResponse:
    """The web console."""
    return _page("index.html")


def _page(name: str) -> web.FileResponse:
    """A page that may load nothing but the service's own files, run no script inside itself and be in no frame."""
    page = web.FileResponse(WEB / name)
    page.headers["Content-Security-Policy"] = CONTENT_POLICY
    page.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    page.headers["Referrer-Policy"] = "no-referrer"
    return page


OPERATIONS = (
    Operation(
        "GET", "/livez", "Whether the process is up", live, TAG, right=None, answer=TypeAdapter(schemas.AliveAnswer)
    ),
    Operation(
        "GET",
        "/readyz",
        "Whether it can recognise, and with which model and threshold",
        ready,
        TAG,
        right=None,
        answer=TypeAdapter(schemas.ReadyAnswer),
        errors=(502, 503, 504),
    ),
    Operation("GET", "/metrics", "Metrics for Prometheus", metrics, TAG, right=Right.ADMIN, operator=True),
    Operation("GET", "/openapi.json", "This description", openapi, TAG, right=None),
    Operation("GET", "/docs", "This description as a page", docs, TAG, right=None),
    Operation("GET", "/", "The web console", console, TAG, right=None),
)
