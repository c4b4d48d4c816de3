"""What happens around every request: id, log line, metrics, errors, and refusals."""

from __future__ import annotations

import logging
import time

from aiohttp import web

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.failures import failure_response
from face_detection.api.http.idempotency import replay
from face_detection.api.http.load import LOAD, PLACE, Place
from face_detection.api.http.origins import refuse_strangers_pages, route_of, sent
from face_detection.api.operation import FailureForm, Handler
from face_detection.gallery.sql.answers import Answered
from face_detection.metrics import Metrics
from shared import errors, logs, wire

METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)
FAILURES: web.AppKey[dict[str, FailureForm]] = web.AppKey("failures", dict)
"""How the routes that have a form of their own word their failures, by the pattern of their path."""

log = logging.getLogger(__name__)

_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, log it and count it."""
    logs.request_id.set(logs.new_request_id(request.headers.get(wire.REQUEST_ID_HEADER)))
    metrics = request.app[METRICS]
    started = time.perf_counter()
    response = await handler(request)
    seconds = time.perf_counter() - started
    route = route_of(request)
    metrics.requests.labels(route, response.status).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    if not response.prepared:
        if request.content.exception() is not None:
            response.force_close()  # where such a body ends nobody knows
        response.headers[wire.REQUEST_ID_HEADER] = logs.request_id.get()
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Pages are asked for again after every release; answers about people are nobody's to keep.
        response.headers["Cache-Control"] = "no-cache" if isinstance(response, web.FileResponse) else "no-store"
    log.log(
        logging.DEBUG if route_of(request) in _PROBES else logging.INFO,
        "request",
        extra={
            "method": request.method,
            "route": route,
            "status": response.status,
            "milliseconds": round(seconds * 1000, 1),
        },
    )
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into an answer with a stable code; a traceback goes to the log only."""
    forms = request.app[FAILURES]
    base = request.app[SETTINGS].base_path or ""
    form = forms.get(route_of(request)) or forms.get(request.path.removeprefix(base))  # a wrong method has no route
    identity = logs.request_id.get()
    try:
        return await handler(request)
    except Answered as again:
        return replay(again.answer)
    except errors.ServiceError as error:
        response = failure_response(error, identity, form)
        if response.status >= 500:
            _log_failure(request, error, response.status)
        return response
    except web.HTTPException as error:
        known: errors.ServiceError
        if error.status == 404:
            known = errors.NotFound("There is nothing at this address.")
        elif error.status == 413:
            known = errors.BodyTooLarge("The request is too large.")
        else:
            known = errors.InvalidRequest(error.reason)
        response = failure_response(known, identity, form, error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception as error:
        if isinstance(error, ConnectionError) and request.transport is None:  # in the middle of a body or an answer
            return failure_response(errors.InvalidRequest("The client has gone."), identity, form)
        log.exception("unexpected error")
        return failure_response(errors.ServiceError("Internal error."), identity, form)


def _log_failure(request: web.Request, error: errors.ServiceError, status: int) -> None:
    cause = error.__cause__
    known = {"code": error.code} | ({"cause": f"{type(cause).__name__}: {cause}"} if cause else {})
    known |= {"advice": error.advice} if error.advice else {}
    log.log(
        logging.DEBUG if route_of(request) in _PROBES else logging.WARNING,  # probes come again and again
        "request failed: %s",
        error.message,
        extra=known,
        # That something is away or too slow says enough without a traceback.
        exc_info=None if status in (503, 504) else cause,
    )


@web.middleware
async def bound_load(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse at once what would only wait, or would not fit into memory. Probes are always let through."""
    if route_of(request) in _PROBES:
        return await handler(request)
    load = request.app[LOAD]
    place = request[PLACE] = Place(load, sent(request).peer)  # its body counts where it is read
    request.app[METRICS].pending.set(load.pending)
    try:
        return await handler(request)
    finally:
        place.leave()
        request.app[METRICS].pending.set(load.pending)


MIDDLEWARES = (observe, answer_errors, refuse_strangers_pages, bound_load)
"""From the outside in."""
