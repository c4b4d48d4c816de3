"""deploy/haproxy.cfg in a real HAProxy, before small real servers."""

from __future__ import annotations

import math
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy.servers import haproxy
from deploy.servers.haproxy import CONFIGURATION, HAProxy, addresses, check
from deploy.servers.waiting import wait_until
from shared.settings import ExtractionSettings, FrontSettings
from tests.conftest import ROOT
from tests.deploy.http_backends import Backend

pytestmark = pytest.mark.processes

IN_KUBERNETES = ROOT / "deploy" / "kubernetes" / "base" / "haproxy.cfg"

needs_haproxy = pytest.mark.skipif(haproxy.program() is None, reason=haproxy.MISSING)


@pytest.fixture
def fronts() -> Iterator[list[Backend]]:
    backends = [Backend("front1"), Backend("front2")]
    yield backends
    for backend in backends:
        backend.stop()


@pytest.fixture
def workers() -> Iterator[list[Backend]]:
    backends = [Backend(f"worker{number}") for number in (1, 2, 3)]
    yield backends
    for backend in backends:
        backend.stop()


@pytest.fixture
def balancer(fronts: list[Backend], workers: list[Backend], tmp_path: Path) -> Iterator[HAProxy]:
    if haproxy.program() is None:
        pytest.skip(haproxy.MISSING)
    front_addresses, worker_addresses = ([backend.address for backend in backends] for backends in (fronts, workers))
    with HAProxy(front_addresses, worker_addresses, tmp_path / "haproxy.log") as running:
        yield running


def answers(url: str, requests_made: int = 12) -> Counter[tuple[int, str]]:
    """Status and server of requests that follow each other."""
    made = [requests.get(f"{url}/people", timeout=30) for _ in range(requests_made)]
    return Counter((response.status_code, response.text.split(" ")[0]) for response in made)


def assert_spread(answered: Counter[tuple[int, str]], *servers: str) -> None:
    assert set(answered) == {(200, server) for server in servers}
    assert max(answered.values()) <= 2 * min(answered.values())


def wait_for_state(balancer: HAProxy, server: str, state: str) -> None:
    wait_until(lambda: re.findall(rf"Server {server} is (UP|DOWN)", balancer.text())[-1:] == [state], balancer.text)


@needs_haproxy
def test_the_configurations_are_valid_and_give_no_warning() -> None:
    local = ["127.0.0.1:1"] * 3
    results = [check(CONFIGURATION, addresses(local[:2], local)), check(IN_KUBERNETES, {"NAMESPACE": "faces"})]
    for result in results:
        assert (result.returncode, "WARNING" in result.stderr) == (0, False), result.stderr


@needs_haproxy
def test_a_server_without_an_address_and_an_unknown_word_are_refused(tmp_path: Path) -> None:
    variables = addresses(["127.0.0.1:1"] * 2, ["127.0.0.1:1"] * 3)
    broken = tmp_path / "haproxy.cfg"
    broken.write_text(CONFIGURATION.read_text().replace("balance leastconn", "balance whoever"))
    assert check(broken, variables).returncode == 1
    del variables["FRONT_2"]
    assert check(CONFIGURATION, variables).returncode == 1


def test_both_configurations_treat_workers_alike() -> None:
    ours, theirs = (file.read_text().splitlines() for file in (CONFIGURATION, IN_KUBERNETES))
    said = {line.strip() for line in theirs[theirs.index("defaults") :] if not line.strip().startswith("#")}
    (template,) = [line for line in said if line.startswith("server-template ")]
    assert said - {template, "bind :5000", "monitor-uri /balancer"} <= {line.strip() for line in ours}
    (checked,) = [line.split("check ")[1].split(" init-addr")[0] for line in ours if "default-server check" in line]
    assert f" check {checked} " in template


def test_the_timeouts_are_longer_than_those_of_the_services() -> None:
    text = CONFIGURATION.read_text()
    of_fronts, of_workers = (int(seconds) for seconds in re.findall(r"timeout server (\d+)s", text))
    front, extraction = FrontSettings(), ExtractionSettings()
    assert of_fronts > max(front.batch_timeout, front.request_timeout)
    assert of_workers > max(front.extraction_timeout, extraction.embed_timeout)
    (client,) = re.findall(r"timeout client (\d+)s", text)
    assert int(client) > front.body_timeout
    (stop,) = re.findall(r"hard-stop-after (\d+)s", text)
    assert int(stop) == math.ceil(extraction.embed_timeout)


def test_traffic_is_spread(balancer: HAProxy) -> None:
    assert_spread(answers(balancer.fronts_url), "front1", "front2")
    assert_spread(answers(balancer.extraction_url), "worker1", "worker2", "worker3")


