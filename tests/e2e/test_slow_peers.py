"""Who stops in the middle of a request or does not read the answer, before the services as gunicorn runs them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy.servers.waiting import wait_until
from deploy.services import Services
from shared.service_process import ServiceProcess, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def worker(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """An extraction worker with one thread, which waits for its client no longer than a second."""
    bind = f"127.0.0.1:{free_port()}"
    own = {"EXTRACTION_BIND": bind, "EXTRACTION_THREADS": "1", "EMBED_TIMEOUT": "3", "COMPUTE_THREADS": "1"}
    service = ServiceProcess("feature_extraction", bind, environment | own, tmp_path_factory.mktemp("worker") / "log")
    service.start()
    service.wait_until_ready(120)
    yield service
    service.stop()


@contextmanager
def stalled(url: str, sent: bytes, peer: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from an address of this machine over which this is sent and nothing is read."""
    with socket.socket() as connection:
        connection.bind((peer, 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", urlsplit(url).port))
        connection.sendall(sent)
        yield connection


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n" + bytes(500),
        b"GET /model/file HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["request", "answer"],
)
def test_a_front_that_vanishes_holds_no_thread_of_a_worker(worker: ServiceProcess, sent: bytes) -> None:
    with stalled(worker.url, sent):
        time.sleep(0.3)
        started = time.monotonic()
        assert requests.get(f"{worker.url}/livez", timeout=20).status_code == 200
        assert time.monotonic() - started > 0.3, "the only thread was not taken"


def test_slow_clients_give_their_places_back(start_services: Callable[..., Services], photos: Path) -> None:
    front = start_services(BODY_TIMEOUT="2", MAX_PENDING_REQUESTS="8").front
    photo = (photos / "obama.jpg").read_bytes()
    head = (
        b"POST /recognize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )

    def recognise() -> int:
        url = f"{front.url}/face-recognition"
        return requests.post(url, photo, headers={"Content-Type": "image/jpeg"}, timeout=30).status_code

    def answered(number: int) -> bytes:
        with stalled(front.url, head, f"127.0.0.{number + 2}") as connection, connection.makefile("rb") as answer:
            return answer.readline().split()[1]

    assert recognise() == 200
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(answered, number) for number in range(8)]
        wait_until(lambda: "\nfront_pending_requests 8.0\n" in requests.get(f"{front.url}/metrics", timeout=10).text)
        assert recognise() == 429
        assert [one.result() for one in slow] == [b"408"] * 8
    assert recognise() == 200
