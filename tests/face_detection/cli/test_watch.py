"""The command ``watch`` as a process of its own, with real videos, before a real front and real receivers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from face_detection.api.operation import ACCESS
from face_detection.app import create_app
from face_detection.cli.video import webhook
from face_detection.cli.video.presence import Visits
from face_detection.cli.video.webhook import Webhook, signature
from face_detection.gallery.directory import Right
from shared.settings import FrontSettings
from tests.conftest import ROOT
from tests.face_detection.api.own.test_events import events
from tests.face_detection.api.own.test_live import enrol
from tests.network_camera import NetworkCamera
from tests.video_frames import Actor, encoded, frame_at, write_video

pytestmark = pytest.mark.processes

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

    async def test_who_steps_out_of_view_has_not_left(
        self, front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str], tmp_path: Path
    ) -> None:
        """Four times for four seconds, a man who is known and one who is not: one visit each."""
        await enrol(front, photos, data_uri)
        away = [number for number in range(240) if number % 60 >= 20]
        actors = [Actor(photos / "obama2.jpg", 20, step=1), Actor(photos / "biden.jpg", 420)]
        frames = [frame_at([] if number in away else actors, number % 60) for number in range(240)]
        write_video(tmp_path / "film.avi", frames, 10)
        code, lines, said = await watch(front, tmp_path / "film.avi", "--every", "0.2")
        assert (code, said) == (0, "")
        assert [(line["event"], line["id"], line["visit"]) for line in lines] == [
            ("appeared", "44", 1),
            ("appeared", None, 2),
            ("left", "44", 1),
            ("left", None, 2),
        ]
        assert [line["until"] - line["since"] > 18 for line in lines[2:]] == [True, True]
        _, lines, _ = await watch(front, tmp_path / "film.avi", "--every", "0.2", "--leave-after", "3")
        assert [(line["event"], line["id"]) for line in lines].count(("appeared", "44")) == 4

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
            (["--webhook", "https://"], {"FACE_WEBHOOK_SECRET": "x"}, (2, "address like")),
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

    async def test_a_webhook_that_is_down_at_the_end(self, front: TestClient, film: Path, unused_tcp_port: int) -> None:
        options = ("--every", "0.2", "--webhook", f"http://127.0.0.1:{unused_tcp_port}")
        code, lines, said = await watch(front, film, *options, FACE_WEBHOOK_SECRET=SECRET)
        assert (code, len(lines), said.splitlines()) == (
            1,
            4,
            [
                "The webhook did not take the last 4 of the events, which are lost.",
                "Error: The webhook did not take 4 of 4 events.",
            ],
        )

    async def test_nobody_need_wait_for_a_webhook_that_hangs(
        self, front: TestClient, film: Path, receiver: tuple[Receiver, str]
    ) -> None:
        """The second signal ends the wait, and what was not taken is told all the same."""
        taker, url = receiver
        taker.delay = 3600
        process = await start(front, film, "--every", "0.2", "--webhook", url, FACE_WEBHOOK_SECRET=SECRET)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            for _ in range(4):
                await process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            _, said = await process.communicate()
        assert process.returncode == 1 and said.endswith(b"Error: The webhook did not take 4 of 4 events.\n")

    async def test_what_is_refused_is_told_by_the_status(
        self, front: TestClient, film: Path, receiver: tuple[Receiver, str]
    ) -> None:
        taker, url = receiver
        taker.statuses = [200, 404]
        options = ("--every", "0.2", "--webhook", url)
        code, lines, said = await watch(front, film, *options, FACE_WEBHOOK_SECRET=SECRET)
        assert (code, len(lines), len(taker.calls)) == (1, 4, 4)
        assert "status 404" in said and said.endswith("Error: The webhook did not take 1 of 4 events.\n")


@pytest.fixture
def network_camera(photos: Path) -> Iterator[NetworkCamera]:
    """Shows a man who moves a little."""
    frames = [encoded(frame_at([Actor(photos / "obama2.jpg", 200 + number)], 0)) for number in range(5)]
    with NetworkCamera(frames) as camera:
        yield camera


class Watching:
    """A running command, whose events are awaited."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self) -> dict[str, Any]:
        """The next event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            line = await self.process.stdout.readline()
        assert line, "the command has ended"
        event: dict[str, Any] = json.loads(line)
        return event

    async def names(self, count: int) -> list[tuple[str, str | None]]:
        """Names of the next events, and whose they are."""
        return [(event["event"], event.get("id")) for event in [await self.next() for _ in range(count)]]

    async def stop(self) -> tuple[list[str], str]:
        """Names of the last events, and what was said before it was told to stop."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            out, said = await self.process.communicate()
        assert (self.process.returncode, b"Traceback" in said) == (143, False), said
        return [json.loads(line)["event"] for line in out.splitlines()], said.decode().removesuffix("Terminated.\n")


