"""Recognition in the browser while the network is off: the page, the runtime, and the models that it fetches once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.slow_clients import leaving
from face_detection.api.operation import CALLER, DIRECTORY, RECOGNITION, Operation, dump, json_response
from face_detection.api.own.status import WEB
from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery.directory import Right
from face_detection.recognition import quality
from face_detection.recognition.decision import likeness
from face_detection.recognition.detection import LOOKS
from shared.calibration import FalseMatchRate
from shared.errors import Forbidden, NotFound, ServiceError
from shared.models import YUNET, Combination, Effort, Metric, NetworkCard, Normalisation

EXTRACTION: web.AppKey[ExtractionClient] = web.AppKey("extraction", ExtractionClient)

PAGE = WEB / "offline"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Of onnxruntime-web; deploy/web_assets.py puts them into WEB_ASSETS."""

_SHARED_FILES = ("addresses.js", "base.css", "formats.js", "icon.svg")
"""Of the other pages, that this one looks like."""

# Browsers run modules and compile WebAssembly only under the right type; the system's own table may lack them.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}

_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        # Together these isolate the page, and only then may its WebAssembly have threads.
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
    }
)
"""Of the page and of its scripts, since a worker has the policies that came with its own script."""

_MODELS = "/offline/models"


class ModelFile(BaseModel):
    """A file that a client keeps for as long as its hash stays the same."""

    url: str = Field(description="Relative to the address of this answer.")
    sha256: str = Field(description="Of the file, in hexadecimal digits.")
    bytes: int


class Detector(BaseModel):
    """YuNet, and the settings with which the service runs it."""

    file: ModelFile
    max_side: int = Field(description="Pixels of the longer side to which pictures are scaled down.")
    score: float = Field(description="Least score of a face.")
    nms: float = Field(description="Overlap (IoU) above which two detections count as one face.")
    min_face: int = Field(description="Shorter side of the smallest face, in pixels of the picture.")
    max_faces: int = Field(description="Most faces of one picture, best scores first.")
    effort: Effort = Field(description="How hard faces are looked for unless a request says so.")
    angles: list[int] = Field(description="Degrees by which heads may be turned that are looked for.")
    looks: dict[str, float] = Field(description="The constants of face_detection/recognition/detection.py.")


class QualityLimit(BaseModel):
    """The least of a measure, or the most, with which a face may be named."""

    measure: str
    fault: str = Field(description="What the face is otherwise.")
    figure: str = Field(description="What the measure is called.")
    digits: int = Field(description="Decimals that it is told with, rounded away from the limit.")
    bound: Literal["at least", "at most"]
    limit: float


class QualityTerms(BaseModel):
    """How faces are measured, see face_detection/recognition/quality.py, and which must not be named."""

    width: int = Field(description="Of the crop that is measured, in pixels; beyond a picture its edge repeats.")
    height: int
    template: list[tuple[float, float]] = Field(description="As that of a recognition model.")
    rows: tuple[int, int] = Field(description="Of the part of the crop that is looked at: the first, and the end.")
    columns: tuple[int, int]
    face: list[tuple[int, int]] = Field(description="Of each row the columns of the face: the first, and the end.")
    fine: float = Field(description="Standard deviations of the two Gaussians of sharpness, in pixels.")
    coarse: float
    plain: float = Field(description="Gradient below which a pixel is plain, in standard deviations of gray levels.")
    least_deviation: float = Field(description="Gray levels that count at least as that deviation, and as noise.")
    least_noise: float
    pose: list[tuple[float, float, float, float, float]] = Field(
        description="What landmarks less their mean are multiplied with for the axes of the face."
    )
    eyes_apart: float = Field(description="Pixels between the eyes of such a face.")
    reach: float = Field(description="Half the side of the square that a face fills, in distances from eyes to mouth.")
    least_tolerance: float = Field(description="Share of the threshold that is left to the worst faces.")
    doubts: dict[str, tuple[float, float]] = Field(
        description="Of measures the values that are worth 0 and 1; the product says how much of the rest is left."
    )
    limits: list[QualityLimit]


class RecognitionModel(BaseModel):
    """The network that gives embeddings, and how faces are prepared for it."""

    file: ModelFile
    name: str
    dimensions: int
    width: int = Field(description="Of an aligned crop, in pixels.")
    height: int
    template: list[tuple[float, float]] = Field(
        description="Where right eye, left eye, nose, right and left corner of the mouth fall in the crop, in pixels."
    )
    normalisation: Normalisation = Field(description="What is done to the crop's pixels, see shared/models.py.")
    unit_output: bool = Field(description="Whether embeddings are brought to unit length.")


class WeightedModel(RecognitionModel):
    """A network of a combination."""

    weight: float = Field(description="By which its embeddings at unit length are multiplied.")