def test_who_is_busy_gets_nothing_more(balancer: HAProxy, fronts: list[Backend]) -> None:
    for front in fronts:
        front.hold.clear()
    slow = threading.Thread(target=requests.get, args=(f"{balancer.fronts_url}/slow",), kwargs={"timeout": 60})
    slow.start()
    wait_until(lambda: any(path == "/slow" for front in fronts for _, path, _ in front.seen), balancer.text)
    (free,) = [front.name for front in fronts if not any(path == "/slow" for _, path, _ in front.seen)]
    assert answers(balancer.fronts_url) == {(200, free): 12}
    for front in fronts:
        front.hold.set()
    slow.join()


@pytest.mark.slow
def test_one_that_is_away_costs_no_request_and_comes_back(balancer: HAProxy, fronts: list[Backend]) -> None:
    fronts[0].stop()
    # Before it was noticed, too: no connection was made, so another one is asked.
    assert answers(balancer.fronts_url) == {(200, "front2"): 12}
    wait_for_state(balancer, "fronts/front1", "DOWN")
    assert answers(balancer.fronts_url) == {(200, "front2"): 12}
    fronts[0].start()
    wait_for_state(balancer, "fronts/front1", "UP")
    assert_spread(answers(balancer.fronts_url), "front1", "front2")


@pytest.mark.slow
def test_one_that_is_not_ready_is_spared(balancer: HAProxy, workers: list[Backend]) -> None:
    workers[1].ready = False
    wait_for_state(balancer, "extraction/worker2", "DOWN")
    assert_spread(answers(balancer.extraction_url), "worker1", "worker3")


@pytest.mark.slow
def test_with_none_the_answer_is_503_in_the_services_form(balancer: HAProxy, fronts: list[Backend]) -> None:
    for front in fronts:
        front.ready = False
    for name in ("front1", "front2"):
        wait_for_state(balancer, f"fronts/{name}", "DOWN")
    response = requests.get(f"{balancer.fronts_url}/people", headers={"X-Request-ID": 'a"b'}, timeout=30)
    assert response.status_code == 503
    assert response.json() == {"error": {"code": "not_ready", "message": "No server is ready."}, "request_id": 'a"b'}
    assert not any(path == "/people" for front in fronts for _, path, _ in front.seen)


def test_what_a_server_may_have_done_is_not_done_again(balancer: HAProxy, fronts: list[Backend]) -> None:
    response = requests.post(f"{balancer.fronts_url}/hang-up", data=b"a picture", timeout=30)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "internal")
    assert [path for front in fronts for _, path, _ in front.seen if path == "/hang-up"] == ["/hang-up"]


def test_the_request_id_is_passed_on_or_made(balancer: HAProxy, fronts: list[Backend]) -> None:
    requests.get(f"{balancer.fronts_url}/mine", headers={"X-Request-ID": "door-7"}, timeout=30)
    requests.get(f"{balancer.fronts_url}/none", timeout=30)
    ids = {path: id for front in fronts for _, path, id in front.seen}
    assert ids["/mine"] == "door-7"
    assert re.fullmatch(r"[0-9a-f-]{36}", ids["/none"])
    wait_until(lambda: "{door-7}" in balancer.text() and f"{{{ids['/none']}}}" in balancer.text(), balancer.text)


def test_how_large_a_body_is_does_not_matter_here(balancer: HAProxy) -> None:
    size = 30 << 20
    response = requests.post(f"{balancer.fronts_url}/update-samples", data=b"x" * size, timeout=60)
    assert (response.status_code, response.text.split(" ")[1]) == (200, str(size))


def test_a_head_that_does_not_end_is_refused_and_reaches_no_front(fronts: list[Backend], tmp_path: Path) -> None:
    if haproxy.program() is None:
        pytest.skip(haproxy.MISSING)
    hasty = tmp_path / "haproxy.cfg"
    text = CONFIGURATION.read_text()
    assert text.count("timeout http-request 30s\n") == 1
    hasty.write_text(text.replace("timeout http-request 30s\n", "timeout http-request 1s\n"))
    own = [front.address for front in fronts]
    with HAProxy(own, ["127.0.0.1:1"] * 3, tmp_path / "haproxy.log", hasty) as running:
        address = ("127.0.0.1", urlsplit(running.fronts_url).port)
        with socket.create_connection(address, timeout=30) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"POST /recognize HTTP/1.1\r\nHost: x\r\nX-Req")
            assert answer.read().startswith(b"HTTP/1.1 408 ")
    assert not any(path == "/recognize" for front in fronts for _, path, _ in front.seen)


def test_a_live_session_goes_through(balancer: HAProxy) -> None:
    port = urlsplit(balancer.fronts_url).port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rwb") as stream:
        stream.write(
            b"GET /live HTTP/1.1\r\nHost: faces.example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        stream.flush()
        assert stream.readline().startswith(b"HTTP/1.1 101 ")
        while stream.readline() != b"\r\n":
            pass
        for frame in (b"first\n", b"second\n"):
            stream.write(frame)
            stream.flush()
            assert stream.readline() == frame.upper()
