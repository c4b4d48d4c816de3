"""Photos of a user as a stream: answers line by line, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from aiohttp import MultipartWriter
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from face_detection.api.doors.keyed_schemas import StreamedPhoto, StreamSummary
from face_detection.api.http.load import LOAD
from face_detection.api.http.multipart import read_parts
from face_detection.api.operation import ACCESS
from face_detection.app import create_app
from face_detection.gallery.directory import Right
from shared.errors import InvalidRequest
from shared.settings import FrontSettings
from tests.conftest import Front

NDJSON = {"Content-Type": "application/x-ndjson"}
LINES = TypeAdapter(StreamedPhoto | StreamSummary)

Answer = tuple[int, list[dict[str, Any]]]


def line(**members: Any) -> bytes:
    for name, value in members.items():
        if isinstance(value, bytes):
            members[name] = base64.b64encode(value).decode()
    return json.dumps(members).encode() + b"\n"


async def send(front: TestClient, body: Any, user: str | None = "ann", headers: dict[str, str] = NDJSON) -> Answer:
    params = {} if user is None else {"userName": user}
    async with front.post("/train/stream", params=params, data=body, headers=headers) as response:
        lines = [json.loads(line) async for line in response.content]
        if response.status == 200:
            assert response.content_type == "application/x-ndjson"
            for one in lines:
                LINES.validate_python(one)
            assert [one["photo"] for one in lines[:-1]] == list(range(1, len(lines)))
            assert lines[-1]["learned"] + lines[-1]["failed"] == len(lines) - 1
        else:
            assert len(lines) == 1 and lines[0]["responseType"] == "FAILURE" and lines[0]["errorCode"]
        return response.status, lines


async def count(front: TestClient, user: str = "ann") -> int:
    response = await front.get(f"/people/{user}")
    return (await response.json())["photos"] if response.status == 200 else 0


@pytest.fixture(scope="session")
def small(photos: Path) -> bytes:
    """A small photo of one face."""
    pixels = cv2.resize(cv2.imread(str(photos / "obama.jpg")), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture(scope="session")
def blank() -> bytes:
    return cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()


async def test_lines(front: TestClient, small: bytes, blank: bytes) -> None:
    picture = f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
    status, lines = await send(front, line(picture=small) + b"\r\n\n" + line(picture=blank) + line(picture=picture))
    assert status == 200
    assert all(one.pop("detectionTime") > 0 for one in lines[:3])
    assert lines[0].pop("box") == lines[2].pop("box")
    assert lines == [
        {"photo": 1, "responseType": "SUCCESS", "faces": 1},
        {
            "photo": 2,
            "responseType": "FAILURE",
            "failureDescription": "There is no face in the image.",
            "errorCode": "no_face",
        },
        {"photo": 3, "responseType": "SUCCESS", "faces": 1},
        {"responseType": "SUCCESS", "successDescription": "Photos learned: 2 of 3.", "learned": 2, "failed": 1},
    ]
    assert await count(front) == 2


@pytest.mark.parametrize("subtype", ["form-data", "mixed"])
@pytest.mark.parametrize("named", ["in the query", "in the first part"])
async def test_parts(front: TestClient, small: bytes, subtype: str, named: str) -> None:
    with MultipartWriter(subtype) as body:
        if named == "in the first part":
            part = body.append("ann")
            if subtype == "form-data":
                part.set_content_disposition("form-data", name="userName")
        for headers, content in (
            ({"Content-Type": "image/jpeg"}, small),
            ({"Content-Type": "application/octet-stream"}, small),
            ({"Content-Type": "text/plain"}, base64.b64encode(small)),
        ):
            part = body.append(content, headers)
            if subtype == "form-data":
                part.set_content_disposition("form-data", name="photo")
    user = "ann" if named == "in the query" else None
    status, lines = await send(front, body, user, {"Content-Type": body.content_type})
    assert (status, lines[-1]["learned"], lines[-1]["failed"]) == (200, 3, 0), lines
    assert await count(front) == 3


async def test_the_name_in_the_first_line(front: TestClient, small: bytes) -> None:
    for begin in (line(userName="ann"), line(userName="ann", picture=small)):
        status, lines = await send(front, begin + line(picture=small), None)
        assert (status, lines[-1]["responseType"]) == (200, "SUCCESS")
    assert await count(front) == 3


PART = b"--x\r\nContent-Type: image/jpeg\r\n"
MIXED = {"Content-Type": "multipart/mixed; boundary=x"}


@pytest.mark.parametrize("form", ["lines", "parts with their length", "parts"])
async def test_each_photo_is_answered_before_the_next_is_sent(front: TestClient, small: bytes, form: str) -> None:
    begin, photo, end = {
        "lines": (b"", line(picture=small), b""),
        "parts with their length": (b"", PART + b"Content-Length: %d\r\n\r\n" % len(small) + small + b"\r\n", b"--x--"),
        "parts": (PART, b"\r\n" + small + b"\r\n" + PART, b"Content-Length: 0\r\n\r\n\r\n--x--"),
    }[form]
    answered = asyncio.Semaphore(0)

    async def photos() -> AsyncIterator[bytes]:
        yield begin
        for _ in range(3):
            yield photo
            await answered.acquire()
        yield end

    params, kind = {"userName": "ann"}, NDJSON if form == "lines" else MIXED
    async with front.post("/train/stream", params=params, data=photos(), headers=kind) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-ID"]
        for number in (1, 2, 3):
            assert json.loads(await response.content.readline())["photo"] == number
            assert await count(front) == number
            answered.release()
        *_, summary = [json.loads(line) async for line in response.content]
        assert (summary["responseType"], summary["learned"]) == ("SUCCESS", 3)


@pytest.mark.parametrize(
    ("user", "body"),
    [
        (None, b""),
        ("ann", b""),
        ("ann", b"\n\n"),
        ("ann", b'{"userName": "ann"}\n'),
        ("", b'{"picture": "aaaa"}\n'),
        ("a\0", b'{"picture": "aaaa"}\n'),
        (None, b'{"picture": "aaaa"}\n'),
        (None, b'{"userName": ""}\n{"picture": "aaaa"}\n'),
        (None, b"nonsense\n"),
        ("ann", b'{"userName": "bob", "picture": "aaaa"}\n'),
    ],
)
async def test_a_stream_that_begins_wrong_is_refused(front: TestClient, user: str | None, body: bytes) -> None:
    status, (answer,) = await send(front, body, user)
    assert (status, answer["errorCode"]) == (400, "invalid_request")


@pytest.mark.parametrize("kind", ["application/json", "image/jpeg", "multipart/related; boundary=x", "multipart/mixed"])
async def test_other_content_types_are_refused(front: TestClient, kind: str) -> None:
    status, (answer,) = await send(front, b"--x", headers={"Content-Type": kind})
    assert (status, answer["errorCode"]) == (400, "invalid_request")


async def test_a_key_among_the_parts_is_not_taken_for_a_name(front: TestClient, small: bytes) -> None:
    with MultipartWriter("form-data") as body:
        body.append("fr_0").set_content_disposition("form-data", name="API_KEY")
        body.append(small, {"Content-Type": "image/jpeg"}).set_content_disposition("form-data", name="photo")
    status, (answer,) = await send(front, body, None, {"Content-Type": body.content_type})
    assert (status, "userName" in answer["failureDescription"]) == (400, True)


async def test_lines_that_cannot_be_read_fail_alone(front: TestClient, small: bytes) -> None:
    bad = [
        b"nonsense\n",
        b"[]\n",
        b'{"picture": 5}\n',
        b"[" * 5000 + b"\n",
        b'{"picture": NaN}\n',
        b'{"picture": "?"}\n',
    ]
    status, lines = await send(front, b"".join(bad) + line(picture=small))
    assert (status, lines[-1]["failed"], lines[-1]["learned"]) == (200, len(bad), 1)
    assert [one["errorCode"] for one in lines[:-2]] == ["invalid_request"] * 5 + ["undecodable_image"]


async def test_a_stream_is_of_one_user(front: TestClient, small: bytes) -> None:
    body = line(picture=small) + line(userName="ann", picture=small) + line(userName="bob", picture=small)
    status, lines = await send(front, body + line(picture=small))
    assert (status, lines[-1]["responseType"], lines[-1]["errorCode"]) == (200, "FAILURE", "invalid_request")
    assert (lines[-1]["learned"], await count(front), await count(front, "bob")) == (2, 2, 0)


async def test_a_photo_that_is_too_large_fails_alone(start_front: Front, small: bytes) -> None:
    front = await start_front(max_image_bytes=len(small))
    for excess in (1, 10_000, 1_000_000):
        huge = small + bytes(excess)
        status, lines = await send(front, line(picture=small) + line(picture=huge) + line(picture=small))
        assert (status, lines[1]["errorCode"], lines[-1]["learned"]) == (200, "image_too_large", 2)
        with MultipartWriter("mixed") as body:
            for content in (small, huge, small):
                body.append(content, {"Content-Type": "image/jpeg"})
        status, lines = await send(front, body, headers={"Content-Type": body.content_type})
        assert (status, lines[1]["errorCode"], lines[-1]["learned"]) == (200, "image_too_large", 2)


async def test_a_stream_that_breaks_keeps_what_was_learned(front: TestClient, small: bytes) -> None:
    begin = b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + small + b"\r\n"
    kind = {"Content-Type": "multipart/mixed; boundary=x"}
    for rest in (
        b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + small[:1000],
        b"--x\r\nHeader: " + b"y" * 100_000,
        b"--x\r\nContent-Length: -5\r\n\r\n",
        b"--x\r\nContent-Length: 2\r\n\r\nabcdef\r\n--x--",
        b"--xy--",
    ):
        learned = await count(front)
        status, lines = await send(front, begin + rest, headers=kind)
        assert (status, lines[-1]["responseType"], lines[-1]["errorCode"]) == (200, "FAILURE", "invalid_request")
        assert lines[-1]["learned"] == 1
        assert await count(front) == learned + 1


async def test_a_thousand_photos_and_no_more(front: TestClient) -> None:
    status, lines = await send(front, line(picture="?") * 1001)
    assert (status, lines[-1]["failed"], len(lines)) == (200, 1000, 1001)
    assert lines[-1]["failureDescription"] == "The stream has more than 1000 photos."


async def test_a_client_that_reads_nothing_before_everything_is_sent(front: TestClient) -> None:
    url = front.make_url("/train/stream?userName=ann")
    body = line(picture="?" * 20_000) * 1000
    response = await asyncio.to_thread(requests.post, str(url), data=body, headers=NDJSON, timeout=60)
    *answers, summary = map(json.loads, response.text.splitlines())
    assert [answer["errorCode"] for answer in answers] == ["undecodable_image"] * 1000
    assert (summary["responseType"], summary["failureDescription"]) == ("FAILURE", "Photos learned: 0 of 1000.")


async def test_keys_and_rights(front: TestClient, small: bytes) -> None:
    keys = {right: front.app[ACCESS].create_key("default", "test", [right], max_samples=2)[1] for right in Right}
    assert (await send(front, line(API_KEY=keys[Right.ENROL], picture=small)))[0] == 401
    assert (await send(front, line(picture=small), headers=NDJSON | {"X-API-Key": "wrong"}))[0] == 401
    assert (await send(front, line(picture=small), headers=NDJSON | {"X-API-Key": keys[Right.RECOGNISE]}))[0] == 403
    status, lines = await send(front, line(picture=small) * 3, headers=NDJSON | {"X-API-Key": keys[Right.ENROL]})
    assert (status, [one.get("errorCode") for one in lines]) == (200, [None, None, "quota_exceeded", None])


async def test_a_client_that_goes_quiet_is_not_waited_for(start_front: Front, small: bytes) -> None:
    front = await start_front(request_timeout=2)

    async def photos() -> AsyncIterator[bytes]:
        yield line(picture=small)
        yield line(picture=small)[:100]
        await asyncio.sleep(60)

    status, lines = await asyncio.wait_for(send(front, photos()), 20)
    assert (status, lines[-1]["errorCode"], lines[-1]["learned"]) == (200, "deadline_passed", 1)


async def test_a_stream_has_to_end(start_front: Front) -> None:
    front = await start_front(batch_timeout=1)

    async def photos() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield line(userName="ann")
            await asyncio.sleep(0.1)

    status, (answer,) = await asyncio.wait_for(send(front, photos()), 20)
    assert (status, answer["errorCode"]) == (504, "deadline_passed")


@pytest.mark.parametrize("kind", ["application/x-ndjson", "multipart/mixed; boundary=x"])
async def test_a_client_that_goes_away(
    front: TestClient, small: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = line(picture=small)
    if kind.startswith("multipart"):
        whole = b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + small + b"\r\n"
    for sent, least, most in ((whole + whole[:1000], 1, 1), (whole[:1000], 0, 0), (whole * 3, 1, 3)):
        before = await count(front)
        reader, writer = await asyncio.open_connection(front.host, front.port)
        head = "POST /train/stream?userName=ann HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999"
        writer.write(f"{head}\r\nContent-Type: {kind}\r\n\r\n".encode() + sent)
        await writer.drain()
        if least:
            assert b"200 OK" in await reader.readline()
        else:
            await asyncio.sleep(0.2)
        writer.transport.abort()
        await idle(front)
        assert least <= await count(front) - before <= most
    assert "unexpected" not in caplog.text and "Traceback" not in caplog.text


async def idle(front: TestClient) -> None:
    """Return when no request is being worked on."""
    gate = front.app[LOAD]
    for _ in range(200):
        if not gate.pending:
            assert gate.bytes == 0
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a request hangs")


def narrow_socket(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """A socket that takes little before its peer has read it."""
    narrow = socket.socket(family)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        narrow.setsockopt(socket.SOL_SOCKET, option, 4096)
    narrow.bind((host, port))
    return narrow


async def test_a_client_that_never_reads_is_cut_off(front_settings: FrontSettings) -> None:
    app = create_app(front_settings.model_copy(update={"request_timeout": 1}))
    async with TestClient(TestServer(app, socket_factory=narrow_socket)) as front:
        with narrow_socket("127.0.0.1", 0, socket.AF_INET) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(silent, (front.host, front.port))
            head = (
                b"POST /train/stream?userName=ann HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
            )
            await loop.sock_sendall(silent, head + b"Content-Length: 9000\r\n\r\n" + b"nonsense\n" * 1000)
            await asyncio.sleep(0.5)
            assert front.app[LOAD].pending == 1
            await idle(front)


async def test_streams_do_not_shut_others_out(start_front: Front, small: bytes) -> None:
    front = await start_front(max_pending_bytes=100_000_000, max_body_bytes=50_000_000, max_image_bytes=1_000_000)
    going: Callable[[], Awaitable[None]] = asyncio.Event().wait

    async def endless() -> AsyncIterator[bytes]:
        yield line(picture=small)
        await going()

    params = {"userName": "ann"}
    responses = [await front.post("/train/stream", params=params, data=endless(), headers=NDJSON) for _ in range(5)]
    assert [response.status for response in responses] == [200] * 5
    answer = await front.post("/recognize", json={"picture": base64.b64encode(small).decode()})
    assert (await answer.json())["successDescription"] == "ann"
    for response in responses:
        response.close()
    await idle(front)


Send = Callable[[Any, str | None, dict[str, str]], Answer]


@pytest.fixture
def send_now(front_now: tuple[asyncio.Runner, TestClient]) -> Send:
    """Sends to a front of its own, outside of any event loop."""
    runner, client = front_now
    return lambda body, user, headers: runner.run(send(client, body, user, headers))


property_test = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.lists(
    st.sampled_from(
        [b"--x", b"--", b"\r\n", b"\n", b"{", b"}", b'{"picture": "aaaa"}', b'{"userName": "a"}', b"[" * 2000]
    )
    | st.sampled_from(
        [b"Content-Type: image/jpeg", b"Content-Disposition: form-data; name=userName", b"Content-Length: 3"]
    )
    | st.binary(max_size=20)
).map(b"".join)


@property_test
@given(
    body=PIECES,
    user=st.none() | st.just("ann"),
    kind=st.sampled_from(["application/x-ndjson", "multipart/mixed; boundary=x", "multipart/form-data; boundary=x"]),
)
def test_any_bytes_get_a_documented_answer(send_now: Send, body: bytes, user: str | None, kind: str) -> None:
    status, _ = send_now(body, user, {"Content-Type": kind})
    assert status in (200, 400)


async def read_in_pieces(body: bytes, cuts: list[int], limit: int) -> list[tuple[str | None, bytes | None]]:
    """What ``read_parts`` makes of a body that comes in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
        for start, end in zip([0, *ends], ends, strict=False):
            yield body[start:end]

    found = read_parts('multipart/mixed; boundary="x"', pieces(), limit)
    return [(part.name, part.content) async for part in found]


CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"--", b"x", b"y", b"\r\n--", b"\0"]), max_size=12).map(b"".join)


@given(
    contents=st.lists(st.tuples(CONTENT.filter(lambda content: b"\r\n--x" not in content), st.booleans()), max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=30),
    preamble=st.sampled_from([b"", b"\r\n", b"Not for you.\r\n"]),
    limit=st.integers(0, 20),
)
def test_parts_are_read_the_same_however_they_come(
    contents: list[tuple[bytes, bool]], cuts: list[int], preamble: bytes, limit: int
) -> None:
    body = preamble
    for number, (content, measured) in enumerate(contents):
        body += b'--x\r\nContent-Disposition: form-data; name="%d"\r\n' % number
        body += (b"Content-Length: %d\r\n" % len(content) if measured else b"") + b"\r\n" + content + b"\r\n"
    body += b"--x--"
    expected = [
        (str(number), content if len(content) <= limit else None) for number, (content, _) in enumerate(contents)
    ]
    assert asyncio.run(read_in_pieces(body, cuts, limit)) == expected
    with pytest.raises(InvalidRequest):
        asyncio.run(read_in_pieces(body[:-2], cuts, limit))


async def test_many_streams_may_begin_at_once(start_front: Front, small: bytes) -> None:
    front = await start_front(max_pending_bytes=300_000_000)

    async def photos() -> AsyncIterator[bytes]:
        yield line(picture=small)

    for status, lines in await asyncio.gather(*(send(front, photos()) for _ in range(8))):
        assert (status, lines[-1]["learned"]) == (200, 1)
