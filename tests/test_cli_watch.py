"""The command ``watch`` as a process of its own, with real videos, before a real front and real receivers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from face_detection.api.operations import ACCESS
from face_detection.cli import webhook
from face_detection.cli.visits import Visits
from face_detection.cli.webhook import Webhook, signature
from face_detection.gallery.directory import Right
from tests.conftest import ROOT
from tests.test_api_events import events
from tests.test_api_live import enrol
from tests.video_frames import Actor, encoded, frame_at, write_video

SECRET = "a secret of the test"


async def start(front: TestClient, source: object, *options: str, **environment: str) -> asyncio.subprocess.Process:
    url = f"http://{front.host}:{front.port}"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "face_detection", "watch", str(source), "--url", url, *options),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def watch(front: TestClient, source: object, *options: str, **environment: str) -> tuple[int, list[Any], str]:
    """Exit code, events, and what was said."""
    process = await start(front, source, *options, **environment)
    async with asyncio.timeout(60):
        out, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], said.decode()


@pytest.fixture
def film(photos: Path, tmp_path: Path) -> Path:
    """Four seconds at 10 a second: one man all the time, another from 1.0 until before 2.0."""
    actors = [Actor(photos / "obama2.jpg", 20, step=2), Actor(photos / "biden.jpg", 420, start=10, end=20)]
    path = tmp_path / "film.avi"
    write_video(path, [frame_at(actors, number) for number in range(40)], 10)
    return path


class Receiver:
    """Takes events; answers with the given statuses first, then 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[dict[str, str], Any]] = []
        self.delay = 0.0

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        expected = signature(SECRET, request.headers["X-Timestamp"], body)
        assert request.headers["X-Signature"] == expected and expected.startswith("sha256=")
        await asyncio.sleep(self.delay)
        self.calls.append((dict(request.headers), json.loads(body)))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/visits", receiver.take)
    async with TestServer(app) as server:
        yield receiver, str(server.make_url("/visits"))