class TestCameras:
    """A network camera that is away: time passes all the same, and that it is lost and back is told."""

    @pytest.fixture(autouse=True)
    async def obama(self, front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]) -> None:
        await enrol(front, photos, data_uri)

    async def test_one_that_breaks_off_and_refuses(
        self, front: TestClient, network_camera: NetworkCamera, receiver: tuple[Receiver, str]
    ) -> None:
        taker, url = receiver
        options = ("--fps", "10", "--leave-after", "2", "--webhook", url)
        watching = Watching(await start(front, network_camera.url, *options, FACE_WEBHOOK_SECRET=SECRET))
        assert await watching.names(1) == [("appeared", "44")]
        network_camera.mode = "refuse"
        lost, left = await watching.next(), await watching.next()
        assert [(event["event"], event.get("id")) for event in (lost, left)] == [("camera_lost", None), ("left", "44")]
        assert left["seconds"] - left["until"] >= 2 and lost["seconds"] <= left["seconds"]
        network_camera.mode = "ok"
        assert await watching.names(2) == [("camera_back", None), ("appeared", "44")]
        last, said = await watching.stop()
        assert last == ["left"] and said == "The camera gives no more frames; it is opened again.\n"
        posted = [body["event"] for _, body in taker.calls]
        assert posted == ["appeared", "camera_lost", "left", "camera_back", "appeared", "left"]
        assert taker.calls[1][1] == lost and set(lost) == {"event", "at", "seconds"}

    async def test_one_that_hangs(self, front: TestClient, network_camera: NetworkCamera) -> None:
        """Nobody hears that the connection is dead: that no frames come must do."""
        watching = Watching(await start(front, network_camera.url, "--fps", "10", "--leave-after", "2"))
        assert await watching.names(1) == [("appeared", "44")]
        network_camera.mode = "hang"
        assert sorted(await watching.names(2)) == [("camera_lost", None), ("left", "44")]
        network_camera.mode = "ok"
        assert await watching.names(2) == [("camera_back", None), ("appeared", "44")]
        assert (await watching.stop())[0] == ["left"]

    async def test_who_looks_away_for_a_moment_stays(self, front: TestClient, network_camera: NetworkCamera) -> None:
        """A camera that is back before the time to leave is over changes nothing about who is there."""
        watching = Watching(await start(front, network_camera.url, "--fps", "10", "--leave-after", "60"))
        assert await watching.names(1) == [("appeared", "44")]
        network_camera.mode = "refuse"
        assert await watching.names(1) == [("camera_lost", None)]
        network_camera.mode = "ok"
        assert await watching.names(1) == [("camera_back", None)]
        assert (await watching.stop())[0] == ["left"]

    async def test_a_camera_that_hangs_while_it_is_told_to_stop(
        self, front: TestClient, network_camera: NetworkCamera
    ) -> None:
        watching = Watching(await start(front, network_camera.url, "--leave-after", "60"))
        assert await watching.names(1) == [("appeared", "44")]
        network_camera.mode = "hang"
        assert (await watching.stop())[0] == ["left"]

    async def test_a_service_that_is_away(
        self, front_settings: FrontSettings, network_camera: NetworkCamera, unused_tcp_port: int
    ) -> None:
        """Its answers are missing like frames: whoever was there leaves."""

        async def serve() -> web.AppRunner:
            runner = web.AppRunner(create_app(front_settings))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
            return runner

        service = await serve()
        command = [sys.executable, "-m", "face_detection", "watch", network_camera.url, "--leave-after", "2"]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--url", f"http://127.0.0.1:{unused_tcp_port}"),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        watching = Watching(process)
        assert await watching.names(1) == [("appeared", "44")]
        await service.cleanup()
        assert await watching.names(1) == [("left", "44")]
        service = await serve()
        assert await watching.names(1) == [("appeared", "44")]
        last, said = await watching.stop()
        await service.cleanup()
        assert last == ["left"] and said == "The connection to the service is lost; it is tried again.\n"


