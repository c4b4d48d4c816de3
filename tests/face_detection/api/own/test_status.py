"""Probes, metrics and documentation."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from deploy.servers.milvus import MilvusServer
from deploy.servers.postgres import PostgresServer
from face_detection.api import schemas
from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.api.own import status
from face_detection.api.own.status import READINESS
from face_detection.app import OPERATIONS
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.recognition.readiness import SHARED_SECONDS
from feature_extraction.embedder import Embedder
from shared import __version__
from shared.errors import StorageUnavailable
from shared.settings import ExtractionSettings
from tests.conftest import Front, ServeExtraction


async def test_alive(front: TestClient) -> None:
    response = await front.get("/livez")
    assert await response.json() == {"status": "alive"}
    assert response.headers["Cache-Control"] == "no-store"


async def test_ready_says_with_what(front: TestClient) -> None:
    response = await front.get("/readyz")
    assert response.status == 200
    assert await response.json() == {
        "status": "ready",
        "version": __version__,
        "model": "facenet",
        "engine": "onnx",
        "device": "cpu",
        "distance": "tenfold-unit-euclidean",
        "min_distance": 9.0,
        "samples": 0,
        "people_of_other_models": 0,
    }


async def test_not_ready_without_the_extraction_service(start_front: Front, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    response = await front.get("/readyz")
    assert (response.status, (await response.json())["error"]["code"]) == (503, "extraction_unavailable")
    assert (await front.get("/livez")).status == 200


async def test_not_ready_while_the_database_is_away(
    start_front: Front, postgres: PostgresServer, postgres_url: str
) -> None:
    front = await start_front(database=postgres_url)
    assert (await front.get("/readyz")).status == 200
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(SHARED_SECONDS + 0.1)  # for so long the answer was everybody's
    try:
        for path in ("/readyz", "/people"):
            response = await front.get(path)
            assert (response.status, response.headers["Retry-After"]) == (503, "2")
            assert (await response.json())["error"]["code"] == "storage_unavailable"
        assert (await front.get("/livez")).status == 200
        with pytest.raises(StorageUnavailable):  # also where nobody has to be authenticated
            await front.app[READINESS].check()
    finally:
        await asyncio.to_thread(postgres.start)
    await asyncio.sleep(SHARED_SECONDS + 0.1)
    assert (await front.get("/readyz")).status == 200


async def test_readiness_is_asked_once_for_all(
    start_front: Front, serve_extraction: ServeExtraction, extraction_settings: ExtractionSettings, facenet: Embedder
) -> None:
    url = serve_extraction(extraction_settings, facenet)
    front = await start_front(extraction_url=url)

    async def asked() -> int:
        text = (await asyncio.to_thread(requests.get, f"{url}/metrics", timeout=10)).text
        samples = next(
            family for family in text_string_to_metric_families(text) if family.name == "extraction_requests"
        )
        return sum(int(one.value) for one in samples.samples if one.labels.get("route") == "/readyz")

    async with asyncio.timeout(30):
        while not await asked():  # the front asks by itself when it starts
            await asyncio.sleep(0.01)
    await asyncio.sleep(SHARED_SECONDS + 0.1)
    before = await asked()
    answers = await asyncio.gather(*(front.get("/readyz") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert await asked() == before + 1
    front.app[ACCESS].create_key("default", "operator", [Right.ADMIN])
    await asyncio.sleep(SHARED_SECONDS + 0.1)
    assert "samples" not in await (await front.get("/readyz")).json()


HEADS = {"/people/{id}": "/people/a", "/people/{id}/photos": "/people/a/photos", "/face": "/face?face_id=1"}


async def test_head_answers_where_get_does_without_a_body(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    image = data_uri(photos / "obama.jpg")
    await front.post("/update-samples", json=[{"id": "a", "name": "A", "image": image}])
    asked = {operation.path for operation in OPERATIONS if operation.safe}
    asked |= {"/static/console/console.js", "/static/icon.svg", "/nowhere", "/faces/sync?limit=1", "/people?limit=0"}
    assert len(asked) > 25
    for path in sorted(asked):
        path = HEADS.get(path, path)
        for encoding in ("identity", "gzip"):
            answers = {}
            for method in ("GET", "HEAD"):
                reader, writer = await asyncio.open_connection(front.host, front.port)
                lines = (f"{method} {path} HTTP/1.1", f"Host: {front.host}", f"Accept-Encoding: {encoding}")
                writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                changing = (b"Date:", b"X-Request-ID:", b"Last-Modified:")
                answers[method] = [line for line in head.split(b"\r\n") if not line.startswith(changing)]
                assert (method == "HEAD") == (not body), (method, path)
                writer.close()
            if path != "/metrics":
                assert answers["HEAD"] == answers["GET"], path


async def test_head_changes_nothing(front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]) -> None:
    image = data_uri(photos / "obama.jpg")
    await front.post("/update-samples", json=[{"id": "a", "name": "A", "image": image}])
    response = await front.head("/clear-samples")
    assert (response.status, response.headers["Allow"]) == (405, "DELETE,GET,POST")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    response = await front.head("/live", headers=upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert (response.status, response.headers["Allow"]) == (405, "GET")
    assert (await front.get("/people/a")).status == 200


async def test_the_threshold_of_the_callers_company(front: TestClient) -> None:
    directory, access = front.app[DIRECTORY], front.app[ACCESS]
    directory.create_tenant("1042", "Acme Ltd.", TenantSettings(min_distance=7.5))
    _, theirs = access.create_key("1042", "door", [Right.RECOGNISE])
    _, ours = access.create_key("default", "door", [Right.ENROL])
    for headers, own in (({"X-API-Key": theirs}, 7.5), ({"X-API-Key": ours}, None), ({}, None)):
        answer = await (await front.get("/readyz", headers=headers)).json()
        assert (answer["min_distance"], answer.get("company_min_distance")) == (9.0, own)


async def test_other_distances(start_front: Front) -> None:
    front = await start_front(distance="euclidean")
    answer = await (await front.get("/readyz")).json()
    assert (answer["distance"], answer["min_distance"]) == ("euclidean", 10.0)
    front = await start_front(min_distance=7.5)
    assert (await (await front.get("/readyz")).json())["min_distance"] == 7.5


async def test_metrics_count_what_happened(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    image = data_uri(photos / "obama.jpg")
    await front.post("/update-samples", json=[{"id": "a", "name": "A", "image": image}])
    await front.post("/face-recognition", json={"image": image})
    await front.post("/face-recognition", json={"image": "!"})
    text = await (await front.get("/metrics")).text()
    values = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["front_requests_total", ("route", "/face-recognition"), ("status", "200")] == 1
    assert values["front_requests_total", ("route", "/face-recognition"), ("status", "422")] == 1
    assert values["front_faces_total",] == 2
    assert values["front_matches_total",] == 1
    assert values["front_enrolled_total",] == 1
    assert values["front_index_samples",] == 1
    for stage, count in {"decode": 3, "detect": 2, "align": 2, "embed": 2, "search": 2, "store": 1}.items():
        assert values["front_stage_seconds_count", ("stage", stage)] == count


@pytest.fixture
def description(front: TestClient) -> Callable[[], Any]:
    async def get() -> Any:
        return await (await front.get("/openapi.json")).json()

    return get


async def test_the_description_covers_every_route(front: TestClient, description: Callable[[], Any]) -> None:
    paths = (await description())["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    served = {
        (route.method, route.resource.canonical)
        for route in front.app.router.routes()
        if route.resource and route.method != "HEAD" and not route.resource.canonical.startswith("/static")
    }
    assert described == served == {(operation.method, operation.path) for operation in OPERATIONS}


async def test_the_description_has_the_version(description: Callable[[], Any]) -> None:
    assert (await description())["info"]["version"] == __version__


async def test_the_description_has_no_loose_ends(description: Callable[[], Any]) -> None:
    whole = await description()
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(whole)))
    assert references and references <= set(whole["components"]["schemas"])
    identities = [one["operationId"] for methods in whole["paths"].values() for one in methods.values()]
    assert len(identities) == len(set(identities))


async def test_requests_are_described_as_they_are_validated(description: Callable[[], Any]) -> None:
    body = (await description())["paths"]["/update-samples"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["items"]["$ref"].endswith("/SampleRequest")
    fields = (await description())["components"]["schemas"]["SampleRequest"]
    assert set(fields["required"]) == {"id", "name", "image"}
    assert fields["properties"]["image"]["type"] == "string"


async def test_answers_are_as_described(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    image = data_uri(photos / "obama.jpg")
    bodies = {
        "/update-samples": [{"id": "a", "name": "A", "image": image}],
        "/face-recognition": {"image": image},
        "/face-detection": {"image": image},
        "/face-verification": {"image1": image, "image2": image},
        "/clear-samples": None,
    }
    checked = 0
    for operation in OPERATIONS:
        if operation.method == "POST" and operation.answer is not None and operation.path in bodies:
            response = await front.post(operation.path, json=bodies[operation.path])
            assert response.status == 200
            operation.answer.validate_python(await response.json(), strict=False)
            checked += 1
    assert checked == len(bodies)
    error = await (await front.get("/nowhere")).json()
    TypeAdapter(schemas.ErrorAnswer).validate_python(error)


@pytest.mark.parametrize("address", ["/", "/docs"])
async def test_pages_load_only_what_is_served_here(front: TestClient, address: str) -> None:
    response = await front.get(address, allow_redirects=False)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-cache"
    page = await response.text()
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "script-src" not in policy
    references = re.findall(r'(?:src|href)="([^"#]+)', page)
    assert len(references) >= 3
    for reference in references:
        assert not reference.startswith("/"), "the service may be under any path"
        assert (await front.get(f"/{reference}")).status == 200
    assert "<script>" not in page and "style=" not in page and "http" not in page.replace("http-equiv", "")


async def test_modules_of_the_console_find_each_other(front: TestClient) -> None:
    wanted, seen = ["console/console.js"], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        response = await front.get(f"/static/{name}")
        assert response.status == 200 and response.content_type.endswith("/javascript"), name
        others = re.findall(r'(?:from|import|import\() ?"(\.\.?/[^"]+)"', await response.text())
        wanted += [urljoin(name, other) for other in others]
    files = [*status.WEB.glob("*.js"), *(status.WEB / "console").glob("*.js")]
    modules = {str(path.relative_to(status.WEB)) for path in files}
    assert seen == modules, "a module that nothing loads, or one that is missing"


async def test_unknown_addresses_and_methods(front: TestClient) -> None:
    response = await front.get("/nowhere")
    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
    response = await front.put("/update-samples")
    answer = await response.json()
    assert (response.status, answer["code"]) == (405, "invalid_request")
    assert "POST" in response.headers["Allow"]
    assert (await front.get("/static/../app.py")).status == 404


async def test_metrics_of_a_search_elsewhere(
    start_front: Front, milvus: MilvusServer, photos: Path, data_uri: Callable[[Path], str]
) -> None:
    front = await start_front(search="milvus", search_url=milvus.url)
    enrolment = [{"id": "a", "name": "A", "image": data_uri(photos / "obama.jpg")}]
    assert (await (await front.post("/update-samples", json=enrolment)).json())["success"] == ["a"]
    (face,) = await (await front.post("/face-recognition", json={"image": data_uri(photos / "obama2.jpg")})).json()
    assert face["id"] == "a"
    expected = {
        'front_search_recall_checks_total{outcome="found"} 1.0',
        'front_searches_total{kind="approximate",searcher="milvus"} 1.0',
        "front_index_samples 1.0",
        "front_search_lag_changes 0.0",  # once Milvus surely shows what it has
    }
    deadline = time.monotonic() + 60
    while missing := expected - set((await (await front.get("/metrics")).text()).splitlines()):
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(0.1)
