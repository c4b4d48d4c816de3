"""Several extraction workers as real processes: one ends, dies, or comes back with another model."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from deploy.servers.waiting import wait_until
from face_detection.extraction.client import ExtractionClient
from face_detection.extraction.workers import State
from feature_extraction.embedder import Embedder
from shared import wire
from shared.service_process import ServiceProcess, free_port

pytestmark = pytest.mark.e2e

CLIENTS = 8

StartWorker = Callable[..., ServiceProcess]


@pytest.fixture
def start_worker(environment: dict[str, str], tmp_path: Path) -> Iterator[StartWorker]:
    """Starts extraction workers; keyword arguments are settings."""
    started: list[ServiceProcess] = []

    def start(**settings: str) -> ServiceProcess:
        bind = settings.pop("EXTRACTION_BIND", None) or f"127.0.0.1:{free_port()}"
        log = tmp_path / f"extraction-{len(started)}.log"
        settings = {"COMPUTE_THREADS": "1", **settings}
        started.append(
            ServiceProcess("feature_extraction", bind, environment | settings | {"EXTRACTION_BIND": bind}, log)
        )
        started[-1].start()
        started[-1].wait_until_ready(120)
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def start_front(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Starts fronts before workers; keyword arguments are settings."""
    started: list[ServiceProcess] = []

    def start(*workers: ServiceProcess, **settings: str) -> ServiceProcess:
        bind = f"127.0.0.1:{free_port()}"
        own = {
            "DATABASE": str(tmp_path / "gallery.db"),
            "EXTRACTION_URL": ", ".join(worker.url for worker in workers),
            "FRONT_BIND": bind,
        }
        started.append(ServiceProcess("face_detection", bind, environment | own | settings, tmp_path / "front.log"))
        started[-1].start()
        started[-1].wait_until_ready(60)
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture(scope="module")
def crops(full_photos: Path) -> np.ndarray:
    """Parts of a photo; what they show does not matter here."""
    picture = cv2.imread(str(full_photos / "obama.jpg"))
    return np.stack([cv2.resize(picture[80 : 420 + i, 370:610], (160, 160)) for i in range(4)])


@pytest.fixture(scope="module")
def expected(crops: np.ndarray, facenet: Embedder) -> np.ndarray:
    return facenet.embed(crops)


