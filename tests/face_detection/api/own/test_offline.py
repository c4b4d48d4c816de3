"""The page /offline, its files, and the models that are handed out to it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import TestClient

from deploy import web_assets
from deploy.services import ROOT
from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.api.own import offline
from face_detection.api.own.offline import EXTRACTION, RUNTIME_FILES
from face_detection.gallery.directory import Right
from face_detection.recognition.detection import LOOKS
from face_detection.recognition.quality import NAMING
from feature_extraction.embedder import Embedder, open_embedder
from shared.errors import ExtractionUnavailable
from shared.models import YUNET, Metric, find_card
from shared.settings import ExtractionSettings, FrontSettings
from tests.conftest import Front, ServeExtraction

MODELS = (
    "/offline/models",
    "/offline/models/detector",
    "/offline/models/recognition",
    "/offline/models/recognition/facenet",
)


async def test_what_a_client_must_know(front: TestClient, facenet: Embedder) -> None:
    answer = await (await front.get("/offline/models")).json()
    card, settings = facenet.card, FrontSettings()
    assert answer["space"] == card.space(facenet.revision)
    assert answer["recognition"] == {
        "file": {
            "url": "models/recognition",
            "sha256": hashlib.sha256(facenet.files[0].read_bytes()).hexdigest(),
            "bytes": facenet.files[0].stat().st_size,
        },
        "name": "facenet",
        "dimensions": 128,
        "width": 160,
        "height": 160,
        "template": [list(point) for point in card.alignment.template],
        "normalisation": "prewhiten",
        "unit_output": False,
    }
    detector = answer["detector"]
    assert detector.pop("file")["sha256"] == YUNET.sha256
    assert detector == {
        "max_side": settings.detection_max_side,
        "score": settings.detection_score,
        "nms": settings.detection_nms,
        "min_face": settings.min_face,
        "max_faces": settings.max_faces,
        "effort": "fast",
        "angles": [0, 90, 180, 270],
        "looks": dict(LOOKS),
    }
    limits = {limit["measure"]: limit["limit"] for limit in answer["quality"]["limits"]}
    assert limits == dataclasses.asdict(NAMING)
    decision, curve = answer["decision"], card.curve(Metric.TENFOLD_UNIT_EUCLIDEAN)
    assert curve is not None
    assert decision.pop("curve") == [[point.distance, point.false_match_rate] for point in curve.points]
    assert decision == {
        "metric": "tenfold-unit-euclidean",
        "threshold": 9,
        "rule": "nearest",
        "neighbours": 5,
        "false_match_rate": None,
        "likeness": 1.1,
    }
    assert answer["limits"] == {"bytes": settings.max_image_bytes, "pixels": settings.max_image_pixels}


async def test_the_company_decides(front: TestClient) -> None:
    front.app[DIRECTORY].update_tenant("default", settings={"min_distance": 7.5, "rule": "vote", "neighbours": 3})
    decision = (await (await front.get("/offline/models")).json())["decision"]
    assert (decision["threshold"], decision["rule"], decision["neighbours"]) == (7.5, "vote", 3)


async def test_the_files_are_those_that_were_announced(front: TestClient) -> None:
    answer = await (await front.get("/offline/models")).json()
    for file in (answer["detector"]["file"], answer["recognition"]["file"]):
        response = await front.get(urljoin("/offline/models", file["url"]))
        body = await response.read()
        assert (response.status, len(body), response.content_length) == (200, file["bytes"], file["bytes"])
        assert hashlib.sha256(body).hexdigest() == file["sha256"]
        assert response.headers["ETag"] == f'"{file["sha256"]}"'
        assert response.content_type == "application/octet-stream"


@pytest.mark.parametrize("path", MODELS)
async def test_only_those_who_may_enrol_get_them(front: TestClient, path: str) -> None:
    rights = {Right.ADMIN: 200, Right.ENROL: 200, Right.RECOGNISE: 403}
    for right, status in rights.items():
        _, key = front.app[ACCESS].create_key("default", right, [right])
        response = await front.get(path, headers={"X-API-Key": key})
        await response.read()
        assert response.status == status
    for headers in ({}, {"X-API-Key": "fr_wrong"}):
        response = await front.get(path, headers=headers)
        assert (response.status, (await response.json())["error"]["code"]) == (401, "unauthorized")


async def test_without_an_extraction_service(start_front: Front) -> None:
    front = await start_front(extraction_url="http://127.0.0.1:9")
    for path in ("/offline/models", "/offline/models/recognition"):
        response = await front.get(path)
        assert (response.status, (await response.json())["error"]["code"]) == (503, "extraction_unavailable")
    assert (await front.get("/offline/models/detector")).status == 200


@pytest.fixture(scope="module")
def pytorch_url(deepface_home: Path, serve_extraction: ServeExtraction) -> str:
    """The extraction service with an engine that reads no ONNX file."""
    chosen = ExtractionSettings(deepface_home=deepface_home, engine="pytorch")
    return serve_extraction(chosen, open_embedder(chosen))


@pytest.mark.slow
async def test_an_engine_without_onnx(start_front: Front, pytorch_url: str) -> None:
    front = await start_front(extraction_url=pytorch_url)
    for path in ("/offline/models", "/offline/models/recognition"):
        response = await front.get(path)
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (404, "not_found") and "no ONNX file" in error["message"]


async def test_a_model_of_several_networks_is_handed_out_network_by_network(
    start_front: Front, combined_url: str
) -> None:
    front = await start_front(extraction_url=combined_url)
    answer = await (await front.get("/offline/models")).json()
    model = answer["recognition"]
    assert (model["name"], model["dimensions"], model["mirrored"]) == ("sface+dlib", 256, False)
    assert [(part["name"], part["weight"], part["normalisation"]) for part in model["parts"]] == [
        ("sface", 1, "rgb-255"),
        ("dlib", 1, "dlib"),
    ]
    for part in model["parts"]:
        card = find_card(part["name"])
        assert (part["width"], part["height"], part["dimensions"]) == (card.alignment.width, card.alignment.height, 128)
        assert part["template"] == [list(point) for point in card.alignment.template]
        response = await front.get(urljoin("/offline/models", part["file"]["url"]))
        body = await response.read()
        assert (response.status, len(body)) == (200, part["file"]["bytes"])
        assert hashlib.sha256(body).hexdigest() == part["file"]["sha256"]
    for path in ("", "/facenet", "/sface+dlib"):
        response = await front.get(f"/offline/models/recognition{path}")
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (404, "not_found")
        assert error["message"] == "The model sface+dlib has the networks sface, dlib, which have files each."


async def test_a_model_of_one_network_has_it_under_its_name_too(front: TestClient, facenet: Embedder) -> None:
    assert await (await front.get("/offline/models/recognition/facenet")).read() == facenet.files[0].read_bytes()
    assert (await front.get("/offline/models/recognition/sface")).status == 404


async def test_a_changed_model_is_noticed(front: TestClient) -> None:
    extraction = front.app[EXTRACTION]
    former = dataclasses.replace(await extraction.model(), revision="former")
    with pytest.raises(ExtractionUnavailable, match="changed its model"):
        async with extraction.model_file(former, "facenet"):
            raise AssertionError("the file of another model was handed out")


@asynccontextmanager
async def cutting(url: str, most: int) -> AsyncIterator[str]:
    """A relay to a service that breaks the connection once it has passed on ``most`` bytes of an answer."""
    there = urlsplit(url)
    connections: list[asyncio.Task[None]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: float) -> None:
        passed = 0
        while passed < most and (data := await reader.read(1 << 16)):
            writer.write(data)
            await writer.drain()
            passed += len(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())  # type: ignore[arg-type]
        ends, ways = [writer], []
        try:
            up_reader, up_writer = await asyncio.open_connection(there.hostname, there.port)
            ends.append(up_writer)
            both = (pass_on(reader, up_writer, math.inf), pass_on(up_reader, writer, most))
            ways = [asyncio.create_task(way) for way in both]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def test_half_a_file_is_never_taken_for_the_whole(start_front: Front, extraction_url: str) -> None:
    async with cutting(extraction_url, 1 << 20) as url:
        front = await start_front(extraction_url=url)
        response = await front.get("/offline/models/recognition")
        assert response.status == 200 and (response.content_length or 0) > 1 << 20
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert (await front.get("/livez")).status == 200


async def test_a_client_that_leaves_does_no_harm(front: TestClient) -> None:
    for _ in range(3):
        response = await front.get("/offline/models/recognition")
        await response.content.readexactly(1000)
        response.close()
    answer = await front.get("/offline/models/recognition")
    assert len(await answer.read()) == answer.content_length


async def test_the_page_is_isolated_and_runs_only_its_own_scripts(front: TestClient) -> None:
    for path in ("/offline", "/offline/page/page.js", "/offline/page/worker.js", "/offline/page/offline.css"):
        response = await front.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert (
            response.status == 200
            and "script-src 'self' 'wasm-unsafe-eval';" in policy
            and "unsafe-inline" not in policy
        )
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    text = (offline.PAGE / "index.html").read_text()
    assert "<script>" not in text and "style=" not in text and "onclick" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/offline/page/package.json",
        "/offline/page/nothing.js",
        "/offline/page/..%2Faddresses.js",
        "/offline/page/%2Fetc%2Fpasswd",
        "/offline/runtime/package-lock.json",
        "/offline/runtime/..%2Fgallery.db",
        "/offline/nothing",
    ],
)
async def test_nothing_else_is_served(front: TestClient, path: str) -> None:
    response = await front.get(path)
    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


async def test_the_runtime(start_front: Front, tmp_path: Path) -> None:
    without = await start_front(web_assets=tmp_path)
    for name in RUNTIME_FILES:
        response = await without.get(f"/offline/runtime/{name}")
        assert response.status == 404 and "deploy.web_assets" in (await response.json())["error"]["message"]
    folder = ROOT / FrontSettings().web_assets
    problem = web_assets.ensure(folder)
    if problem:
        pytest.skip(problem)
    front = await start_front(web_assets=folder)
    for name, kind in zip(RUNTIME_FILES, ("text/javascript", "application/wasm"), strict=True):
        response = await front.get(f"/offline/runtime/{name}")
        assert (response.status, response.content_type) == (200, kind)
        assert await response.read() == (folder / name).read_bytes()


async def test_the_service_worker_knows_every_file(start_front: Front, tmp_path: Path) -> None:
    front = await start_front(web_assets=tmp_path)
    response = await front.get("/offline/service-worker.js")
    former = await response.text()
    assert response.headers["Service-Worker-Allowed"] == "../offline" and response.content_type == "text/javascript"
    page = {path.name for path in offline.PAGE.iterdir() if path.suffix in (".js", ".css")} - {"service-worker.js"}
    assert all(f'"page/{name}"' in former for name in page) and "runtime/" not in former
    scripts = (path.read_text() for path in offline.PAGE.glob("*.js"))
    shared = {f"../static/{name}" for text in scripts for name in re.findall(r'"\.\./\.\./static/([\w.-]+)"', text)}
    assert shared >= {"../static/addresses.js", "../static/formats.js"}
    for address in ("../offline", *(f"page/{name}" for name in page), "../static/base.css", *shared):
        assert f'"{address}"' in former
        assert (await front.get(urljoin("/offline/service-worker.js", address))).status == 200
    assert await (await front.get("/offline/service-worker.js")).text() == former
    for name in RUNTIME_FILES:
        (tmp_path / name).write_bytes(b"new")
    later = await (await front.get("/offline/service-worker.js")).text()
    assert later.splitlines()[0] != former.splitlines()[0]
    assert all(f'"runtime/{name}"' in later for name in RUNTIME_FILES)


async def test_who_requires_liveness_gets_no_models(start_front: Front) -> None:
    front = await start_front()
    assert (await front.get("/offline/models")).status == 200
    assert front.app is not None
    front.app[DIRECTORY].update_tenant("default", settings={"liveness": "required"})
    response = await front.get("/offline/models")
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (403, "forbidden") and "liveness" in error["message"]
    required = await start_front(liveness="required")
    assert (await required.get("/offline/models")).status == 403