class TestFilms:
    async def test_who_comes_and_who_leaves(
        self, front: TestClient, film: Path, photos: Path, data_uri: Callable[[Path | bytes], str]
    ) -> None:
        await enrol(front, photos, data_uri)
        code, lines, said = await watch(front, film, "--leave-after", "0.5")
        assert (code, said) == (0, "")
        assert [(line["event"], line["id"]) for line in lines] == [
            ("appeared", "44"),
            ("appeared", None),
            ("left", None),
            ("left", "44"),
        ]
        came, stranger, stranger_left, left = lines
        assert (came["name"], came["metadata"], came["seconds"] < 1) == ("Barack", {"floor": 2}, True)
        assert came["at"].endswith("Z") and 0 < came["distance"] < 9 and came["trust"] > 50
        assert 1 <= stranger["seconds"] < 2
        assert abs(stranger_left["until"] - 1.9) < 0.11 and stranger_left["since"] == stranger["seconds"]
        assert (left["since"], left["until"]) == (came["seconds"], 3.9)
        page = await events(front, 3)
        assert sorted(event["kind"] for event in page["events"]) == ["enrolled", "recognised", "unknown"]

    async def test_fewer_frames_and_other_settings(
        self, front: TestClient, film: Path, photos: Path, data_uri: Callable[[Path | bytes], str]
    ) -> None:
        await enrol(front, photos, data_uri)
        code, lines, _ = await watch(front, film, "--fps", "5", "--min-distance", "0.5")
        assert code == 0 and {line["id"] for line in lines} == {None}
        assert all(round(line["seconds"] * 10) % 2 == 0 for line in lines)

    async def test_with_a_key(self, front: TestClient, film: Path) -> None:
        assert front.app is not None
        _, key = front.app[ACCESS].create_key("default", "camera", [Right.RECOGNISE])
        code, lines, _ = await watch(front, film, "--every", "0.5", FACE_API_KEY=key)
        assert code == 0 and lines
        code, lines, said = await watch(front, film, FACE_API_KEY="wrong")
        assert (code, lines, "401" in said, said.count("\n")) == (1, [], True, 1)
        code, lines, said = await watch(front, film)
        assert (code, lines, "API key" in said, said.count("\n")) == (1, [], True, 1)

    @pytest.mark.parametrize(
        ("options", "environment", "expected"),
        [
            (["--every", "1", "--fps", "1"], {}, (2, "give one of them")),
            (["--fps", "0"], {}, (2, "0.001")),
            (["--webhook", "http://127.0.0.1"], {}, (2, "FACE_WEBHOOK_SECRET")),
            (["--webhook", "ftp://x"], {"FACE_WEBHOOK_SECRET": "x"}, (2, "address like")),
            (["--device", "99"], {}, (1, "refuses the settings")),
        ],
    )
    async def test_refusals(
        self, front: TestClient, film: Path, options: list[str], environment: dict[str, str], expected: tuple[int, str]
    ) -> None:
        code, lines, said = await watch(front, film, *options, **environment)
        assert (code, lines) == (expected[0], []) and expected[1] in said and "Traceback" not in said

    async def test_what_is_no_film(self, front: TestClient, tmp_path: Path) -> None:
        text = tmp_path / "text.mp4"
        text.write_text("no film")
        for source in (text, "nowhere.mp4", "http://127.0.0.1:9/stream"):
            code, lines, said = await watch(front, source)
            assert (code, lines) == (1, []) and said.startswith("Error: ") and said.count("\n") == 1, said

    async def test_the_webhook_gets_the_same(
        self, front: TestClient, film: Path, receiver: tuple[Receiver, str]
    ) -> None:
        taker, url = receiver
        taker.statuses = [503, 200]
        options = ("--every", "0.2", "--webhook", url)
        code, lines, said = await watch(front, film, *options, FACE_WEBHOOK_SECRET=SECRET)
        assert (code, said) == (0, "") and len(lines) == 4
        assert [body for _, body in taker.calls] == [lines[0], *lines]
        identities = [headers["X-Event-Id"] for headers, _ in taker.calls]
        assert identities[0] == identities[1] and len(set(identities)) == 4

    async def test_a_slow_webhook_holds_nothing_up(
        self, front: TestClient, film: Path, receiver: tuple[Receiver, str]
    ) -> None:
        taker, url = receiver
        taker.delay = 1.5
        process = await start(front, film, "--every", "0.2", "--webhook", url, FACE_WEBHOOK_SECRET=SECRET)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            lines = [await process.stdout.readline() for _ in range(4)]
            assert len(taker.calls) < 4 and all(lines)
            await process.wait()
        assert len(taker.calls) == 4


