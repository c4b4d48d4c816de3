"""Keys in requests, on a small application with the real middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from deploy.servers.postgres import PostgresServer
from face_detection.access import Access
from face_detection.api.http.authentication import caller_for_company, guarded
from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.load import LOAD, Load
from face_detection.api.http.middleware import FAILURES, METRICS, MIDDLEWARES
from face_detection.api.http.origins import CHANGING
from face_detection.api.operation import ACCESS, CALLER, Operation
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.metrics import Metrics
from shared.settings import FrontSettings
from tests.conftest import Front

GALLERY: web.AppKey[Gallery] = web.AppKey("gallery", Gallery)


async def whoami(request: web.Request) -> web.Response:
    return web.json_response({"tenant": request[CALLER].tenant, "key": request[CALLER].key})


async def company(request: web.Request) -> web.Response:
    caller = await caller_for_company(request, request.query["company"])
    return web.json_response({"tenant": caller.tenant, "key": caller.key})


async def public(request: web.Request) -> web.Response:
    return web.json_response({"known": CALLER in request})


OPERATIONS = (
    Operation("GET", "/recognise", "", whoami, "", right=Right.RECOGNISE),
    Operation("POST", "/enrol", "", whoami, "", right=Right.ENROL),
    Operation("GET", "/operate", "", whoami, "", right=Right.ADMIN, operator=True),
    Operation("GET", "/company", "", company, "", right=None, strict=False),
    Operation("GET", "/public", "", public, "", right=None),
)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[TestClient]:
    gallery = open_gallery(":memory:")
    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=0)
    app[GALLERY] = gallery
    app[SETTINGS] = FrontSettings()
    app[METRICS] = Metrics()
    app[LOAD] = Load(256, 1 << 30)
    app[CHANGING] = frozenset()
    app[FAILURES] = {}
    app[ACCESS] = Access(gallery.directory, allow_anonymous=False)
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, guarded(operation))
    async with TestClient(TestServer(app)) as client:
        yield client
    gallery.close()


def key(client: TestClient, *rights: Right, tenant: str = "1042", **limits: Any) -> str:
    return client.app[ACCESS].create_key(tenant, "name", rights, **limits)[1]


async def test_both_headers(client: TestClient) -> None:
    text = key(client, Right.RECOGNISE)
    accepted = [
        {"Authorization": f"Bearer {text}"},
        {"authorization": f"bearer   {text} "},
        {"X-API-Key": text},
        {"X-API-Key": text, "Authorization": f"Bearer {text}"},
        {"X-API-Key": text, "Authorization": "Basic cHJveHk6cGFzc3dvcmQ="},
    ]
    for headers in accepted:
        response = await client.get("/recognise", headers=headers)
        assert await response.json() == {"tenant": "1042", "key": text[3:19]}


async def test_what_is_no_key(client: TestClient) -> None:
    text, other = key(client, Right.RECOGNISE), key(client, Right.RECOGNISE)
    refused: list[Any] = [
        {},
        {"Authorization": text},
        {"Authorization": f"Token {text}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic cHJveHk6cGFzc3dvcmQ="},
        {"X-API-Key": ""},
        {"X-API-Key": f"{text}é"},
        {"X-API-Key": "x" * 5000},
        {"X-API-Key": text, "Authorization": f"Bearer {other}"},
        CIMultiDict([("X-API-Key", text), ("X-API-Key", other)]),
        CIMultiDict([("Authorization", f"Bearer {text}"), ("Authorization", f"Bearer {other}")]),
    ]
    for headers in refused:
        response = await client.get("/recognise", headers=headers)
        assert (response.status, (await response.json())["error"]["code"]) == (401, "unauthorized"), headers
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert text not in await response.text()


async def test_a_wrong_key_is_refused_where_none_is_needed(client: TestClient) -> None:
    assert await (await client.get("/operate")).json() == {"tenant": "default", "key": None}
    assert (await client.get("/operate", headers={"X-API-Key": "wrong"})).status == 401


async def test_a_right_that_is_missing(client: TestClient) -> None:
    headers = {"X-API-Key": key(client, Right.RECOGNISE)}
    response = await client.post("/enrol", headers=headers)
    assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden")
    assert "WWW-Authenticate" not in response.headers
    assert (await client.post("/enrol", headers={"X-API-Key": key(client, Right.ENROL)})).status == 200
    assert (await client.post("/enrol", headers={"X-API-Key": key(client, Right.ADMIN)})).status == 200


async def test_the_operator(client: TestClient) -> None:
    assert (await client.get("/operate", headers={"X-API-Key": key(client, Right.ADMIN)})).status == 403
    text = key(client, Right.ADMIN, tenant="default")
    assert (await client.get("/operate", headers={"X-API-Key": text})).status == 200
    assert (await client.get("/operate")).status == 401


async def test_what_is_open_asks_for_nothing(client: TestClient) -> None:
    key(client, Right.RECOGNISE)
    for headers in ({}, {"X-API-Key": "wrong"}):
        assert await (await client.get("/public", headers=headers)).json() == {"known": False}


async def test_a_limited_key(client: TestClient) -> None:
    headers = {"X-API-Key": key(client, Right.RECOGNISE, requests_per_minute=1)}
    assert (await client.get("/recognise", headers=headers)).status == 200
    response = await client.get("/recognise", headers=headers)
    assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limited")
    assert 50 < int(response.headers["Retry-After"]) <= 60


async def test_a_door_that_names_its_company(client: TestClient) -> None:
    text = key(client, Right.RECOGNISE)
    own = await client.get("/company?company=1042", headers={"X-API-Key": text})
    assert await own.json() == {"tenant": "1042", "key": text[3:19]}
    assert (await client.get("/company?company=default", headers={"X-API-Key": text})).status == 404
    assert (await client.get("/company?company=1042")).status == 401


async def test_a_database_that_fails_lets_nobody_in(client: TestClient) -> None:
    text = key(client, Right.RECOGNISE)
    client.app[GALLERY].close()
    response = await client.get("/recognise", headers={"X-API-Key": text})
    assert (response.status, (await response.json())["error"]["code"]) == (500, "storage_failed")
    assert (await client.get("/recognise")).status == 500


async def test_a_database_that_stands_still_holds_nobody_beyond_the_limit(
    start_front: Front, postgres: PostgresServer, postgres_url: str
) -> None:
    front = await start_front(database=postgres_url, request_timeout=1)
    assert (await front.get("/people")).status == 200
    with postgres.frozen():
        started = time.monotonic()
        response = await front.get("/people")
        assert (response.status, (await response.json())["error"]["code"]) == (503, "storage_unavailable")
        assert time.monotonic() - started < 10
    assert (await front.get("/people")).status == 200
