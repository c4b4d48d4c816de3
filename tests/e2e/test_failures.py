"""What happens when parts die or cannot start."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.servers.waiting import wait_until
from deploy.services import ROOT, Services
from face_detection.gallery import open_gallery
from shared.service_process import ServiceProcess, free_port
from tests.contracts.databases import DATABASES, copied
from tests.face_detection.gallery.test_gallery import locked

pytestmark = pytest.mark.e2e

StartServices = Callable[..., Services]


@pytest.fixture(scope="module")
def image(photos: Path) -> str:
    return base64.b64encode((photos / "obama.jpg").read_bytes()).decode()


def sample(id: str, image: str) -> dict[str, Any]:
    return {"id": id, "name": f"Name {id}", "image": image}


def ids(url: str) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = requests.get(f"{url}/people", {"limit": 1000, "after": after}, timeout=10).json()
        found += [entry["id"] for entry in page["people"]]
        after = page["next"]
    return found


def test_the_extraction_service_dies_and_comes_back(start_services: StartServices, image: str) -> None:
    services = start_services(own_extraction=True)
    url = services.front.url
    batch = [sample("a", image)]
    assert requests.post(f"{url}/update-samples", json=batch, timeout=60).json()["success"] == ["a"]

    os.killpg(services.extraction.pid, signal.SIGKILL)
    services.extraction.stop()
    for path, body in (("update-samples", [sample("b", image)]), ("face-recognition", {"image": image})):
        response = requests.post(f"{url}/{path}", json=body, timeout=60)
        assert (response.status_code, response.json()["code"]) == (503, "extraction_unavailable")
        assert int(response.headers["Retry-After"]) > 0
    wait_until(lambda: requests.get(f"{url}/readyz", timeout=10).status_code == 503)
    assert ids(url) == ["a"]

    services.extraction.start()
    services.extraction.wait_until_ready(60)
    (face,) = requests.post(f"{url}/face-recognition", json={"image": image}, timeout=60).json()
    assert face["id"] == "a"


def test_another_model_behind_the_same_address(start_services: StartServices, image: str) -> None:
    """Samples of one embedding space are invisible in another, and there again afterwards."""
    services = start_services(own_extraction=True)
    url = services.front.url
    requests.post(f"{url}/update-samples", json=[sample("a", image)], timeout=60)

    def serve(model: str) -> None:
        services.extraction.stop()
        services.extraction._environment["MODEL"] = model
        services.extraction.start()
        services.extraction.wait_until_ready(120)

    def recognise() -> requests.Response:
        for _ in range(2):  # the first answer after a change may be a 503 that says so
            response = requests.post(f"{url}/face-recognition", json={"image": image}, timeout=60)
            if response.status_code != 503:
                break
            assert int(response.headers["Retry-After"]) > 0
        return response

    serve("sface")
    assert (recognise().status_code, recognise().json()) == (200, [])
    requests.post(f"{url}/update-samples", json=[sample("b", image)], timeout=60)
    assert [face["id"] for face in recognise().json()] == ["b"]
    assert ids(url) == ["a", "b"]
    serve("facenet")
    assert [face["id"] for face in recognise().json()] == ["a"]


def test_a_worker_that_is_replaced_while_the_database_is_away(
    start_services: StartServices, children: Callable[[int], list[int]], tmp_path: Path
) -> None:
    database, aside = tmp_path / "gallery.db", tmp_path / "aside.db"
    services = start_services(DATABASE=str(database))
    database.rename(aside)
    database.mkdir()
    (worker,) = children(services.front.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: (tmp_path / "front.log").read_text().count("cannot start") > 1, seconds=60)
    assert services.front.exit_status is None
    database.rmdir()
    aside.rename(database)
    services.front.wait_until_ready(60)


def test_an_older_copy_takes_the_place_of_the_database(
    start_services: StartServices, photos: Path, tmp_path: Path
) -> None:
    """Whoever is enrolled then has the key, and the number of the change, that somebody else had before."""
    services = start_services(FRONT_WORKERS="2", DATABASE=str(tmp_path / "gallery.db"))
    url = services.front.url
    obama, biden, other = (
        base64.b64encode((photos / name).read_bytes()).decode() for name in ("obama.jpg", "biden.jpg", "obama2.jpg")
    )

    def recognised(picture: str) -> set[tuple[str, ...]]:
        """What all workers say."""
        answers = [requests.post(f"{url}/face-recognition", json={"image": picture}, timeout=60) for _ in range(8)]
        return {tuple(face["id"] for face in answer.json()) for answer in answers}

    put_back = copied(str(tmp_path / "gallery.db"))
    requests.post(f"{url}/update-samples", json=[sample("obama", obama)], timeout=60).raise_for_status()
    assert (recognised(other), recognised(biden)) == ({("obama",)}, {()})
    put_back()
    requests.post(f"{url}/update-samples", json=[sample("biden", biden)], timeout=60).raise_for_status()
    assert (recognised(other), recognised(biden), ids(url)) == ({()}, {("biden",)}, ["biden"])


@pytest.mark.slow
def test_a_killed_front_leaves_whole_batches(start_services: StartServices, image: str, tmp_path: Path) -> None:
    services = start_services(FRONT_WORKERS="2")
    acknowledged: list[str] = []
    size = 20

    def enrol(until: threading.Event, prefix: str) -> None:
        number = 0
        while not until.is_set():
            number += 1
            batch = [sample(f"{prefix}{number:03}-{i:02}", image) for i in range(size)]
            try:
                response = requests.post(f"{services.front.url}/update-samples", json=batch, timeout=60)
            except requests.ConnectionError:
                continue
            if response.status_code == 200:
                acknowledged.append(f"{prefix}{number:03}")

    def more_than(count: int) -> Callable[[], bool]:
        return lambda: len(acknowledged) > count

    for attempt in range(3):
        stop, answered = threading.Event(), more_than(len(acknowledged))
        clients = [threading.Thread(target=enrol, args=(stop, f"{attempt}{name}")) for name in "ab"]
        for thread in clients:
            thread.start()
        wait_until(answered)
        time.sleep(0.1 + 0.4 * attempt)
        os.killpg(services.front.pid, signal.SIGKILL)
        stop.set()
        for thread in clients:
            thread.join()
        services.front.stop()
        services.front.start()
        services.front.wait_until_ready(60)
        stored = ids(services.front.url)
        batches = {id.split("-")[0] for id in stored}
        assert all(sum(id.startswith(f"{batch}-") for id in stored) == size for batch in batches)
        assert set(acknowledged) <= batches
    services.stop()
    with closing(sqlite3.connect(tmp_path / "gallery.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_several_workers_see_one_anothers_writes_at_once(
    start_services: StartServices, image: str, photos: Path, children
) -> None:
    services = start_services(FRONT_WORKERS="3")
    url = services.front.url
    assert len(children(services.front.pid)) == 3
    probe = base64.b64encode((photos / "obama2.jpg").read_bytes()).decode()

    def post(path: str, body: Any) -> Any:
        # A new connection each time: the kernel gives it to any of the workers.
        return requests.post(f"{url}/{path}", json=body, timeout=60, headers={"Connection": "close"}).json()

    for round in range(8):
        post("update-samples", [sample(f"id{round}", image)])
        assert [face["id"] for face in post("face-recognition", {"image": probe})] == [f"id{round}"]
        requests.delete(f"{url}/people/id{round}", timeout=10, headers={"Connection": "close"}).raise_for_status()
        assert post("face-recognition", {"image": probe}) == []
    values = dict(
        re.findall(
            r'^front_requests_total{route="([^"]+)",status="200"} (\S+)$',
            requests.get(f"{url}/metrics", timeout=10).text,
            re.M,
        )
    )
    assert float(values["/face-recognition"]) == 16


def run(environment: dict[str, str], module: str = "deploy.run") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def own_ports(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {
        "EXTRACTION_BIND": f"127.0.0.1:{free_port()}",
        "FRONT_BIND": f"127.0.0.1:{free_port()}",
        "DATABASE": str(tmp_path / "gallery.db"),
    }


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_port_in_use_is_one_clear_line(own_ports: dict[str, str], occupied: int) -> None:
    result = run(own_ports | {"FRONT_BIND": f"127.0.0.1:{occupied}"})
    assert f"Cannot bind to 127.0.0.1:{occupied}: Address already in use" in last_line(result)
    assert len(result.stderr.strip().splitlines()) == 1


def test_no_network_is_one_clear_line(own_ports: dict[str, str], tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    result = run(own_ports | {"DEEPFACE_HOME": str(tmp_path), "PIP_INDEX_URL": nowhere, "PIP_CONFIG_FILE": os.devnull})
    assert any("facenet_weights" in line and str(tmp_path) in line for line in result.stderr.splitlines())
    assert "weights of facenet" in last_line(result)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("MODEL", "unheard-of", "MODEL"),
        ("MAX_BATCH", "many", "MAX_BATCH"),
        ("FRONT_BIND", "nonsense", "FRONT_BIND"),
    ],
)
def test_a_malformed_setting_is_one_clear_line(own_ports: dict[str, str], setting: str, value: str, words: str) -> None:
    result = run(own_ports | {setting: value})
    assert words in last_line(result)
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "settings", "words"),
    [
        ("face_detection", {"FRONT_BIND": "0.0.0.0:{port}"}, "ALLOW_ANONYMOUS=true"),
        ("feature_extraction", {"EXTRACTION_BIND": "0.0.0.0:{port}"}, "ALLOW_ANONYMOUS=true"),
        ("feature_extraction", {"EXECUTION_PROVIDERS": "cuda"}, "cuda"),
        ("face_detection", {"DATABASE": "/proc/nowhere/gallery.db"}, "DATABASE="),
        ("face_detection", {"DATABASE": "/proc/nowhere/gallery.db"}, "Let DATABASE name a file in a folder"),
        ("face_detection", {"DATABASE": "README.md"}, "Stop the service and restore the database from a copy"),
        ("face_detection", {"DATABASE": ":memory:", "FRONT_WORKERS": "2"}, "FRONT_WORKERS"),
        ("face_detection", {"DEEPFACE_HOME": "/nowhere"}, "fetch yunet"),
    ],
)
def test_a_service_that_cannot_start_says_why_and_ends(
    own_ports: dict[str, str], tmp_path: Path, package: str, settings: dict[str, str], words: str
) -> None:
    log = tmp_path / "service.log"
    changed = {name: value.format(port=free_port()) for name, value in settings.items()}
    service = ServiceProcess(package, "127.0.0.1:1", own_ports | changed, log)
    service.start()
    deadline = time.monotonic() + 60
    while service.exit_status is None and time.monotonic() < deadline:
        time.sleep(0.05)
    service.stop()
    assert service.exit_status not in (None, 0)
    text = log.read_text()
    assert "Traceback" not in text
    assert sum(words in line for line in text.splitlines()) == 1, text


def test_a_damaged_detector_file_is_one_clear_line(
    own_ports: dict[str, str], tmp_path: Path, detector_home: Path
) -> None:
    weights = tmp_path / ".deepface" / "weights"
    weights.mkdir(parents=True)
    for path in (detector_home / ".deepface" / "weights").iterdir():
        if path.is_file():
            (weights / path.name).symlink_to(path)
    name = "face_detection_yunet_2023mar.onnx"
    content = (weights / name).read_bytes()
    (weights / name).unlink()
    (weights / name).write_bytes(content[:1000])
    log = tmp_path / "service.log"
    service = ServiceProcess("face_detection", "127.0.0.1:1", own_ports | {"DEEPFACE_HOME": str(tmp_path)}, log)
    service.start()
    deadline = time.monotonic() + 60
    while service.exit_status is None and time.monotonic() < deadline:
        time.sleep(0.05)
    service.stop()
    (line,) = [line for line in log.read_text().splitlines() if '"CRITICAL"' in line]
    assert name in line and "damaged" in line and "fetch yunet" in line


@pytest.fixture
def running(own_ports: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """``make run`` without make."""
    command = [sys.executable, "-m", "deploy.run"]
    with subprocess.Popen(
        command, cwd=ROOT, env=own_ports, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def test_make_run_and_an_interrupt(running: subprocess.Popen[str], own_ports: dict[str, str], image: str) -> None:
    assert running.stdout is not None
    printed = ""
    while "curl" not in printed:
        line = running.stdout.readline()
        assert line, running.communicate()[1]
        printed += line
    url = f"http://{own_ports['FRONT_BIND']}"
    assert url in printed
    assert requests.post(f"{url}/face-recognition", json={"image": image}, timeout=60).json() == []
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert "Stopping" in out
    for bind in (own_ports["FRONT_BIND"], own_ports["EXTRACTION_BIND"]):
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{bind}/livez", timeout=5)


def test_what_a_dead_worker_worked_on_is_not_counted_for_ever(
    services: Services, environment: dict[str, str], tmp_path: Path
) -> None:
    """Worker processes are killed while one of them works on a request."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    bind = f"127.0.0.1:{free_port()}"
    own = {"DATABASE": str(tmp_path / "gallery.db"), "EXTRACTION_URL": services.extraction.url, "FRONT_BIND": bind}
    own |= {"FRONT_WORKERS": "2", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    front = ServiceProcess("face_detection", bind, environment | own, tmp_path / "front.log")
    front.start()
    try:
        front.wait_until_ready(60)

        def pending() -> float:
            text = requests.get(f"{front.url}/metrics", timeout=10).text
            return float(re.findall(r"^front_pending_requests ([0-9.]+)$", text, re.MULTILINE)[0])

        usual = pending()
        host, port = bind.split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /face-recognition HTTP/1.1\r\nHost: {bind}\r\nContent-Length: 99\r\n\r\n{{"
            connection.sendall(head.encode())
            wait_until(lambda: pending() == usual + 1)
            for worker in Path(f"/proc/{front.pid}/task/{front.pid}/children").read_text().split():
                os.kill(int(worker), signal.SIGKILL)
        front.wait_until_ready(60)
        wait_until(lambda: pending() == usual)
    finally:
        front.stop()


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
def test_an_orderly_end_finishes_writes_and_then_stores_their_events(
    services: Services,
    environment: dict[str, str],
    image: str,
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """All that writes is held up when the end is asked for, and goes on once nobody is let in any more."""
    bind, database = f"127.0.0.1:{free_port()}", DATABASES[kind](request)
    own = environment | {"DATABASE": database, "EXTRACTION_URL": services.extraction.url, "FRONT_BIND": bind}
    front = ServiceProcess("face_detection", bind, own, tmp_path / "front.log")
    address = (bind.split(":")[0], int(bind.split(":")[1]))

    def closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) != 0

    def enrol(number: int) -> int:
        body = [sample(f"{number}", image)]
        return requests.post(f"{front.url}/update-samples", json=body, timeout=60).status_code

    def value(name: str) -> float:
        text = requests.get(f"{front.url}/metrics", timeout=10).text
        return float(re.findall(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)[0])

    front.start()
    try:
        front.wait_until_ready(60)
        with ThreadPoolExecutor(8) as clients:
            with locked(database):
                for _ in range(20):
                    requests.post(f"{front.url}/face-recognition", json={"image": image}, timeout=60).raise_for_status()
                waiting = value("front_events_waiting")
                writing = [clients.submit(enrol, number) for number in range(8)]
                wait_until(lambda: value("front_pending_requests") >= 8)
                os.kill(front.pid, signal.SIGTERM)
                wait_until(closed)
            assert [one.result() for one in writing] == [200] * 8
        wait_until(lambda: front.exit_status is not None, seconds=35)
    finally:
        front.stop()
    assert (waiting, front.exit_status) == (20, 0), (tmp_path / "front.log").read_text()
    with closing(open_gallery(database)) as gallery:
        kinds = Counter(event.kind for event in gallery.events.page("default", 1000))
    assert kinds == {"enrolled": 8, "unknown": 20}
