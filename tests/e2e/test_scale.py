"""Two fronts, three extraction workers, HAProxy and PostgreSQL, with each searcher, while parts of it die."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import pytest
import requests

from deploy.servers import haproxy
from deploy.servers.milvus import MilvusServer
from deploy.servers.postgres import TEMPLATE, PostgresServer
from shared.service_process import ServiceProcess
from tests.e2e.cluster import Cluster, kill, paused

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAIRS = 1000

CLOSED = 0
"""Stands for a connection that was closed without an answer: HAProxy's way of telling a client that keeps connections
that the server died with the request in hand (others get a 502)."""

RETRY = {502, 503, 504, CLOSED}
"""What a client meets while no replica can serve it, and may repeat."""


@dataclass(frozen=True)
class Parts:
    """A cluster and what it stands on."""

    cluster: Cluster
    postgres: PostgresServer
    milvus: MilvusServer | None


PEOPLE = (
    ("obama.jpg", 378, 84, 227, 334),
    ("biden.jpg", 435, 185, 271, 380),
    ("t1.jpg", 746, 348, 98, 126),
    ("t1.jpg", 1129, 278, 94, 120),
    ("t1.jpg", 461, 270, 109, 147),
    ("t1.jpg", 58, 271, 109, 127),
    ("t1.jpg", 906, 64, 98, 136),
    ("t1.jpg", 267, 151, 99, 115),
)
"""Photo and box of a face of eight people."""


@pytest.fixture(scope="session")
def photos(full_photos: Path) -> Path:
    """PEOPLE has the boxes of these."""
    return full_photos


@pytest.fixture(scope="module")
def portraits(photos: Path) -> list[str]:
    """A small picture of each of the people, in Base64."""
    return [portrait(photos / name, *box) for name, *box in PEOPLE]


def portrait(photo: Path, x: int, y: int, width: int, height: int) -> str:
    margin = width // 2
    picture = cv2.imread(str(photo))[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    scale = 128 / max(picture.shape)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode(".jpg", picture)[1].tobytes()).decode()


@pytest.fixture(scope="module", params=["memory", "pgvector", "milvus"])
def parts(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Parts]:
    if haproxy.program() is None:
        pytest.skip(haproxy.MISSING)
    name = f"gallery_{secrets.token_hex(4)}"
    settings = environment | {"DATABASE": postgres.database(name, TEMPLATE), "SEARCH": request.param}
    milvus: MilvusServer | None = None
    if request.param == "milvus":
        milvus = request.getfixturevalue("milvus")
        settings["SEARCH_URL"] = milvus.url
    # The fastest model, and one core for each: three workers of two lanes would only get in each other's way.
    settings |= {"MODEL": "dlib", "COMPUTE_THREADS": "1", "CPU_THREADS": "1"}
    with Cluster(settings, tmp_path_factory.mktemp("cluster"), balanced=request.param == "memory") as cluster:
        yield Parts(cluster, postgres, milvus)
    postgres.drop(name)


@pytest.fixture
def cluster(parts: Parts) -> Cluster:
    """The cluster, with nobody in it."""
    requests.delete(f"{parts.cluster.url}/clear-samples", timeout=30).raise_for_status()
    return parts.cluster


class Client:
    """One client, with connections of its own."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False  # or it looks for proxies and passwords, again for each request

    def enrol(self, url: str, id: str, picture: str, name: str = "") -> requests.Response:
        body = [{"id": id, "name": name or id, "image": picture}]
        return self._session.post(f"{url}/update-samples", json=body, timeout=60)

    def recognise(self, url: str, picture: str) -> requests.Response:
        # The same picture is meant, whoever else resembles it.
        return self._session.post(f"{url}/face-recognition", json={"image": picture, "min_distance": 0.1}, timeout=60)

    def delete(self, url: str, id: str) -> requests.Response:
        return self._session.delete(f"{url}/people/{id}", timeout=60)