class CombinedModel(BaseModel):
    """Several networks: their weighted embeddings one behind the other, brought to unit length."""

    name: str
    dimensions: int
    mirrored: bool = Field(
        description="Whether each network's embedding is the mean of the crop's and of its mirror image's, both at "
        "unit length, brought to unit length again."
    )
    parts: list[WeightedModel]


class Decision(BaseModel):
    """How the caller's company decides who a face is."""

    metric: Metric
    threshold: float = Field(description="A face matches when its distance is strictly less.")
    rule: Literal["nearest", "vote"]
    neighbours: int = Field(description="How many samples vote.")
    false_match_rate: float | None = Field(
        description="At which strangers are named, where the threshold was asked for so: it falls as the gallery grows."
    )
    curve: list[tuple[float, float]] | None = Field(
        description="Distances, and the share of strangers that are nearer; null where the model has no curve."
    )
    likeness: float = Field(description="A match is ambiguous when somebody else is at most so many times as far away.")


class Limits(BaseModel):
    """Of a picture."""

    bytes: int
    pixels: int


class OfflineModels(BaseModel):
    """All that a client needs to embed faces as this service does."""

    space: str = Field(description="The embedding space; a gallery of another one is worthless.")
    detector: Detector
    quality: QualityTerms
    recognition: RecognitionModel | CombinedModel
    decision: Decision
    limits: Limits


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    return _file(PAGE / "index.html")


async def page_file(request: web.Request) -> web.StreamResponse:
    """A script or a style sheet of the page."""
    name = request.match_info["file"]
    if name not in await asyncio.to_thread(_page_files):
        raise NotFound("There is nothing at this address.")
    return _file(PAGE / name)


async def runtime_file(request: web.Request) -> web.StreamResponse:
    """A file of onnxruntime-web."""
    name = request.match_info["file"]
    if name not in RUNTIME_FILES:
        raise NotFound("There is nothing at this address.")
    path = request.app[SETTINGS].web_assets / name
    if not path.is_file():
        raise NotFound("onnxruntime-web is not installed on the server; it comes with: python -m deploy.web_assets")
    return _file(path)


async def service_worker(request: web.Request) -> web.Response:
    """The script that keeps page, scripts and runtime, with their list; it changes when any of them does."""
    body = await asyncio.to_thread(_service_worker, request.app[SETTINGS].web_assets)
    headers = {**_HEADERS, "Service-Worker-Allowed": "../offline"}
    return web.Response(body=body, headers=headers, content_type="text/javascript", charset="utf-8")


async def models(request: web.Request) -> web.Response:
    """Which models the service runs, where their files are, and how it decides."""
    settings, extraction = request.app[SETTINGS], request.app[EXTRACTION]
    identifier = request.app[RECOGNITION].identifier
    if await asyncio.to_thread(identifier.requires_liveness, request[CALLER].tenant):
        raise Forbidden("The company requires the liveness check, which there is not offline.")
    model = await extraction.model()
    recognition = await _described(model, extraction)
    detector_size = await asyncio.to_thread(lambda: (settings.weights / YUNET.file).stat().st_size)
    tenant = (await asyncio.to_thread(request.app[DIRECTORY].tenant, request[CALLER].tenant)).settings
    metric, limit, curve = identifier.metric(model), identifier.limit(model, tenant), identifier.curve(model, tenant)
    answer = OfflineModels(
        space=model.space,
        detector=Detector(
            file=ModelFile(url="models/detector", sha256=YUNET.sha256, bytes=detector_size),
            max_side=settings.detection_max_side,
            score=settings.detection_score,
            nms=settings.detection_nms,
            min_face=settings.min_face,
            max_faces=settings.max_faces,
            effort=settings.detection,
            angles=list(settings.detection_turns),
            looks=dict(LOOKS),
        ),
        quality=QualityTerms(**quality.terms()),
        recognition=recognition,
        decision=Decision(
            metric=metric,
            threshold=await asyncio.to_thread(identifier.threshold_of, request[CALLER].tenant, model),
            rule=tenant.rule,
            neighbours=tenant.neighbours,
            false_match_rate=limit.rate if isinstance(limit, FalseMatchRate) else None,
            curve=None if curve is None else [(point.distance, point.false_match_rate) for point in curve.points],
            likeness=likeness(metric),
        ),
        limits=Limits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels),
    )
    return json_response(dump(answer))


async def detector(request: web.Request) -> web.Response:
    """The detector's ONNX file."""
    body = await asyncio.to_thread((request.app[SETTINGS].weights / YUNET.file).read_bytes)
    return web.Response(body=body, headers={"ETag": f'"{YUNET.sha256}"'}, content_type="application/octet-stream")


