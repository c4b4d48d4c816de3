"""What is no HTTP, before a real front."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from aiohttp.test_utils import TestClient

from tests.face_detection.api.doors.test_keyed_stream import idle
from tests.not_http import CHUNKED, MALFORMED, answer_to


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_http(front: TestClient, what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = f"http://{front.host}:{front.port}"
    answer = await asyncio.to_thread(answer_to, url, "/face-detection", MALFORMED[what])
    assert answer == (400, "invalid_request")
    assert "Traceback" not in caplog.text and "secret" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    await idle(front)
    assert (await front.get("/livez")).status == 200


@pytest.mark.parametrize("path", ["/face-detection", "/recognize", "/train/stream?userName=a", "/face/match", "/live"])
@pytest.mark.parametrize("body", [b"not packed", zlib.compress(b"x" * 100)[:-9] + b"x" * 20])
async def test_a_body_that_is_not_packed_as_it_says(
    front: TestClient, path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kind = "application/x-ndjson" if "stream" in path else "application/json"
    response = await front.post(path, data=body, headers={"Content-Encoding": "deflate", "Content-Type": kind})
    assert response.status == (405 if path == "/live" else 400)
    await idle(front)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_form_that_breaks_off_in_a_chunk(front: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    form = CHUNKED.replace(b"application/json", b"multipart/form-data; boundary=x")
    url = f"http://{front.host}:{front.port}"
    pieces = [form + b"4\r\n--x\r\r\n", b"zz\r\n\n\r\n0\r\n\r\n"]
    assert await asyncio.to_thread(answer_to, url, "/face-detection", pieces) == (400, "invalid_request")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_request_before_what_is_no_http_is_answered(front: TestClient) -> None:
    reader, writer = await asyncio.open_connection(front.host, front.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await reader.readline()
    writer.write(b"nonsense\n\n")
    rest = await asyncio.wait_for(reader.read(), 10)
    assert b'{"status":"alive"}' in rest and b" 400 Bad Request" in rest and rest.endswith(b"}")
    writer.close()
