"""Clients that send slowly, or do not read: real sockets to a real front."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from face_detection.api.http.load import LOAD
from face_detection.api.openapi import describe
from face_detection.app import OPERATIONS, create_app
from shared.settings import FrontSettings
from tests.conftest import Front
from tests.face_detection.api.doors.test_keyed_stream import idle, narrow_socket

JSON = "application/json"
FORM = "multipart/form-data; boundary=x"
FILE = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'

BEGINNINGS = {
    "JSON": ("/face-detection", JSON, b'{"image": "'),
    "a picture": ("/face-detection", "image/jpeg", b"\xff\xd8"),
    "a file of a form": ("/face-detection", FORM, FILE),
    "the headers of a form": ("/face-detection", FORM, b"--x\r\nContent-Disposition: "),
    "what stands before a form": ("/face-detection", FORM, b"a preamble\r\n"),
    "an urlencoded form": ("/recognize", "application/x-www-form-urlencoded", b"picture="),
    "a batch": ("/update-samples", JSON, b"["),
    "a picture of the original": ("/face-recognition", JSON, b"{"),
    "parameters of the data set": ("/face/match", JSON, b"{"),
    "a request of a company": ("/companies/recognition", JSON, b"{"),
    "photos to train": ("/api/train", FORM, FILE),
    "whom to clear": ("/api/clear", JSON, b"{"),
    "a new company": ("/companies", JSON, b"{"),
}

Answer = tuple[int, dict[str, str], Any]


class Sender:
    """A connection over which bytes go in pieces."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, pieces: Iterable[bytes], pause: float = 0.05) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(pause)

    async def answer(self, pieces: Iterable[bytes] = (), pause: float = 0.05) -> Answer:
        """Status, headers and body of the answer that comes while the pieces are sent."""
        sending = asyncio.create_task(self.send(pieces, pause))
        async with asyncio.timeout(30):
            status = int((await self.reader.readline()).split()[1])
            headers: dict[str, str] = {}
            while line := (await self.reader.readline()).strip():
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            body = json.loads(await self.reader.readexactly(int(headers["Content-Length"])))
        await stop(sending)
        return status, headers, body


@asynccontextmanager
async def connected(front: TestClient) -> AsyncIterator[Sender]:
    reader, writer = await asyncio.open_connection(front.host, front.port)
    try:
        yield Sender(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def posting(
    front: TestClient, path: str, kind: str, *headers: str, length: int = 10_000
) -> AsyncIterator[Sender]:
    """A connection over which the head of a request has gone."""
    headers = headers or (f"Content-Length: {length}",)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", *headers, "", ""]
    async with connected(front) as sender:
        await sender.send(["\r\n".join(lines).encode()], pause=0)
        yield sender


def bytewise(beginning: bytes) -> list[bytes]:
    return [beginning, *([b" "] * 1000)]


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def code(body: Any) -> object:
    """The code of an error in whichever form."""
    if "error_type" in body:
        return {202: "request_too_slow"}[body["error_type"]]
    return body.get("code") or body.get("errorCode") or body["error"]["code"]


async def pending(front: TestClient, count: int) -> None:
    async with asyncio.timeout(10):
        while front.app[LOAD].pending != count:
            await asyncio.sleep(0.01)


async def test_bodies_that_come_byte_by_byte(start_front: Front, caplog: pytest.LogCaptureFixture) -> None:
    front = await start_front(body_timeout=1)

    async def refused(path: str, kind: str, beginning: bytes) -> tuple[int, object, str | None, bool]:
        started = time.monotonic()
        async with posting(front, path, kind) as sender:
            status, headers, body = await sender.answer(bytewise(beginning))
        return status, code(body), headers.get("Connection"), time.monotonic() - started > 0.9

    answers = await asyncio.gather(*(refused(*one) for one in BEGINNINGS.values()))
    assert dict(zip(BEGINNINGS, answers, strict=True)) == dict.fromkeys(
        BEGINNINGS, (408, "request_too_slow", "close", True)
    )
    await idle(front)
    assert (await front.get("/people")).status == 200
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "headers", [(), ("Transfer-Encoding: chunked",), ("Content-Length: 9", "Expect: 100-continue")]
)
async def test_a_body_that_does_not_come(start_front: Front, headers: tuple[str, ...]) -> None:
    front = await start_front(body_timeout=1)
    async with posting(front, "/face-recognition", JSON, *headers) as sender:
        if len(headers) == 2:
            assert b" 100 Continue" in await sender.reader.readuntil(b"\r\n\r\n")
        status, _, body = await sender.answer()
        assert (status, body["code"]) == (408, "request_too_slow")
        assert body["error"] == body["detail"] and "within 1 seconds" in body["error"]
        await idle(front)