async def recognition(request: web.Request) -> web.StreamResponse:
    """A network's ONNX file, as the extraction service has it, passed on bit by bit."""
    extraction = request.app[EXTRACTION]
    model = await extraction.model()
    networks = [network.name for network in model.card.networks]
    name = request.match_info.get("network", networks[0] if len(networks) == 1 else "")
    if name not in networks:
        raise NotFound(f"The model {model.card.name} has the networks {', '.join(networks)}, which have files each.")
    async with extraction.model_file(model, name, "HEAD" if request.method == "HEAD" else "GET") as file:
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(file.size),
                "ETag": f'"{file.sha256}"',
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
        )
        await response.prepare(request)
        try:
            async for chunk in file.chunks:
                async with leaving(request, request.app[SETTINGS].request_timeout):
                    await response.write(chunk)
        except (ServiceError, ConnectionError):
            # The status has gone out already: a broken connection tells the client that the file is not complete.
            if request.transport is not None:
                request.transport.abort()
        return response


async def _described(model: ServedModel, extraction: ExtractionClient) -> RecognitionModel | CombinedModel:
    card = model.card
    if not isinstance(card, Combination):
        (network,) = card.networks
        return RecognitionModel(**await _network(model, network, "models/recognition", extraction))
    parts = [
        WeightedModel(
            **await _network(model, part.card, f"models/recognition/{part.card.name}", extraction), weight=part.weight
        )
        for part in card.parts
    ]
    return CombinedModel(name=card.name, dimensions=card.dimensions, mirrored=card.mirrored, parts=parts)


async def _network(model: ServedModel, card: NetworkCard, url: str, extraction: ExtractionClient) -> dict[str, Any]:
    """The members of ``RecognitionModel`` for one of a model's networks."""
    async with extraction.model_file(model, card.name, "HEAD") as file:
        found = ModelFile(url=url, sha256=file.sha256, bytes=file.size)
    return {
        "file": found,
        "name": card.name,
        "dimensions": card.dimensions,
        "width": card.alignment.width,
        "height": card.alignment.height,
        "template": list(card.alignment.template),
        "normalisation": card.normalisation,
        "unit_output": card.unit_output,
    }


def _file(path: Path) -> web.FileResponse:
    headers = {**_HEADERS, "Content-Type": _TYPES.get(path.suffix, "text/html; charset=utf-8")}
    return web.FileResponse(path, headers=headers)


def _page_files() -> list[str]:
    """Names of what the page is made of."""
    return sorted(path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css"))


def _service_worker(assets: Path) -> bytes:
    script = PAGE / "service-worker.js"
    kept = {"../offline": PAGE / "index.html"}
    kept |= {f"../static/{name}": WEB / name for name in _SHARED_FILES}
    kept |= {f"page/{name}": PAGE / name for name in _page_files() if name != script.name}
    kept |= {f"runtime/{name}": assets / name for name in RUNTIME_FILES if (assets / name).is_file()}
    digests = {address: _digest(path, path.stat().st_mtime_ns) for address, path in kept.items()}
    version = hashlib.sha256(orjson.dumps(digests)).hexdigest()[:16]
    head = f'const VERSION = "{version}";\nconst FILES = {orjson.dumps(list(kept)).decode()};\n'
    return head.encode() + script.read_bytes()


@lru_cache(maxsize=128)
def _digest(path: Path, modified: int) -> str:
    """The sha256 of a file; ``modified`` is its time, so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_operation = partial(Operation, tag="Offline")

OPERATIONS = (
    _operation("GET", "/offline", "Recognition in the browser without network", page, right=None, strict=False),
    _operation("GET", "/offline/page/{file}", "A script or style of that page", page_file, right=None, errors=(404,)),
    _operation("GET", "/offline/runtime/{file}", "The runtime of that page", runtime_file, right=None, errors=(404,)),
    _operation("GET", "/offline/service-worker.js", "What keeps that page", service_worker, right=None),
    _operation(
        "GET",
        _MODELS,
        "The models that the service runs, for clients that run them too",
        models,
        right=Right.ENROL,
        answer=TypeAdapter(OfflineModels),
        errors=(404, 502, 503, 504),
    ),
    _operation("GET", f"{_MODELS}/detector", "The detector's ONNX file", detector, right=Right.ENROL),
    _operation(
        "GET",
        f"{_MODELS}/recognition",
        "The recognition model's ONNX file, of a model with one network",
        recognition,
        right=Right.ENROL,
        errors=(404, 502, 503, 504),
    ),
    _operation(
        "GET",
        f"{_MODELS}/recognition/{{network}}",
        "The ONNX file of one of the recognition model's networks",
        recognition,
        right=Right.ENROL,
        errors=(404, 502, 503, 504),
    ),
)