def ids_in(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [face["id"] for face in response.json()]


def test_what_one_front_writes_the_other_sees_at_once(cluster: Cluster, portraits: list[str]) -> None:
    """Never a miss after an enrolment, never a ghost after a deletion: 1,000 pairs, to and fro between the fronts."""
    urls = [front.url for front in cluster.fronts]

    def go(person: int) -> int:
        client = Client()
        picture = portraits[person]
        for pair in range(PAIRS // len(portraits)):
            here, there = urls if pair % 2 else urls[::-1]
            id = f"{person}-{pair}"
            assert client.enrol(here, id, picture).json()["success"] == [id]
            assert ids_in(client.recognise(there, picture)) == [id]
            assert client.delete(there, id).status_code == 200
            assert ids_in(client.recognise(here, picture)) == []
        return pair + 1

    with ThreadPoolExecutor(len(portraits)) as pool:
        assert sum(pool.map(go, range(len(portraits)))) == PAIRS


@dataclass
class Load:
    """Clients that enrol, recognise and delete people through the balancer, one client for each person.

    A write that gets no answer, or one of ``RETRY``, is repeated until it is answered, as a client does. What was
    answered must hold at once, and at the end.

    Attributes:
        pause: seconds that a client waits after it has deleted somebody.
        errors: when each answer of ``RETRY`` came, and its status.
        expected: person → the id that they are enrolled with, None when they were deleted.
    """

    url: str
    portraits: list[str]
    pause: float = 0.05
    errors: list[tuple[float, int]] = field(default_factory=list)
    expected: dict[int, str | None] = field(default_factory=dict)
    rounds: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._pool = ThreadPoolExecutor(len(self.portraits))
        self._running = [self._pool.submit(self._run, person) for person in range(len(self.portraits))]
        return self

    def __exit__(self, *reasons: object) -> None:
        self._stop.set()
        with self._pool:
            for running in self._running:
                running.result()

    def _run(self, person: int) -> None:
        client, picture = Client(), self.portraits[person]
        number = 0
        while not self._stop.is_set():
            number += 1
            id = f"{person}-{number}"
            answer, _ = self._repeat(client.enrol, id, picture)
            assert answer.json()["success"] == [id], answer.text
            self.expected[person] = id
            assert ids_in(self._repeat(client.recognise, picture)[0]) == [id]
            if self._stop.is_set():
                return
            answer, repeated = self._repeat(client.delete, id)
            assert answer.status_code == 200 or (repeated and answer.status_code == 404), answer.text
            self.expected[person] = None
            assert ids_in(self._repeat(client.recognise, picture)[0]) == []
            self.rounds += 1
            self._stop.wait(self.pause)

    def _repeat(self, ask: Callable[..., requests.Response], *arguments: str) -> tuple[requests.Response, bool]:
        """The first answer that is one, and whether the question was repeated."""
        deadline = time.monotonic() + 90
        repeated = False
        while True:
            try:
                answer = ask(self.url, *arguments)
            except requests.ConnectionError:
                status = CLOSED
            else:
                status = 503 if answer.status_code == 200 and '_unavailable"' in answer.text else answer.status_code
                if status not in RETRY:
                    return answer, repeated
            assert time.monotonic() < deadline, status
            repeated = True
            self.errors.append((time.monotonic(), status))
            time.sleep(0.2)


def verify(cluster: Cluster, load: Load) -> None:
    """What is there equals a replay of what was answered, at both fronts."""
    enrolled = sorted(id for id in load.expected.values() if id is not None)
    for front in cluster.fronts:
        page = requests.get(f"{front.url}/people", {"limit": 1000}, timeout=30).json()
        assert [entry["id"] for entry in page["people"]] == enrolled
        for person, picture in enumerate(load.portraits):
            expected = load.expected[person]
            assert ids_in(Client().recognise(front.url, picture)) == ([expected] if expected else [])


Victim = tuple[Callable[[], object], Callable[[], object]]
"""What kills a part of a cluster, and what brings it back."""


def mixed_load(cluster: Cluster, portraits: list[str], victims: list[Victim], away: float, seconds: float) -> Load:
    """Load before, during and after kills; everything that must hold whatever it is.

    Args:
        away: seconds for which each victim is away, its start not counted.
        seconds: how long all has to come back after the last.
    """
    with Load(cluster.url, portraits) as load:
        in_full_swing = load.pause
        for kill, start in victims:
            load.pause = in_full_swing
            time.sleep(2)
            kill()
            load.pause = 2.0  # what was killed must start again beside them
            time.sleep(away)
            start()
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            time.sleep(0.1)
        load.pause = in_full_swing
        rounds = load.rounds
        time.sleep(3)
        assert load.rounds > rounds
    assert not [at for at, _ in load.errors if at > over], "errors although everything had come back"
    verify(cluster, load)
    return load


def service(victim: ServiceProcess) -> Victim:
    def start() -> None:
        victim.start()
        victim.wait_until_ready(60)

    return lambda: kill(victim), start


def test_a_worker_is_killed_and_comes_back(cluster: Cluster, portraits: list[str]) -> None:
    load = mixed_load(cluster, portraits, [service(worker) for worker in cluster.workers[:2]], 2, 5)
    # The others can serve: only what the dead ones had in hand may fail, and only where a balancer hides them.
    assert len(load.errors) <= 2 * len(portraits)


def test_a_front_is_killed_and_comes_back(cluster: Cluster, portraits: list[str]) -> None:
    load = mixed_load(cluster, portraits, [service(cluster.fronts[0])], 5, 5)  # the balancer looks every two seconds
    assert len(load.errors) <= len(portraits)  # what was in hand


def test_postgresql_is_killed_and_comes_back(parts: Parts, cluster: Cluster, portraits: list[str]) -> None:
    load = mixed_load(cluster, portraits, [(parts.postgres.kill, parts.postgres.start)], 2, 15)
    assert CLOSED not in {status for _, status in load.errors}


def test_milvus_is_killed_and_comes_back(parts: Parts, cluster: Cluster, portraits: list[str]) -> None:
    if parts.milvus is None:
        pytest.skip("the other searchers live in the fronts or in PostgreSQL")
    load = mixed_load(cluster, portraits, [(parts.milvus.kill, parts.milvus.start)], 2, 15)
    assert CLOSED not in {status for _, status in load.errors}


def test_two_fronts_that_write_the_same_ids_agree(cluster: Cluster, portraits: list[str]) -> None:
    """Whoever comes last, it is one order for all: name, picture and answers of both fronts belong together."""
    ids = [f"id-{number}" for number in range(6)]

    def write(front: int) -> None:
        client = Client()
        for number in range(10):
            for position, id in enumerate(ids):
                person = (front + number + position) % 2 * 4 + front
                answer = client.enrol(cluster.fronts[front].url, id, portraits[person], f"person {person}")
                assert answer.json()["success"] == [id], answer.text

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    names = []
    for front in cluster.fronts:
        page = requests.get(f"{front.url}/people", timeout=30).json()
        names.append({entry["id"]: entry["name"] for entry in page["people"]})
    assert names[0] == names[1] and sorted(names[0]) == ids
    for person, picture in enumerate(portraits):
        for front in cluster.fronts:
            found = ids_in(Client().recognise(front.url, picture))
            owners = [id for id in ids if names[0][id] == f"person {person}"]
            assert found == owners[:1]


def test_a_front_that_was_halted_is_not_behind(cluster: Cluster, portraits: list[str]) -> None:
    """Requests that wait in a halted front, and those that come right after, are answered with what is true by then."""
    here, halted = (front.url for front in cluster.fronts)
    client = Client()
    for person in (0, 1):
        assert client.enrol(here, f"old-{person}", portraits[person]).json()["success"]
        assert ids_in(client.recognise(halted, portraits[person])) == [f"old-{person}"]
    time.sleep(2)  # its events are written by then: halted in a transaction it would hold up all who write
    with ThreadPoolExecutor() as pool, paused(cluster.fronts[1]):
        waiting = [pool.submit(Client().recognise, halted, portraits[person]) for person in (0, 1, 2)]
        time.sleep(1)
        deleted = client.delete(here, "old-0")
        assert deleted.status_code == 200, deleted.text
        assert client.enrol(here, "old-1", portraits[3]).json()["success"]
        assert client.enrol(here, "new-2", portraits[2]).json()["success"]
        time.sleep(14)  # by now the balancer has taken it out
        assert ids_in(client.recognise(cluster.url, portraits[2])) == ["new-2"]
        time.sleep(15)
        assert not [one for one in waiting if one.done()]
    expected = [[], [], ["new-2"], ["old-1"]]
    for person, ids in enumerate(expected):
        assert ids_in(client.recognise(halted, portraits[person])) == ids
    assert [ids_in(one.result()) for one in waiting] == expected[:3]
