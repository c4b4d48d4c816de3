"""Live sessions with both services as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from deploy.services import ROOT, Services
from tests.network_camera import NetworkCamera
from tests.video_frames import Actor, encoded, frame_at, write_video

pytestmark = pytest.mark.e2e

MEBIBYTE = 1 << 20


@pytest.fixture(scope="session")
def photos(full_photos: Path) -> Path:
    """Actors are cut out of these."""
    return full_photos


@pytest.fixture
def film(photos: Path, tmp_path: Path) -> Path:
    """Two seconds at 10 a second: one man, and beside him another."""
    actors = [Actor(photos / "obama2.jpg", 20, step=2), Actor(photos / "biden.jpg", 420)]
    path = tmp_path / "film.avi"
    write_video(path, [frame_at(actors, number) for number in range(20)], 10)
    return path


def enrol(url: str, photos: Path) -> None:
    with (photos / "obama.jpg").open("rb") as photo:
        form = {"id": (None, "44"), "name": (None, "Barack"), "image": photo}
        assert requests.post(f"{url}/update-samples", files=form, timeout=30).json()["success"] == ["44"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_watching_a_film(url: str, photos: Path, film: Path) -> None:
    enrol(url, photos)
    result = run("-m", "face_detection", "watch", film, "--url", url)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, "")
    assert [(line["event"], line["name"]) for line in lines] == [
        ("appeared", "Barack"),
        ("appeared", None),
        ("left", "Barack"),
        ("left", None),
    ]


@pytest.mark.parametrize(
    ("options", "coming", "leaving"),
    [(["watch", "--leave-after", "2"], "appeared", "left"), (["live", "--json", "--patience", "5"], "comes", "leaves")],
    ids=["watch", "live"],
)
def test_a_service_that_hangs(
    start_services: Callable[..., Services],
    photos: Path,
    children: Callable[[int], list[int]],
    options: list[str],
    coming: str,
    leaving: str,
) -> None:
    """Its answers are missing: whoever was there leaves, and comes again when it goes on."""
    front = start_services().front
    enrol(front.url, photos)
    processes = [front.pid, *children(front.pid)]
    frame = encoded(frame_at([Actor(photos / "obama2.jpg", 200)], 0))
    with NetworkCamera([frame]) as camera:
        command = [sys.executable, "-m", "face_detection", options[0], camera.url, "--url", front.url, *options[1:]]
        environment = {"PATH": os.environ["PATH"]}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            events = (json.loads(line)["event"] for line in process.stdout)
            try:
                assert next(events) == coming
                for pid in processes:
                    os.kill(pid, signal.SIGSTOP)
                assert next(events) == leaving
                for pid in processes:
                    os.kill(pid, signal.SIGCONT)
                assert next(events) == coming
            finally:
                for pid in processes:
                    os.kill(pid, signal.SIGCONT)
                process.send_signal(signal.SIGINT)
            assert list(events) == [leaving]


def test_the_example_client(url: str, photos: Path, film: Path) -> None:
    enrol(url, photos)
    example = ROOT / "docs" / "examples" / "live.py"
    result = run(example, film, "--url", url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].endswith("1: Barack, 2: unknown")


def test_a_flood_of_frames_takes_bounded_memory(
    services: Services, url: str, photos: Path, children: Callable[[int], list[int]]
) -> None:
    """Four clients send large frames faster than the service works: nothing piles up, and every frame is counted."""
    (worker,) = children(services.front.pid)
    frames = [encoded(frame_at([Actor(photos / "biden.jpg", 200 + 4 * n)], 0), 100) for n in range(10)]
    # A comment of a megabyte in each: as large as frames get, and as quick to decode as these.
    padded = [frame[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 16 + frame[2:] for frame in frames]

    def memory(field: str) -> float:
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024

    async def flood(client: aiohttp.ClientSession, count: int) -> tuple[int, int]:
        processed = skipped = 0
        async with client.ws_connect(f"{url}/live", max_msg_size=0) as socket:

            async def send() -> None:
                for number in range(count):
                    await socket.send_bytes(struct.pack(">I", number) + padded[number % 10])

            sending = asyncio.create_task(send())
            while processed + skipped < count:
                reply: Any = await socket.receive_json(timeout=60)
                assert "error" not in reply
                processed, skipped = processed + 1, skipped + reply["skipped"]
            await sending
        return processed, skipped

    async def floods(count: int) -> list[tuple[int, int]]:
        async with aiohttp.ClientSession() as client:
            return await asyncio.gather(*(flood(client, count) for _ in range(4)))

    asyncio.run(floods(20))
    before = memory("VmRSS")
    results = asyncio.run(floods(250))
    assert all(processed + skipped == 250 and processed > 2 for processed, skipped in results), results
    assert sum(skipped for _, skipped in results) > 500
    # A gigabyte has passed; at any time each of the four sessions holds at most three frames of a megabyte.
    assert memory("VmHWM") - before < 100, (memory("VmHWM"), before)


def test_the_service_says_goodbye(start_services: Callable[..., Services], photos: Path) -> None:
    services = start_services()

    async def talk() -> int | None:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{services.front.url}/live") as socket:
            await socket.send_bytes(encoded(frame_at([Actor(photos / "biden.jpg", 200)], 0)))
            assert (await socket.receive_json(timeout=30))["frame"] == 0
            stopping = asyncio.create_task(asyncio.to_thread(services.front.stop))
            assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
            async with asyncio.timeout(10):
                await stopping
            return socket.close_code

    assert asyncio.run(talk()) == 1001