async def test_another_camera(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str], tmp_path: Path, unused_tcp_port: int
) -> None:
    """One that is a process of its own, through all that it can do."""
    script = ROOT.parent / "shared" / "cases" / "mjpeg_camera.py"
    if not script.is_file():
        pytest.skip("needs the camera in ../shared/cases")
    await enrol(front, photos, data_uri)
    film, mode = tmp_path / "film.avi", tmp_path / "mode"
    write_video(film, [frame_at([Actor(photos / "obama2.jpg", 20, step=2)], number) for number in range(30)], 10)
    camera = await asyncio.create_subprocess_exec(sys.executable, script, film, mode, str(unused_tcp_port))
    try:
        async with asyncio.timeout(30):
            while not await answers(unused_tcp_port):
                await asyncio.sleep(0.1)
        url = f"http://127.0.0.1:{unused_tcp_port}/"
        watching = Watching(await start(front, url, "--fps", "10", "--leave-after", "3"))
        for fault in ("drop", "hang", "refuse"):
            assert await watching.names(1) == [("appeared", "44")]
            mode.write_text(fault)
            assert sorted(await watching.names(2)) == [("camera_lost", None), ("left", "44")]
            mode.write_text("ok")
            assert await watching.names(1) == [("camera_back", None)]
        assert await watching.names(1) == [("appeared", "44")]
        assert (await watching.stop())[0] == ["left"]
    finally:
        camera.kill()
        await camera.wait()


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class TestVisits:
    @staticmethod
    def face(track: int, id: str | None = None, visit: int | None = 1) -> dict[str, Any]:
        known = {"track": track, "id": id, "name": id, "metadata": None, "distance": 5.0, "trust": 99.0}
        return known | {"visit": visit}

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
        assert visits.see([self.face(1, "a", visit=None), self.face(2, visit=None)], 0) == []
        assert self.short(visits.see([self.face(1, "a"), self.face(2, visit=2)], 0.2)) == [
            ("appeared", 1, "a"),
            ("appeared", 2, None),
        ]

    def test_strangers_are_told_apart(self) -> None:
        visits = Visits(1.0)
        visits.see([self.face(1), self.face(2, visit=2)], 0)
        assert visits.see([self.face(3, visit=2)], 0.8) == []
        assert self.short(visits.see([self.face(3, visit=2)], 1.5)) == [("left", 1, None)]

    def test_another_session_counts_anew(self) -> None:
        visits = Visits(1.0)
        visits.see([self.face(1), self.face(2, "a", visit=2)], 0, session=1)
        found = visits.see([self.face(1), self.face(2, "a", visit=2)], 0.5, session=2)
        assert self.short(found) == [("appeared", 1, None)]

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
        assert (hook.lost, hook.events) == (1, 2)

    async def test_a_receiver_that_is_away(self, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
        monkeypatch.setattr(webhook, "_FIRST_PAUSE", 0.01)
        said = list[str]()
        hook = Webhook(f"http://127.0.0.1:{unused_tcp_port}", SECRET, said.append)
        hook.put({"n": 1})
        await hook.close()
        assert said == ["The webhook did not take an event, which is lost: ClientConnectorError."]
        assert (hook.lost, hook.events) == (1, 1)

    async def test_what_is_on_its_way_at_the_end_is_counted(
        self, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhook, "_LAST_SECONDS", 0.3)
        (taker, url), said = receiver, list[str]()
        taker.delay = 3600
        hook = Webhook(url, SECRET, said.append)
        for number in range(3):
            hook.put({"n": number})
        await hook.close()
        assert said == ["The webhook did not take the last 3 of the events, which are lost."]
        assert (hook.lost, hook.events) == (3, 3)

    async def test_the_queue_is_bounded(self, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhook, "_LAST_SECONDS", 0.3)
        (taker, url), said = receiver, list[str]()
        taker.delay = 3600
        hook = Webhook(url, SECRET, said.append)
        for number in range(webhook.MOST_WAITING + 7):
            hook.put({"n": number})
        await hook.close()
        assert said.count("The webhook does not keep up: an event was lost.") == 7
        assert "the last 1000 of the events" in said[-1]
        assert (hook.lost, hook.events) == (1007, 1007)

    async def test_without_events(self) -> None:
        await Webhook("http://127.0.0.1:9", SECRET, print).close()