async def test_a_stream_until_it_is_told_to_stop(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    """Motion JPEG over HTTP, as network cameras send it; after a while it breaks off, and is opened again."""
    await enrol(front, photos, data_uri)
    opened = 0

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal opened
        opened += 1
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        for number in range(40 if opened == 1 else 100_000):
            frame = encoded(frame_at([Actor(photos / "obama2.jpg", 200 + number % 5)], 0))
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
            await response.write(head.encode() + frame + b"\r\n")
            await asyncio.sleep(0.04)
        return response

    app = web.Application()
    app.router.add_get("/stream", stream)
    async with TestServer(app) as camera:
        process = await start(front, camera.make_url("/stream"), "--fps", "10", "--leave-after", "0.5")
        assert process.stdout is not None and process.stderr is not None
        async with asyncio.timeout(60):
            came = json.loads(await process.stdout.readline())
            assert (came["event"], came["id"]) == ("appeared", "44")
            assert b"opened again" in await process.stderr.readline()
            left = json.loads(await process.stdout.readline())
            again = json.loads(await process.stdout.readline())
            assert [left["event"], again["event"], left["id"], again["id"]] == ["left", "appeared", "44", "44"]
            process.send_signal(signal.SIGTERM)
            out, said = await process.communicate()
        assert json.loads(out)["event"] == "left"
        assert (process.returncode, b"Traceback" in said) == (0, False), said
        assert opened == 2


class TestVisits:
    @staticmethod
    def face(track: int, id: str | None = None, firm: bool = True) -> dict[str, Any]:
        return {"track": track, "id": id, "name": id, "metadata": None, "distance": 5.0, "trust": 99.0, "firm": firm}

    @staticmethod
    def short(found: list[dict[str, Any]]) -> list[tuple[str, int, str | None]]:
        return [(one["event"], one["track"], one["id"]) for one in found]

    def test_a_person_is_there_once(self) -> None:
        visits = Visits(1.0)
        assert self.short(visits.see([self.face(1, "a"), self.face(2, "a")], 0)) == [("appeared", 1, "a")]
        assert visits.see([self.face(3, "a")], 0.9) == []
        assert visits.see([], 1.9) == []
        assert self.short(visits.see([], 2.0)) == [("left", 1, "a")]
        assert visits.end(3) == []

    def test_nobody_appears_before_it_is_sure(self) -> None:
        visits = Visits(1.0)
        assert visits.see([self.face(1, "a", firm=False), self.face(2, firm=False)], 0) == []
        assert self.short(visits.see([self.face(1, "a"), self.face(2)], 0.2)) == [
            ("appeared", 1, "a"),
            ("appeared", 2, None),
        ]

    def test_strangers_are_told_apart(self) -> None:
        visits = Visits(1.0)
        visits.see([self.face(1), self.face(2)], 0)
        assert self.short(visits.see([self.face(2)], 1.5)) == [("left", 1, None), ("left", 2, None)][:2] + [
            ("appeared", 2, None)
        ]

    def test_the_end(self) -> None:
        visits = Visits(1.0)
        visits.see([self.face(1, "a")], 2.0)
        visits.see([self.face(1, "a")], 2.5)
        (left,) = visits.end(3.0)
        assert (left["event"], left["seconds"], left["since"], left["until"]) == ("left", 3.0, 2.0, 2.5)


class TestWebhook:
    async def test_the_signature(self) -> None:
        # echo -n '1.{}' | openssl dgst -sha256 -hmac key
        assert signature("key", "1", b"{}").startswith("sha256=")
        assert len(signature("key", "1", b"{}")) == 7 + 64
        assert len({signature(s, t, b) for s in ("a", "b") for t in ("1", "2") for b in (b"x", b"y")}) == 8

    @pytest.mark.parametrize("status", [400, 302, 410])
    async def test_what_is_refused_is_dropped(self, receiver: tuple[Receiver, str], status: int) -> None:
        (taker, url), said = receiver, list[str]()
        taker.statuses = [status]
        hook = Webhook(url, SECRET, said.append)
        hook.put({"n": 1})
        hook.put({"n": 2})
        await hook.close()
        assert [body["n"] for _, body in taker.calls] == [1, 2]
        assert said == [f"The webhook did not take an event, which is lost: status {status}."]

    async def test_a_receiver_that_is_away(self, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
        monkeypatch.setattr(webhook, "_FIRST_PAUSE", 0.01)
        said = list[str]()
        hook = Webhook(f"http://127.0.0.1:{unused_tcp_port}", SECRET, said.append)
        hook.put({"n": 1})
        await hook.close()
        assert said == ["The webhook did not take an event, which is lost: ClientConnectorError."]

    async def test_the_queue_is_bounded(self, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhook, "_LAST_SECONDS", 0.3)
        (taker, url), said = receiver, list[str]()
        taker.delay = 5
        hook = Webhook(url, SECRET, said.append)
        for number in range(webhook.MOST_WAITING + 7):
            hook.put({"n": number})
        await hook.close()
        assert said.count("The webhook does not keep up: an event was lost.") == 7
        assert "did not take" in said[-1]

    async def test_without_events(self) -> None:
        await Webhook("http://127.0.0.1:9", SECRET, print).close()
