"""The services with their people in PostgreSQL."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from deploy.servers.postgres import PostgresServer
from deploy.servers.waiting import wait_until
from deploy.services import Services
from face_detection.gallery import open_gallery
from shared.errors import StartupError

pytestmark = pytest.mark.e2e

StartServices = Callable[..., Services]


def image(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


def enrol(url: str, id: str, photo: Path) -> requests.Response:
    return requests.post(f"{url}/update-samples", json=[{"id": id, "name": id, "image": image(photo)}], timeout=60)


def who(url: str, photo: Path) -> requests.Response:
    return requests.post(f"{url}/face-recognition", json={"image": image(photo)}, timeout=60)


def names(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [face["name"] for face in response.json()]


def readiness(url: str) -> int:
    return requests.get(f"{url}/readyz", timeout=60).status_code


@pytest.fixture
def running(postgres: PostgresServer, postgres_url: str) -> Iterator[PostgresServer]:
    """The server, which runs again afterwards whatever happened to it."""
    yield postgres
    postgres.start()


def test_people_are_enrolled_and_recognised_while_the_database_comes_and_goes(
    start_services: StartServices, running: PostgresServer, postgres_url: str, photos: Path, tmp_path: Path
) -> None:
    services = start_services(DATABASE=postgres_url, FRONT_WORKERS="2")
    url = services.front.url
    assert enrol(url, "obama", photos / "obama.jpg").json()["success"] == ["obama"]
    for _ in range(4):  # of both processes
        assert names(who(url, photos / "obama2.jpg")) == ["obama"]

    for take_down in (running.stop, running.kill):
        take_down()
        # The last outcome is everybody's for a second, in each of the two processes.
        wait_until(lambda: [readiness(url) for _ in range(8)] == [503] * 8, seconds=20)
        for ask in (
            lambda: who(url, photos / "obama2.jpg"),
            lambda: requests.get(f"{url}/people", timeout=60),
            lambda: requests.delete(f"{url}/people/obama", timeout=60),
            lambda: enrol(url, "biden", photos / "biden.jpg"),
            lambda: requests.get(f"{url}/readyz", timeout=60),
        ):
            started = time.monotonic()
            answer = ask()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), answer.text
            assert "storage_unavailable" in answer.text and "The database cannot be reached." in answer.text
            assert time.monotonic() - started < 20
        assert requests.get(f"{url}/livez", timeout=60).status_code == 200
        running.start()
        wait_until(lambda: readiness(url) == 200, seconds=10)
        for _ in range(4):
            assert names(who(url, photos / "obama3.jpg")) == ["obama"]

    assert enrol(url, "biden", photos / "biden.jpg").json()["success"] == ["biden"]
    for _ in range(4):
        assert names(who(url, photos / "biden.jpg")) == ["biden"]
    services.stop()

    gallery = open_gallery(postgres_url)
    assert [person.id for person in gallery.store.page("default", 9).people] == ["biden", "obama"]
    kinds = [event.kind.value for event in gallery.events.page("default", 100)]
    gallery.close()
    assert kinds.count("enrolled") == 2 and kinds.count("recognised") >= 16
    password = postgres_url.split(":")[2].split("@")[0]
    logs = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert logs and password not in logs


def test_a_service_that_cannot_reach_its_database_does_not_start(
    start_services: StartServices, running: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    running.stop()
    with pytest.raises(StartupError):
        start_services(DATABASE=postgres_url)
    log = (tmp_path / "front.log").read_text()
    assert "DATABASE=postgresql://gallery@127.0.0.1" in log and "cannot be opened" in log
    assert postgres_url.split(":")[2].split("@")[0] not in log
    assert "Traceback" not in log
