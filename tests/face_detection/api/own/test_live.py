"""Live sessions through the real front: real frames, a real model, real sockets."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient
from PIL import Image

from face_detection.api.http.load import LOAD
from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.api.own import live, live_conversation
from face_detection.api.own.live_conversation import LIVE_ANSWER
from face_detection.gallery.directory import Device, Right, Sector
from tests import pictures
from tests.conftest import Front
from tests.face_detection.api.own.test_events import events
from tests.video_frames import HEIGHT, WIDTH, Actor, encoded, frame_at

DataUri = Callable[[Path | bytes], str]


async def enrol(front: TestClient, photos: Path, data_uri: DataUri, **headers: str) -> None:
    sample = {"id": "44", "name": "Barack", "image": data_uri(photos / "obama.jpg"), "metadata": {"floor": 2}}
    response = await front.post("/update-samples", json=[sample], headers=headers)
    assert (await response.json())["success"] == ["44"]


@asynccontextmanager
async def session(front: TestClient, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    async with front.ws_connect("/live", **options) as socket:
        yield socket


async def ask(socket: ClientWebSocketResponse, frame: bytes) -> Any:
    await socket.send_bytes(frame)
    return await answer(socket)


async def answer(socket: ClientWebSocketResponse) -> Any:
    text = await socket.receive_str(timeout=30)
    LIVE_ANSWER.validate_json(text)
    return json.loads(text)


async def closed(socket: ClientWebSocketResponse) -> int | None:
    message = await socket.receive(timeout=30)
    assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED), message
    return socket.close_code


def numbered(number: int, frame: bytes) -> bytes:
    return struct.pack(">I", number) + frame


@pytest.fixture
def walker(photos: Path) -> Callable[[int], bytes]:
    """Frames in which one man walks to the right, with a stranger to the front beside him."""
    actors = [Actor(photos / "obama2.jpg", 20, step=3), Actor(photos / "biden.jpg", 420)]
    return lambda number: encoded(frame_at(actors, number))


async def test_names_hold_from_frame_to_frame(
    front: TestClient, photos: Path, data_uri: DataUri, walker: Callable[[int], bytes]
) -> None:
    await enrol(front, photos, data_uri)
    async with session(front) as socket:
        answers = []
        for number in range(12):
            answers.append(await ask(socket, numbered(100 + number, walker(number))))
            await asyncio.sleep(0.05)
    assert [one["frame"] for one in answers] == list(range(100, 112))
    assert {(one["width"], one["height"], one["skipped"]) for one in answers} == {(WIDTH, HEIGHT, 0)}
    assert all(one["milliseconds"] > 0 for one in answers)
    for one in answers:
        walking, standing = one["faces"]
        assert (walking["track"], standing["track"]) == (1, 2)
        assert (walking["id"], walking["name"], walking["metadata"]) == ("44", "Barack", {"floor": 2})
        assert 0 < walking["distance"] < 9 and walking["trust"] > 50
        assert (standing["id"], standing["name"], standing["metadata"]) == (None, None, None)
        assert standing["distance"] > 9 and standing["trust"] < 50
    first, last = (one["faces"][0]["box"] for one in (answers[0], answers[-1]))
    assert abs(last[0] - first[0] - 33) < 8
    embedded = sum(face["embedded"] for one in answers for face in one["faces"])
    assert 4 <= embedded <= 10
    assert all(face["firm"] for face in answers[-1]["faces"]) and not any(face["firm"] for face in answers[0]["faces"])
    page = await events(front, 3)
    assert sorted(event["kind"] for event in page["events"]) == ["enrolled", "recognised", "unknown"]


async def test_plain_frames_are_counted(front: TestClient, walker: Callable[[int], bytes]) -> None:
    async with session(front) as socket:
        assert [(await ask(socket, walker(0)))["frame"] for _ in range(2)] == [0, 1]
        assert (await ask(socket, numbered(70, walker(0))))["frame"] == 70
        reply = await ask(socket, walker(0))
        assert reply["frame"] == 71
        assert {face["id"] for face in reply["faces"]} == {None}
        assert {face["distance"] for face in reply["faces"]} == {None}


async def test_a_bad_frame_does_not_end_the_session(front: TestClient, walker: Callable[[int], bytes]) -> None:
    async with session(front) as socket:
        for frame, code in (
            (b"", "invalid_request"),
            (b"\x00\x00", "invalid_request"),
            (numbered(5, b"no picture at all"), "unsupported_image_type"),
            (walker(0)[:3000], "undecodable_image"),
        ):
            reply = await ask(socket, frame)
            assert (reply["error"]["code"], set(reply)) == (code, {"error", "frame", "skipped"})
        assert (await ask(socket, walker(0)))["frame"] == 7
        assert (await ask(socket, encoded(np.zeros((90, 160, 3), np.uint8))))["faces"] == []


async def test_quality_is_told_to_whoever_asks(front: TestClient, walker: Callable[[int], bytes]) -> None:
    async with session(front) as socket:
        (*_, face) = (await ask(socket, walker(0)))["faces"]
        assert "quality" not in face and "quality_parts" not in face
        await socket.send_json({"quality": True})
        (*_, face) = (await ask(socket, walker(0)))["faces"]
        assert 0.2 < face["quality"] <= 1 and face["quality_parts"]["eyes"] > 20


async def test_settings_of_a_session(
    front: TestClient, photos: Path, data_uri: DataUri, walker: Callable[[int], bytes]
) -> None:
    assert front.app is not None
    front.app[DIRECTORY].put_sector(Sector("default", 7, "Ground floor"))
    front.app[DIRECTORY].put_device(Device("default", 31, "Front door", 7))
    await enrol(front, photos, data_uri)
    async with session(front) as socket:
        await socket.send_json({"device": 31, "latitude": -23.5, "longitude": 46.25})
        assert (await ask(socket, walker(0)))["faces"][0]["id"] == "44"
        await asyncio.sleep(0.25)
        assert (await ask(socket, walker(0)))["faces"][0]["firm"]
        (event,) = (await events(front, 1, kind="recognised"))["events"]
        assert (event["device"], event["latitude"], event["longitude"]) == (31, -23.5, 46.25)
        await socket.send_json({"min_distance": 0.1})
        await asyncio.sleep(0.25)
        assert (await ask(socket, walker(0)))["faces"][0]["id"] is None
        await socket.send_json({"min_distance": None})
        await asyncio.sleep(0.25)
        assert (await ask(socket, walker(0)))["faces"][0]["id"] == "44"
        for bad, code in (
            ('{"device": 32}', "not_found"),
            ('{"min_distance": -1}', "invalid_request"),
            ('{"latitude": 91}', "invalid_request"),
            ('{"leave_after": 0}', "invalid_request"),
            ('{"leave_after": true}', "invalid_request"),
            ('{"colour": 1}', "invalid_request"),
            ('{"api_key": "fr_x"}', "invalid_request"),
            ("{", "invalid_request"),
        ):
            await socket.send_str(bad)
            reply = await answer(socket)
            assert (reply["error"]["code"], reply["frame"]) == (code, None)


async def test_the_time_of_a_recording(front: TestClient, walker: Callable[[int], bytes]) -> None:
    """Frames that are sent faster than they were recorded are embedded as often as if they were not."""
    async with session(front) as socket:
        await socket.send_json({"fps": 10})
        answers = [await ask(socket, numbered(number, walker(0))) for number in range(30)]
        embedded = [one["frame"] for one in answers if one["faces"][0]["embedded"]]
        assert embedded == [0, 2, 12, 22]
        await socket.send_json({"fps": 20})
        assert (await answer(socket))["error"]["code"] == "invalid_request"


async def test_who_is_back_in_time_goes_on_with_the_visit(front: TestClient, walker: Callable[[int], bytes]) -> None:
    nobody = encoded(np.zeros((90, 160, 3), np.uint8))

    async def visits(socket: ClientWebSocketResponse, first: int) -> list[int | None]:
        numbers = range(first, first + 12)
        answers = [await ask(socket, numbered(number, walker(0))) for number in numbers]
        return [one["faces"][0]["visit"] for one in (answers[0], answers[-1])]

    async with session(front) as socket:
        await socket.send_json({"fps": 10})
        assert await visits(socket, 0) == [None, 1]
        assert (await ask(socket, numbered(100, nobody)))["faces"] == []
        assert (await visits(socket, 200))[-1] == 1
        await socket.send_json({"leave_after": 5})
        after = await visits(socket, 300)
        assert after[0] is None and after[1] not in (None, 1)
        await socket.send_json({"leave_after": None})
        assert (await visits(socket, 500))[-1] == after[1]


async def test_only_the_newest_frame_waits(front: TestClient, walker: Callable[[int], bytes]) -> None:
    """A client that sends faster than the service works: every frame is processed or counted as skipped."""
    frames = [walker(number) for number in range(20)]
    count, total, processed, skipped = 400, 0, [], 0
    async with session(front) as socket:
        for number in range(count):
            await socket.send_bytes(numbered(number, frames[number % 20]))
            total += 1
        while total > len(processed) + skipped:
            reply = await answer(socket)
            processed.append(reply["frame"])
            skipped += reply["skipped"]
        assert len(processed) + skipped == count
        assert processed == sorted(set(processed)) and processed[-1] == count - 1
        assert skipped > len(processed)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}, 101),
        ({}, 101),
    ],
)
async def test_browsers_of_other_sites(front: TestClient, headers: dict[str, str], status: int) -> None:
    if status == 101:
        async with session(front, headers=headers) as socket:
            assert not socket.closed
        return
    with pytest.raises(WSServerHandshakeError) as refused:
        await front.ws_connect("/live", headers=headers)
    assert refused.value.status == status


async def test_the_own_origin(front: TestClient) -> None:
    async with session(front, origin=f"http://{front.host}:{front.port}") as socket:
        assert not socket.closed


async def test_a_plain_request(front: TestClient) -> None:
    response = await front.get("/live")
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
    for query in ("api_key=fr_1", "x="):
        assert (await front.get(f"/live?{query}")).status == 400


class TestKeys:
    """With keys in the installation."""

    @pytest.fixture
    def texts(self, front: TestClient) -> dict[Right, str]:
        assert front.app is not None
        return {right: front.app[ACCESS].create_key("default", right, [right])[1] for right in Right}

    async def test_ways_to_send_one(
        self, front: TestClient, texts: dict[Right, str], walker: Callable[[int], bytes]
    ) -> None:
        key = texts[Right.RECOGNISE]
        for options in (
            {"headers": {"X-API-Key": key}},
            {"headers": {"Authorization": f"Bearer {key}"}},
            {"protocols": [live.PROTOCOL, key]},
        ):
            async with session(front, **options) as socket:
                assert (await ask(socket, walker(0)))["frame"] == 0
                assert socket.protocol == (live.PROTOCOL if "protocols" in options else None)
        async with session(front) as socket:
            await socket.send_json({"api_key": key, "latitude": 1})
            assert (await ask(socket, walker(0)))["frame"] == 0
            await socket.send_json({"api_key": key})
            assert (await answer(socket))["error"]["code"] == "invalid_request"
        async with session(front) as socket:
            await socket.send_json({"api_key": key, "device": 99})
            assert (await answer(socket))["error"]["code"] == "not_found"
            assert (await ask(socket, walker(0)))["frame"] == 0

    async def test_refusals_in_the_handshake(self, front: TestClient, texts: dict[Right, str]) -> None:
        other = texts[Right.ADMIN]
        for options, status in (
            ({"headers": {"X-API-Key": "wrong"}}, 401),
            ({"headers": {"X-API-Key": texts[Right.ENROL]}}, 403),
            ({"protocols": ["fr_wrong"]}, 401),
            ({"protocols": [texts[Right.RECOGNISE], other]}, 401),
        ):
            with pytest.raises(WSServerHandshakeError) as refused:
                await front.ws_connect("/live", **options)
            assert refused.value.status == status
        assert (await front.get("/live")).status == 401

    async def test_refusals_of_the_first_message(
        self, front: TestClient, texts: dict[Right, str], walker: Callable[[int], bytes]
    ) -> None:
        for message, code in (
            (json.dumps({"api_key": "wrong"}), 4401),
            (json.dumps({"api_key": texts[Right.ENROL]}), 4403),
            (json.dumps({"min_distance": 9}), 4401),
            ("{", 4400),
            ("x" * 5000, 1009),
            (walker(0), 4401),
        ):
            async with session(front) as socket:
                await (socket.send_bytes if isinstance(message, bytes) else socket.send_str)(message)  # type: ignore[operator]
                assert await closed(socket) == code

    async def test_a_key_that_never_comes(
        self, front: TestClient, texts: dict[Right, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_conversation, "KEY_SECONDS", 0.2)
        async with session(front) as socket:
            assert await closed(socket) == 4401

    async def test_revoking_and_rotating_end_the_session(
        self,
        front: TestClient,
        texts: dict[Right, str],
        walker: Callable[[int], bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert front.app is not None
        monkeypatch.setattr(live_conversation, "_CHECK_SECONDS", 0.1)
        text = texts[Right.RECOGNISE]
        id = text.split("_")[1]
        for change in (front.app[ACCESS].rotate_key, front.app[DIRECTORY].revoke_key):
            async with session(front, headers={"X-API-Key": text}) as socket:
                assert (await ask(socket, walker(0)))["frame"] == 0
                changed = change("default", id)
                assert await closed(socket) == 4401
                text = changed[1] if isinstance(changed, tuple) else text

    async def test_the_tenant_is_the_keys(
        self,
        front: TestClient,
        texts: dict[Right, str],
        photos: Path,
        data_uri: DataUri,
        walker: Callable[[int], bytes],
    ) -> None:
        assert front.app is not None
        await enrol(front, photos, data_uri, **{"X-API-Key": texts[Right.ADMIN]})
        directory = front.app[DIRECTORY]
        directory.create_tenant("1042", "Acme", directory.tenant("default").settings)
        _, theirs = front.app[ACCESS].create_key("1042", "door", [Right.RECOGNISE])
        for key, id in ((texts[Right.RECOGNISE], "44"), (theirs, None)):
            async with session(front, headers={"X-API-Key": key}) as socket:
                assert (await ask(socket, walker(0)))["faces"][0]["id"] == id


async def test_the_first_key_ends_anonymous_sessions(front: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert front.app is not None
    monkeypatch.setattr(live_conversation, "_CHECK_SECONDS", 0.1)
    async with session(front) as socket:
        front.app[ACCESS].create_key("default", "first", [Right.ADMIN])
        assert await closed(socket) == 4401


async def test_limits(start_front: Front, walker: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    front = await start_front(live_sessions=3, live_frame_bytes=100_000)
    assert front.app is not None
    async with session(front) as one, session(front) as other:
        with pytest.raises(WSServerHandshakeError) as refused:
            await front.ws_connect("/live")
        assert (refused.value.status, refused.value.headers and refused.value.headers["Retry-After"]) == (429, "1")
        assert front.app[LOAD].pending == 0
        await one.send_bytes(bytes(100_005))
        assert await closed(one) == 1009
        for _ in range(21):
            await other.send_str("{}")
        assert await closed(other) == 4429
    async with session(front) as socket:
        await socket.send_str(" " * 5000)
        assert await closed(socket) == 1009
    monkeypatch.setattr(live_conversation, "_CHECK_SECONDS", 0.1)
    async with session(front) as socket:
        assert (await ask(socket, walker(0)))["frame"] == 0
        monkeypatch.setattr(live_conversation, "IDLE_SECONDS", 0.3)
        assert await closed(socket) == 4408
    assert front.app[LOAD].pending == 0


async def test_shutting_down_says_goodbye(start_front: Front, walker: Callable[[int], bytes]) -> None:
    front = await start_front()
    async with aiohttp.ClientSession() as client, client.ws_connect(front.make_url("/live")) as socket:
        await socket.send_bytes(walker(0))
        await answer(socket)
        stopping = asyncio.create_task(front.server.close())
        assert await closed(socket) == 1001
        async with asyncio.timeout(10):
            await stopping


async def test_a_deleted_person_is_not_named_any_more(
    front: TestClient, photos: Path, data_uri: DataUri, walker: Callable[[int], bytes]
) -> None:
    await enrol(front, photos, data_uri)
    async with session(front) as socket:
        assert (await ask(socket, walker(0)))["faces"][0]["id"] == "44"
        await front.patch("/people/44", json={"name": "Somebody"})
        await asyncio.sleep(1.1)
        assert (await ask(socket, walker(0)))["faces"][0]["name"] == "Somebody"
        await front.delete("/people/44")
        await asyncio.sleep(1.1)
        assert (await ask(socket, walker(0)))["faces"][0]["name"] is None


async def test_a_frame_without_a_number_may_be_of_any_format(
    front: TestClient, photos: Path, data_uri: DataUri
) -> None:
    await enrol(front, photos, data_uri)
    with Image.open(photos / "obama2.jpg") as photo:
        photo.thumbnail((640, 640))
        frames = [pictures.encoded(photo, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")]
    async with session(front) as socket:
        for number, frame in enumerate(frames):
            assert [face["id"] for face in (await ask(socket, frame))["faces"]] == ["44"]
            assert (await ask(socket, numbered(100 + number, frame)))["frame"] == 100 + number