def wait_until_gone(service: ServiceProcess, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while service.exit_status is None:
        assert time.monotonic() < deadline, "the service does not end"
        time.sleep(0.05)


def metric(url: str, name: str) -> float:
    """A value of /metrics; ``name`` with its labels."""
    return float(re.findall(rf"^{re.escape(name)} (\S+)$", requests.get(f"{url}/metrics", timeout=10).text, re.M)[0])


class Poster(threading.Thread):
    """Posts crops to one worker, again and again on one connection, until nobody accepts it any more."""

    def __init__(self, url: str, body: bytes) -> None:
        super().__init__()
        self._url, self._body = f"{url}/embeddings", body
        self.answers: list[requests.Response] = []
        self.end: Exception | None = None

    def run(self) -> None:
        with requests.Session() as session:
            while self.end is None:
                try:
                    self.answers.append(session.post(self._url, self._body, timeout=60))
                except requests.RequestException as error:
                    self.end = error


def test_a_worker_that_is_told_to_end_answers_what_it_has_accepted(
    start_worker: StartWorker, crops: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    worker = start_worker()
    posters = [Poster(worker.url, wire.encode_array(crops)) for _ in range(CLIENTS)]
    for poster in posters:
        poster.start()
    wait_until(lambda: all(len(poster.answers) > 1 for poster in posters))
    os.kill(worker.pid, signal.SIGTERM)
    for poster in posters:
        poster.join(60)
    wait_until_gone(worker)
    assert worker.exit_status == 0
    for poster in posters:
        assert {answer.status_code for answer in poster.answers} == {200}
        last = wire.decode_array(poster.answers[-1].content, dtype=np.float32, shape=expected.shape)
        assert np.allclose(last, expected, atol=1e-3)
        assert "Connection refused" in str(poster.end)
    assert "Traceback" not in (tmp_path / "extraction-0.log").read_text()


def test_a_load_balancer_is_told_before_the_socket_closes(start_worker: StartWorker, crops: np.ndarray) -> None:
    worker = start_worker(DRAIN_SECONDS="4")
    assert metric(worker.url, "extraction_ready") == 1
    os.kill(worker.pid, signal.SIGTERM)
    told = time.monotonic()
    statuses: list[int] = []
    with suppress(requests.ConnectionError):  # whichever of the questions comes after the end
        while True:
            answer = requests.get(f"{worker.url}/readyz", timeout=10)
            statuses.append(answer.status_code)
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "not_ready" and int(answer.headers["Retry-After"]) > 0
                assert metric(worker.url, "extraction_ready") == 0
                posted = requests.post(f"{worker.url}/embeddings", wire.encode_array(crops), timeout=10)
                assert posted.status_code == 200
            time.sleep(0.1)
    assert time.monotonic() - told >= 3.9
    assert statuses.count(503) >= 2 and statuses[statuses.index(503) :].count(200) == 0
    wait_until_gone(worker)


def test_silent_connections_do_not_hold_a_worker_up(start_worker: StartWorker) -> None:
    worker = start_worker()
    host, port = worker.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as silent:
        time.sleep(6)  # gunicorn waits 5 seconds for the first bytes before it puts the connection aside
        told = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        assert silent.recv(1) == b""
        wait_until_gone(worker)
        assert time.monotonic() - told < 10


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_clients_of_two_workers_see_nothing_of_the_end_of_one(
    start_worker: StartWorker, crops: np.ndarray, expected: np.ndarray, how: signal.Signals
) -> None:
    first, second = start_worker(), start_worker()
    seen: list[dict[str, int]] = []
    client = ExtractionClient([first.url, second.url], 30, lambda states: seen.append(dict(states)))
    stop = asyncio.Event()
    answered, pause = 0, 0.0

    async def post() -> None:
        nonlocal answered
        while not stop.is_set():
            found = await client.embed(crops, await client.model())
            assert np.allclose(found, expected, atol=1e-3)
            answered += 1
            await asyncio.sleep(pause)

    clients = [asyncio.create_task(post()) for _ in range(CLIENTS)]
    await asyncio.to_thread(wait_until, lambda: answered > 0)
    await asyncio.sleep(0.5)
    under_way = client._workers.all[0].calls
    (os.kill if how == signal.SIGTERM else os.killpg)(first.pid, how)
    await asyncio.to_thread(wait_until_gone, first)
    pause = 3.0  # the other must start beside them
    before = answered
    await asyncio.to_thread(wait_until, lambda: answered > before + CLIENTS)
    assert under_way > 0
    assert [client._workers.state(worker) for worker in client._workers.all] == [State.RESTING, State.USABLE]

    back = await asyncio.to_thread(start_worker, EXTRACTION_BIND=first.url.removeprefix("http://"))
    async with asyncio.timeout(40):
        while client._workers.state(client._workers.all[0]) is not State.USABLE:
            await asyncio.sleep(0.1)
    await asyncio.to_thread(wait_until, lambda: metric(back.url, "extraction_crops_total") > 0)
    stop.set()
    await asyncio.gather(*clients)
    await client.close()
    assert {"usable": 2, "resting": 0, "refused": 0} in seen and seen[-1]["usable"] == 2


def test_the_load_that_workers_report(start_worker: StartWorker, crops: np.ndarray) -> None:
    worker = start_worker(MAX_QUEUED_CROPS="64", MAX_BATCH="4", MAX_REQUEST_CROPS="64")
    names = ("extraction_max_queued_crops", "extraction_lanes")
    assert [metric(worker.url, name) for name in names] == [64, 1]
    body = wire.encode_array(np.concatenate([crops] * 6))
    running, queued = [], []
    with ThreadPoolExecutor(3) as pool:
        posts = [pool.submit(requests.post, f"{worker.url}/embeddings", body, timeout=60) for _ in range(2)]
        while not all(post.done() for post in posts):
            running.append(metric(worker.url, "extraction_running_crops"))
            queued.append(metric(worker.url, "extraction_queued_crops"))
    assert {post.result().status_code for post in posts} == {200}
    assert 0 < max(running) <= 4 and 0 < max(queued) <= 48
    assert [metric(worker.url, f"extraction_{kind}_crops") for kind in ("running", "queued")] == [0, 0]


@pytest.mark.slow
def test_a_rolling_change_of_the_model_ends_by_itself(
    start_worker: StartWorker, start_front: Callable[..., ServiceProcess], photos: Path
) -> None:
    workers = [start_worker(), start_worker()]
    front = start_front(*workers).url
    image = base64.b64encode((photos / "obama.jpg").read_bytes()).decode()
    sample = {"id": "a", "name": "A", "image": image}
    assert requests.post(f"{front}/update-samples", json=[sample], timeout=60).json()["success"] == ["a"]

    def recognise() -> Any:
        answer = requests.post(f"{front}/face-recognition", json={"image": image}, timeout=60)
        assert answer.status_code == 200, answer.text
        return [face["id"] for face in answer.json()]

    def replace(number: int, **settings: str) -> None:
        workers[number].stop()
        bind = workers[number].url.removeprefix("http://")
        workers[number] = start_worker(EXTRACTION_BIND=bind, **settings)

    def workers_in(state: str) -> float:
        return metric(front, f'front_extraction_workers{{state="{state}"}}')

    def recognise_until(state: str, count: int) -> None:
        deadline = time.monotonic() + 45
        while workers_in(state) != count:
            assert time.monotonic() < deadline, requests.get(f"{front}/metrics", timeout=10).text
            assert recognise() == ["a"]
            time.sleep(0.2)

    recognise_until("usable", 2)
    replace(0, MODEL="sface")
    recognise_until("refused", 1)
    replace(0)  # rolled back
    recognise_until("usable", 2)

    replace(0, MODEL="sface")
    recognise_until("refused", 1)
    assert requests.get(f"{front}/readyz", timeout=10).json()["model"] == "facenet"
    workers[1].stop()
    deadline = time.monotonic() + 30
    while requests.get(f"{front}/readyz", timeout=10).json().get("model") != "sface":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert recognise() == []  # the sample is of the former model
    replace(1, MODEL="sface")
    deadline = time.monotonic() + 45
    while workers_in("usable") != 2:
        assert recognise() == [] and time.monotonic() < deadline
        time.sleep(0.2)


def test_a_front_that_is_told_to_end_answers_what_it_has_accepted(
    start_worker: StartWorker, start_front: Callable[..., ServiceProcess], photos: Path
) -> None:
    front = start_front(start_worker())
    image = (photos / "t1.jpg").read_bytes()
    headers = {"Content-Type": "image/jpeg"}

    def recognise() -> requests.Response:
        url = f"{front.url}/face-recognition?include_unknown=true"
        return requests.post(url, image, headers=headers, timeout=60)

    faces = len(recognise().json())
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(recognise) for _ in range(CLIENTS)]
        while metric(front.url, "front_pending_requests") < CLIENTS:
            assert not any(answer.done() for answer in answers)
            time.sleep(0.01)
        os.kill(front.pid, signal.SIGTERM)
        results = [answer.result() for answer in answers]
    assert [result.status_code for result in results] == [200] * CLIENTS
    assert {len(result.json()) for result in results} == {faces} and faces > 1
    wait_until_gone(front)
    assert front.exit_status == 0