async def test_slow_clients_do_not_keep_others_out(start_front: Front, photos: Path) -> None:
    front = await start_front(body_timeout=2, max_pending_requests=3, trusted_proxies="127.0.0.1")
    photo = (photos / "obama.jpg").read_bytes()

    async def detect() -> int:
        async with front.post("/face-detection", data=photo, headers={"Content-Type": "image/jpeg"}) as response:
            return response.status

    def slow_peer(number: int) -> AbstractAsyncContextManager[Sender]:
        return posting(front, "/recognize", JSON, "Content-Length: 10000", f"X-Forwarded-For: 192.0.2.{number}")

    assert await detect() == 200
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(slow_peer(number)) for number in range(2)]
        answers = [asyncio.create_task(one.answer(bytewise(b"{"))) for one in slow]
        await pending(front, 2)
        assert await detect() == 200
        third = await stack.enter_async_context(slow_peer(2))
        answers.append(asyncio.create_task(third.answer(bytewise(b"{"))))
        await pending(front, 3)
        assert await detect() == 429
        assert [status for status, _, _ in await asyncio.gather(*answers)] == [408] * 3
        await idle(front)
        assert await detect() == 200


@pytest.mark.slow
async def test_the_connection_is_closed_although_the_client_goes_on(start_front: Front) -> None:
    front = await start_front(body_timeout=0.5)
    async with posting(front, "/recognize", JSON) as sender:
        sending = asyncio.create_task(sender.send(bytewise(b"{")))
        async with asyncio.timeout(20):
            assert (await sender.reader.read()).startswith(b"HTTP/1.1 408 ")
        await stop(sending)


async def test_a_large_body_has_time(start_front: Front) -> None:
    front = await start_front(body_timeout=2)
    ends = {JSON: b'"}', "image/jpeg": b"", FORM: b"\r\n--x--\r\n"}

    async def send(path: str, kind: str, beginning: bytes) -> tuple[int, bool]:
        pieces = [beginning, *([b"A" * (1 << 18)] * 16), ends[kind]]
        started = time.monotonic()
        async with posting(front, path, kind, length=sum(map(len, pieces))) as sender:
            status, _, _ = await sender.answer(pieces, pause=0.2)
        return status, time.monotonic() - started > 3

    sent = [send(*BEGINNINGS[form]) for form in ("JSON", "a picture", "a file of a form")]
    assert await asyncio.gather(*sent) == [(415, True)] * 3


async def test_what_is_compressed_counts_as_it_is_sent(start_front: Front) -> None:
    front = await start_front(body_timeout=1)
    packed = zlib.compress(bytes(64 << 20), 9)
    pieces = [packed[start : start + 300] for start in range(0, len(packed), 300)]
    headers = ("Content-Encoding: deflate", f"Content-Length: {len(packed)}")
    async with posting(front, "/face-detection", JSON, *headers) as sender:
        status, _, body = await sender.answer(pieces, pause=0.1)
        assert (status, code(body)) == (408, "request_too_slow")


async def test_nothing_is_enrolled_of_a_batch_that_does_not_end(start_front: Front, photos: Path) -> None:
    front = await start_front(body_timeout=1)
    id = b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\nann\r\n'
    async with posting(front, "/update-samples", FORM, length=10_000_000) as sender:
        status, _, body = await sender.answer([id + FILE + (photos / "obama.jpg").read_bytes(), b"\r\n--x\r\n"])
        assert (status, body["code"]) == (408, "request_too_slow")
    assert (await (await front.get("/people")).json())["people"] == []


async def test_a_head_that_does_not_end_takes_no_place_and_is_not_waited_for(front_settings: FrontSettings) -> None:
    """aiohttp counts the time from the beginning of the connection, or from the last answer."""
    server = TestServer(create_app(front_settings))
    await server.start_server(keepalive_timeout=1)
    async with TestClient(server) as front:
        for answered in (b"", b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            async with connected(front) as sender:
                if answered:
                    assert (await sender.answer([answered]))[0] == 200
                sending = asyncio.create_task(sender.send(bytewise(b"POST /recognize HTTP/1.1\r\nHost:")))
                async with asyncio.timeout(10):
                    assert await sender.reader.read() == b""
                assert front.app[LOAD].pending == 0
                await stop(sending)


async def test_who_does_not_read_the_model_is_cut_off(
    front_settings: FrontSettings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(front_settings.model_copy(update={"request_timeout": 1}))
    async with TestClient(TestServer(app, socket_factory=narrow_socket)) as front:
        assert (await front.get("/offline/models")).status == 200
        with narrow_socket("127.0.0.1", 0, socket.AF_INET) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(silent, (front.host, front.port))
            await loop.sock_sendall(silent, b"GET /offline/models/recognition HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await pending(front, 1)
            await idle(front)
    assert "unexpected" not in caplog.text


def test_every_operation_with_a_body_tells_that_it_may_be_too_slow() -> None:
    paths: Any = describe(OPERATIONS, "1")["paths"]
    bodies = [one for path in paths.values() for one in path.values() if "requestBody" in one]
    streams = [one for one in bodies if "application/x-ndjson" in one["requestBody"]["content"]]
    assert (len(bodies) > 15, len(streams)) == (True, 1)
    assert [one["operationId"] for one in bodies if one not in streams and "408" not in one["responses"]] == []
