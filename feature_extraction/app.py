"""The extraction service's HTTP side: routes, statuses, readiness."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from gunicorn.http.errors import ParseException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from feature_extraction.embedder import Embedder, file_sha256
from feature_extraction.metrics import Metrics
from feature_extraction.service import Extraction
from shared import errors, logs, wire
from shared.images import ImageDecoder, Pixels
from shared.models import Alignment
from shared.settings import ExtractionSettings
from shared.sites import hosts_of, refuse_other_sites

log = logging.getLogger(__name__)

_STATUS = {**wire.STATUS, errors.ExtractionFailed: 500, errors.ExtractionError: 503}
"""To a client of its own the service is no gateway: what fails here is an internal error."""

_PROBES = frozenset({"/livez", "/readyz", "/metrics"})

routes = Blueprint("extraction", __name__)


def create_app(settings: ExtractionSettings | None = None, embedder: Embedder | None = None) -> Flask:
    """Build the application.

    Args:
        settings: read from the environment when None.
        embedder: served at once when given; otherwise the model is loaded by whoever calls
            ``app.extensions["extraction"].load()`` or ``load_in_background()``, after gunicorn has forked.
    """
    extraction = Extraction(settings or ExtractionSettings.from_environment(), Metrics())
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["extraction"] = extraction
    app.register_blueprint(routes)
    if embedder:
        extraction.load(embedder)
    return app


def status_of(error: errors.ServiceError) -> int:
    """The HTTP status of an error."""
    return wire.status_of(error, _STATUS)


def _extraction() -> Extraction:
    extraction: Extraction = current_app.extensions["extraction"]
    return extraction


@routes.before_app_request
def _begin() -> None:
    g.started = time.monotonic()
    logs.request_id.set(logs.new_request_id(request.headers.get(wire.REQUEST_ID_HEADER)))
    settings, host = _extraction().settings, request.headers.get("Host")
    hosts_of(settings.extraction_bind, settings.allowed_hosts).check(host)
    if request.method == "POST":
        refuse_other_sites(dict(request.headers), request.scheme, host, request.method)


@routes.after_app_request
def _finish(response: Response) -> Response:
    response.headers[wire.REQUEST_ID_HEADER] = logs.request_id.get()
    route = request.url_rule.rule if request.url_rule else "unknown"
    _extraction().metrics.requests.labels(route, response.status_code).inc()
    log.log(
        logging.DEBUG if route in _PROBES else logging.INFO,
        "request",
        extra={
            "method": request.method,
            "route": route,
            "status": response.status_code,
            "milliseconds": round((time.monotonic() - g.started) * 1000, 1),
        },
    )
    return response


@routes.teardown_app_request
def _end(error: BaseException | None) -> None:
    logs.request_id.set("")  # the thread goes on to other work


@routes.app_errorhandler(errors.ServiceError)
def _service_error(error: errors.ServiceError) -> Response:
    status = status_of(error)
    if status >= 500 and error.__cause__:
        log.error("request failed", exc_info=error.__cause__)
    return _failure(error, status)


@routes.app_errorhandler(HTTPException)
def _http_error(error: HTTPException) -> Response:
    mapped: errors.ServiceError
    if isinstance(error, RequestEntityTooLarge):
        mapped = errors.BodyTooLarge("The request body is too large.")
    elif error.code == 404:
        mapped = errors.NotFound("There is nothing at this address.")
    else:
        mapped = errors.InvalidRequest(error.description or error.name)
    return _failure(mapped, error.code or 400)


@routes.app_errorhandler(ParseException)
def _malformed_body(error: ParseException) -> Response:
    return _failure(errors.InvalidRequest("The body is not well-formed HTTP."), 400)


@routes.app_errorhandler(Exception)
def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _failure(errors.ServiceError("Internal error."), 500)


def _failure(error: errors.ServiceError, status: int) -> Response:
    response = jsonify(wire.error_body(error, logs.request_id.get()))
    response.status_code = status
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


@routes.post("/embeddings")
def _embeddings() -> Response:
    extraction = _extraction()
    served = extraction.embedder
    alignment = served.card.alignment
    crop_bytes = alignment.width * alignment.height * 3
    request.max_content_length = extraction.settings.max_request_crops * crop_bytes + 1024
    crops = wire.decode_array(
        request.get_data(cache=False), dtype=np.uint8, shape=(None, alignment.height, alignment.width, 3)
    )
    response = Response(wire.encode_array(extraction.embed(crops)), mimetype=wire.ARRAY_TYPE)
    response.headers[wire.MODEL_HEADER] = served.card.name
    response.headers[wire.REVISION_HEADER] = served.revision
    response.headers[wire.SPACE_HEADER] = served.card.space(served.revision)
    return response


@routes.post("/liveness")
def _liveness() -> Response:
    extraction = _extraction()
    card = extraction.liveness.card
    views = (len(card.networks), card.size, card.size, 3)
    request.max_content_length = extraction.settings.max_request_crops * math.prod(views) + 1024
    faces = wire.decode_array(request.get_data(cache=False), dtype=np.uint8, shape=(None, *views))
    return Response(wire.encode_array(extraction.check_liveness(faces)), mimetype=wire.ARRAY_TYPE)


@routes.get("/model")
def _model() -> Response:
    extraction = _extraction()
    served = extraction.embedder
    card = served.card
    return jsonify(
        {
            "model": card.name,
            "revision": served.revision,
            "space": card.space(served.revision),
            "dimensions": card.dimensions,
            "width": card.alignment.width,
            "height": card.alignment.height,
            "max_crops": extraction.settings.max_request_crops,
            "engine": served.engine,
            "device": served.device,
            "liveness": extraction.liveness.card.name if extraction.settings.checks_liveness else None,
        }
    )


@routes.get("/model/file")
def _model_file() -> Response:
    served = _extraction().embedder
    if served.engine != "onnx":
        raise errors.NotFound(f"ENGINE={served.engine} runs no ONNX file, so there is none to hand out.")
    names = [network.name for network in served.card.networks]
    name = request.args.get("network", names[0] if len(names) == 1 else "")
    if name not in names:
        # Not 404, which says that no file is handed out: whoever names another network expects another model.
        raise errors.InvalidRequest(f"?network= must be one of those of MODEL={served.card.name}: {', '.join(names)}.")
    file = served.files[names.index(name)]
    response = Response(_read(file), mimetype="application/octet-stream")
    response.content_length = file.stat().st_size
    response.set_etag(file_sha256(file))
    response.headers[wire.SPACE_HEADER] = served.card.space(served.revision)
    response.make_conditional(request)
    return response


@routes.get("/")
def _running() -> Response:
    return Response("Feature extraction server is running!", mimetype="text/plain")


@routes.post("/")
def _represent() -> Response:
    extraction = _extraction()
    settings = extraction.settings
    request.max_content_length = settings.max_request_crops * settings.max_image_bytes
    request.max_form_memory_size = 4 << 20
    request.max_form_parts = settings.max_request_crops + 16
    alignment = extraction.embedder.card.alignment
    entries = _read_face_data(request.form.get("face_data"), settings.max_request_crops)
    uploads = request.files.getlist("image")
    if len(entries) != len(uploads):
        raise errors.InvalidRequest("There must be one image for each entry of face_data.")
    decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
    crops: list[Pixels | None] = []
    for upload in uploads:
        try:
            crops.append(fit(decoder.decode(upload.stream.read()), alignment))
        except errors.ImageError:
            crops.append(None)
    usable = [crop for crop in crops if crop is not None]
    rows = iter(extraction.embed(np.stack(usable)) if usable else ())
    return jsonify(
        [
            {"id": entry["id"], "vector": [] if crop is None else next(rows).tolist()}
            for entry, crop in zip(entries, crops, strict=True)
        ]
    )


@routes.get("/livez")
def _live() -> Response:
    return jsonify({"status": "alive"})


@routes.get("/readyz")
def _ready() -> Response:
    extraction = _extraction()
    extraction.check_ready()
    return jsonify({"status": "ready", "model": extraction.embedder.card.name})


@routes.get("/metrics")
def _prometheus() -> Response:
    return Response(generate_latest(_extraction().metrics.registry), content_type=CONTENT_TYPE_LATEST)


def fit(pixels: Pixels, alignment: Alignment) -> Pixels:
    """Scale a picture of a face into each crop of an alignment without distortion; what remains is black.

    Args:
        pixels: (h, w, 3) uint8 BGR.

    Returns:
        (alignment.height, alignment.width, 3) uint8 BGR.
    """
    whole = np.zeros((alignment.height, alignment.width, 3), np.uint8)
    for crop in alignment.split(whole):
        height, width = crop.shape[:2]
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        crop[top : top + size[1], left : left + size[0]] = cv2.resize(
            pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
    return whole


def _read(file: Path) -> Iterator[bytes]:
    """A file bit by bit; it is not even opened for who asks with HEAD."""
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 18):
            yield chunk


def _read_face_data(text: str | None, limit: int) -> list[dict[str, object]]:
    try:
        entries = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequest("The field face_data is not JSON.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
        raise errors.InvalidRequest('The field face_data must be a list of {"id": …}.')
    if not 0 < len(entries) <= limit:
        raise errors.InvalidRequest(f"There must be 1 to {limit} entries in face_data.")
    return entries
