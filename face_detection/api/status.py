"""How the service is, and what it offers."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.middleware import METRICS
from face_detection.api.operations import RECOGNITION, TENANT, Operation, dump, json_response

TAG = "Operation"

OPENAPI: web.AppKey[dict[str, object]] = web.AppKey("openapi", dict)

WEB = Path(__file__).resolve().parent.parent / "web"


async def live(request: web.Request) -> web.Response:
    """The process answers."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """Database, index and extraction service are ready."""
    recognition = request.app[RECOGNITION]
    await recognition.check_ready()
    model = await recognition.model()
    return json_response(
        dump(
            schemas.ReadyAnswer(
                status="ready",
                model=model.card.name,
                engine=model.engine,
                device=model.device,
                distance=recognition.metric(model),
                min_distance=recognition.threshold(model),
                samples=await recognition.index_size(TENANT),
            )
        )
    )


async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics."""
    values = request.app[METRICS]
    values.index_samples.set(await request.app[RECOGNITION].index_size(TENANT))
    return web.Response(body=values.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def openapi(request: web.Request) -> web.Response:
    """The description of everything."""
    return json_response(request.app[OPENAPI])


async def docs(request: web.Request) -> web.StreamResponse:
    """The description as a page."""
    page = web.FileResponse(WEB / "docs.html")
    page.headers["Content-Security-Policy"] = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    return page


async def home(request: web.Request) -> web.Response:
    """There is nothing at the root yet but the way to the documentation."""
    return web.Response(status=302, headers={"Location": "/docs"})


OPERATIONS = (
    Operation("GET", "/livez", "Whether the process is up", live, TAG, answer=TypeAdapter(schemas.AliveAnswer)),
    Operation(
        "GET",
        "/readyz",
        "Whether it can recognise, and with which model and threshold",
        ready,
        TAG,
        answer=TypeAdapter(schemas.ReadyAnswer),
        errors=(502, 503, 504),
    ),
    Operation("GET", "/metrics", "Metrics for Prometheus", metrics, TAG),
    Operation("GET", "/openapi.json", "This description", openapi, TAG),
    Operation("GET", "/docs", "This description as a page", docs, TAG),
    Operation("GET", "/", "Leads to /docs", home, TAG),
)
