"""Bounded load and unexpected errors, on a small application with the real middleware."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from face_detection.api.doors.original import ORIGINAL
from face_detection.api.http.bodies import SETTINGS, read_body, read_form
from face_detection.api.http.load import LOAD, RESERVE, Load
from face_detection.api.http.middleware import FAILURES, METRICS, MIDDLEWARES
from face_detection.api.http.origins import CHANGING
from face_detection.metrics import Metrics
from shared.errors import ExtractionUnavailable, StorageError
from shared.settings import FrontSettings

FORM = "multipart/form-data; boundary=x"
BEGIN, END = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n', b"\r\n--x--\r\n"

RELEASE: web.AppKey[asyncio.Event] = web.AppKey("release", asyncio.Event)


async def wait(request: web.Request) -> web.Response:
    await request.app[RELEASE].wait()
    return web.Response(text="done")


async def read(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await read_body(request, 100))))


async def hold(request: web.Request) -> web.Response:
    await read_body(request, 100)
    return await wait(request)


async def large(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await read_body(request, 1 << 30))))


async def form(request: web.Request) -> web.Response:
    return web.json_response([name for name, _ in await read_form(request, 1000, 1000, 1000)])


async def fail(request: web.Request) -> web.Response:
    raise ZeroDivisionError("secret")


async def away(request: web.Request) -> web.Response:
    raise ExtractionUnavailable("It is away.") from ConnectionRefusedError(111, "refused")


async def broken(request: web.Request) -> web.Response:
    raise StorageError("It is broken.") from ZeroDivisionError("secret")


@pytest_asyncio.fixture
async def client() -> AsyncIterator[TestClient]:
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=0)
    app[SETTINGS] = FrontSettings(trusted_proxies="127.0.0.1")
    app[METRICS] = Metrics()
    app[LOAD] = Load(4, 100)
    app[CHANGING] = frozenset()
    app[FAILURES] = {"/plain": ORIGINAL}
    app[RELEASE] = asyncio.Event()
    app.router.add_get("/wait", wait)
    app.router.add_post("/hold", hold)
    app.router.add_post("/large", large)
    app.router.add_post("/read", read)
    app.router.add_post("/form", form)
    app.router.add_get("/livez", fail)
    app.router.add_get("/fail", fail)
    app.router.add_get("/plain", fail)
    app.router.add_get("/away", away)
    app.router.add_get("/readyz", away)
    app.router.add_get("/broken", broken)
    async with TestClient(TestServer(app)) as client:
        yield client
        app[RELEASE].set()


async def pending(client: TestClient, count: int) -> None:
    async with asyncio.timeout(5):
        while client.app[LOAD].pending != count:
            await asyncio.sleep(0.001)


async def bytes_held(client: TestClient, count: int) -> None:
    async with asyncio.timeout(5):
        while client.app[LOAD].bytes != count:
            await asyncio.sleep(0.001)


def peer(number: int) -> dict[str, str]:
    """Headers of a request that a trusted proxy passes on for another machine."""
    return {"X-Forwarded-For": f"192.0.2.{number}"}


async def test_too_many_requests_are_refused_at_once(client: TestClient) -> None:
    waiting = [asyncio.create_task(client.get("/wait", headers=peer(number))) for number in range(4)]
    await pending(client, 4)
    response = await client.get("/wait", headers=peer(9))
    assert (response.status, (await response.json())["error"]["code"]) == (429, "overloaded")
    assert int(response.headers["Retry-After"]) > 0
    client.app[RELEASE].set()
    assert [(await one).status for one in waiting] == [200] * 4
    await pending(client, 0)


async def test_one_peer_does_not_get_everything(client: TestClient) -> None:
    waiting = [asyncio.create_task(client.get("/wait")) for _ in range(2)]
    await pending(client, 2)
    assert (await client.get("/wait")).status == 429
    assert (await client.post("/read", data=b"x", headers=peer(1))).status == 200
    client.app[RELEASE].set()
    assert [(await one).status for one in waiting] == [200] * 2


async def test_too_many_bytes_are_refused_at_once(client: TestClient) -> None:
    held = asyncio.create_task(client.post("/hold", data=b"x" * 40))
    await bytes_held(client, 40)
    for number, size, status in ((0, 20, 429), (1, 40, 429), (1, 30, 200)):
        assert (await client.post("/read", data=b"x" * size, headers=peer(number) if number else {})).status == status
    client.app[RELEASE].set()
    assert (await held).status == 200
    assert client.app[LOAD].bytes == 0


async def test_what_is_announced_does_not_count_but_what_has_come(client: TestClient) -> None:
    client.app[LOAD].all.most.bytes = 1 << 20
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST /large HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n0123456789")
    await bytes_held(client, RESERVE)
    writer.write(b"x" * 100_000)
    await bytes_held(client, 100_010)
    assert client.app[LOAD].pending == 1
    writer.close()
    await pending(client, 0)
    assert client.app[LOAD].bytes == 0


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for start in range(0, len(data), 10):
        yield data[start : start + 10]


async def test_bodies_count_as_they_turn_out(client: TestClient) -> None:
    held = asyncio.create_task(client.post("/hold", data=b"x" * 40))
    await bytes_held(client, 40)
    for size, status in ((20, 200), (40, 429)):
        data = b"x" * size
        for path, body, headers in (
            ("/read", in_chunks(data), {}),
            ("/read", zlib.compress(data), {"Content-Encoding": "deflate"}),
            ("/form", in_chunks(BEGIN + data + END), {"Content-Type": FORM}),
        ):
            assert (await client.post(path, data=body, headers=headers | peer(1))).status == status
            assert client.app[LOAD].bytes == 40
    client.app[RELEASE].set()
    await held
    assert await (await client.post("/read", data=in_chunks(b"x" * 90))).text() == "90"
    assert client.app[LOAD].bytes == 0


async def test_a_single_large_request_is_let_in(client: TestClient) -> None:
    assert await (await client.post("/read", data=b"x" * 90)).text() == "90"
    assert (await client.post("/read", data=b"x" * 101)).status == 413


async def test_a_large_request_leaves_others_their_room(client: TestClient) -> None:
    large = asyncio.create_task(client.post("/hold", data=b"x" * 90))
    await pending(client, 1)
    async with asyncio.timeout(5):
        while client.app[LOAD].large is None:
            await asyncio.sleep(0.001)
    assert (await client.post("/read", data=b"x" * 50, headers=peer(1))).status == 200
    assert (await client.post("/read", data=b"x" * 60, headers=peer(1))).status == 429
    client.app[RELEASE].set()
    assert (await large).status == 200
    assert (client.app[LOAD].large, client.app[LOAD].bytes) == (None, 0)


@pytest.mark.parametrize("path", ["/fail", "/plain", "/livez"])
async def test_no_traceback_reaches_a_client(client: TestClient, path: str) -> None:
    response = await client.get(path)
    text = await response.text()
    assert response.status == 500
    assert "internal" in text and "Internal error." in text
    assert "secret" not in text and "Traceback" not in text
    assert client.app[LOAD].pending == 0


@pytest.mark.parametrize(
    ("path", "status", "level", "cause", "traceback"),
    [
        ("/away", 503, logging.WARNING, "ConnectionRefusedError: [Errno 111] refused", False),
        ("/readyz", 503, logging.DEBUG, "ConnectionRefusedError: [Errno 111] refused", False),
        ("/broken", 500, logging.WARNING, "ZeroDivisionError: secret", True),
    ],
)
async def test_what_the_log_says_of_a_failure(
    client: TestClient,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
    level: int,
    cause: str,
    traceback: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "face_detection.api.http.middleware")
    assert (await client.get(path)).status == status
    (record,) = [record for record in caplog.records if record.getMessage().startswith("request failed")]
    assert (record.levelno, vars(record)["cause"], bool(record.exc_info)) == (level, cause, traceback)
