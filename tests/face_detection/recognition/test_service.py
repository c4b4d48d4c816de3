"""The core behind the doors: an answer tells what was stored, whatever ends a request."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.gallery.directory import Right
from face_detection.gallery.sqlite.connections import Connections
from shared.settings import FrontSettings
from tests.conftest import Front
from tests.enrolling_doors import DOORS, Request, place_device

Send = Callable[[TestClient, Request], Awaitable[bool]]


@contextmanager
def other_writer(settings: FrontSettings) -> Iterator[None]:
    """Another process that writes to the database, for as long as the context is open."""
    with closing(sqlite3.connect(settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def send(front: TestClient, request: Request) -> bool:
    """Whether the answer says that the photo was stored."""
    response = await front.post(request.path, json=request.json, data=request.data, headers=request.headers)
    body = await response.text()
    return response.status == 200 and '"FAILURE"' not in body and '"error"' not in body


async def counted(front: TestClient) -> tuple[int, int, int]:
    """Samples, events of enrolment, and what the metric says of them."""
    people = (await (await front.get("/people")).json())["people"]
    events = (await (await front.get("/events?kind=enrolled")).json())["events"]
    lines = (await (await front.get("/metrics")).text()).splitlines()
    (metric,) = [float(line.split()[-1]) for line in lines if line.startswith("front_enrolled_total")]
    return sum(person["photos"] for person in people), len(events), int(metric)


async def settled(front: TestClient) -> tuple[int, int, int]:
    """The same, once event and metric have followed the sample, or have had the time to."""
    for _ in range(100):
        samples, events, metric = await counted(front)
        if samples and samples == events == metric:
            break
        await asyncio.sleep(0.05)
    return samples, events, metric


async def test_a_recognition_reads_the_database_three_times(
    front: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks; the company's settings and how far the database is; whom the samples found are of."""
    picture = (photos / "obama.jpg").read_bytes()
    assert await send(front, DOORS["original"](picture))
    _, key = front.app[ACCESS].create_key("default", "door", [Right.RECOGNISE])
    headers = {"X-API-Key": key, "Content-Type": "image/jpeg"}
    threads: list[str] = []
    reading = Connections.reading

    def counting(self: Connections) -> AbstractContextManager[sqlite3.Connection]:
        threads.append(threading.current_thread().name)
        return reading(self)

    monkeypatch.setattr(Connections, "reading", counting)
    counts = []
    for _ in range(5):
        threads.clear()
        answer = await front.post("/face-recognition", data=picture, headers=headers)
        assert len(await answer.json()) == 1
        counts.append(sum(name != "journal" for name in threads))
    assert min(counts) == 3  # what starts with the front may still be at work


@pytest.mark.parametrize("door", DOORS)
async def test_a_deadline_during_a_write_tells_the_truth(
    start_front: Front, front_settings: FrontSettings, photos: Path, door: str
) -> None:
    front = await start_front(batch_timeout=1.5, request_timeout=1.5)
    place_device(front.app[DIRECTORY])
    with other_writer(front_settings):
        sending = asyncio.create_task(send(front, DOORS[door]((photos / "obama.jpg").read_bytes())))
        await asyncio.wait([sending], timeout=2)
    said = await sending
    samples, events, metric = await settled(front)
    assert (samples, events, metric) == (said, said, said)


async def test_a_deadline_of_a_new_picture_for_a_face_tells_the_truth(
    start_front: Front, front_settings: FrontSettings, photos: Path
) -> None:
    front = await start_front(request_timeout=1.5)
    assert await send(front, DOORS["data set"]((photos / "obama.jpg").read_bytes()))
    before = await (await front.get("/face/1")).json()
    update = DOORS["data set"]((photos / "obama2.jpg").read_bytes())
    with other_writer(front_settings):
        sending = asyncio.create_task(send(front, Request("/face/update", update.json | {"face_id": 1})))
        await asyncio.wait([sending], timeout=2)
    said = await sending
    for _ in range(40):  # what a thread still does, it does by then
        after = await (await front.get("/face/1")).json()
        if after != before:
            break
        await asyncio.sleep(0.05)
    assert said == (before["face_encoding"] != after["face_encoding"])


@pytest.mark.parametrize("door", DOORS)
async def test_a_client_that_goes_away_during_a_write_leaves_nothing_half_done(
    start_front: Front, front_settings: FrontSettings, photos: Path, door: str
) -> None:
    front = await start_front()
    place_device(front.app[DIRECTORY])
    with other_writer(front_settings):
        sending = asyncio.create_task(send(front, DOORS[door]((photos / "obama.jpg").read_bytes())))
        await asyncio.wait([sending], timeout=1)
        sending.cancel()
        await asyncio.wait([sending])
    samples, events, metric = await settled(front)
    assert samples == events == metric
