"""Pages of other sites in a real browser, which reaches the service by a name without TLS."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy.servers import haproxy
from deploy.servers.haproxy import HAProxy
from deploy.services import Services
from tests.e2e.browser import Browser

pytestmark = pytest.mark.e2e

NAMES = ("faces.test", "evil.test", "app.test")

IMAGE = """
return new Promise((done) => {
  const image = new Image();
  image.referrerPolicy = arguments[1];
  image.onload = image.onerror = () => done(true);
  image.src = arguments[0];
});
"""
POST = """
return fetch(arguments[0], {method: "POST", mode: "no-cors", body: arguments[1]}).then(() => true, () => false);
"""
SANDBOX = """
return new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-forms allow-scripts";
  frame.srcdoc = `<form method=post enctype=text/plain action="${arguments[0]}"><input name=a></form>` +
    "<script>document.forms[0].submit()</script>";
  let timer;
  frame.onload = () => {
    clearTimeout(timer);
    timer = setTimeout(() => done(true), 1000);
  };
  document.body.append(frame);
});
"""
READ = "return fetch(arguments[0]).then((answer) => answer.text(), () => null);"
SOCKET = """
return new Promise((done) => {
  const socket = new WebSocket(arguments[0]);
  socket.onopen = () => done(true);
  socket.onerror = () => done(false);
});
"""
APP = """
const [url, key, image] = arguments;
const headers = {"X-API-Key": key, "Content-Type": "application/json", "Idempotency-Key": "one"};
const body = JSON.stringify([{id: "b", name: "B", image}]);
return fetch(`${url}/update-samples`, {method: "POST", headers, body})
  .then(async (answer) => [answer.status, await answer.json(), answer.headers.get("X-Request-ID")]);
"""


class _Page(BaseHTTPRequestHandler):
    """An empty page, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """The port of a web server of others."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def browser_at(folder: Path, page: str) -> Iterator[Browser]:
    """A browser that shows a page, whose names all lead to this machine."""
    browser = Browser(folder, names=NAMES)
    try:
        browser.driver.get(page)
        yield browser
    finally:
        browser.driver.quit()


@pytest.fixture
def front(start_services: Callable[..., Services], photos: Path, pages: int) -> tuple[str, int, str]:
    """Address of a front with somebody in it, as an administrator sees it, its port, and the photo in base64."""
    services = start_services(
        ALLOWED_HOSTS="faces.test", CORS_ORIGINS=f"http://app.test:{pages}", COMPUTE_THREADS="1", CPU_THREADS="1"
    )
    image = base64.b64encode((photos / "obama.jpg").read_bytes()).decode()
    url = services.front.url
    sample = [{"id": "a", "name": "A", "image": image}]
    requests.post(f"{url}/update-samples", json=sample, timeout=60).raise_for_status()
    return url, urlsplit(url).port or 0, image


def ids(url: str, key: str | None = None) -> list[str]:
    answer = requests.get(f"{url}/people", headers={"X-API-Key": key}, timeout=10)
    return [person["id"] for person in answer.json()["people"]]


def test_a_page_of_another_site_changes_and_reads_nothing(
    front: tuple[str, int, str], pages: int, tmp_path: Path
) -> None:
    url, port, image = front
    named = f"http://faces.test:{port}"
    with browser_at(tmp_path, f"http://evil.test:{pages}/") as browser:
        for policy in ("", "no-referrer", "unsafe-url"):
            for address in (f"{named}/clear-samples", f"http://127.0.0.1:{port}/clear-samples"):
                assert browser.script(IMAGE, address, policy)
        body = f'[{{"id": "evil", "name": "Evil", "image": "{image}"}}]'
        assert browser.script(POST, f"{named}/update-samples", body)
        assert browser.script(POST, f"{named}/api/clear", "{}")
        assert browser.script(SANDBOX, f"{named}/clear-samples")
        assert browser.script(READ, f"{named}/people") is None
        assert browser.script(SOCKET, f"ws://faces.test:{port}/live") is False
        # The attacker's name leads to the service now, whose pages and answers would then be the attacker's.
        browser.driver.get(f"http://evil.test:{port}/people")
        assert "host_not_allowed" in browser.text("body")
        assert "host_not_allowed" in browser.script(READ, "/people")
    assert ids(url) == ["a"]


def test_a_web_app_that_is_named_works_and_so_does_the_console(
    front: tuple[str, int, str], pages: int, tmp_path: Path
) -> None:
    url, port, image = front
    key = {"name": "operator", "rights": ["admin"]}
    text = requests.post(f"{url}/companies/default/keys", json=key, timeout=10).json()["key"]
    with browser_at(tmp_path, f"http://app.test:{pages}/") as browser:
        status, answer, request_id = browser.script(APP, f"http://faces.test:{port}", text, image)
        assert (status, answer["success"], bool(request_id)) == (200, ["b"], True)
        assert browser.script(SOCKET, f"ws://faces.test:{port}/live") is True
    with browser_at(tmp_path, f"http://faces.test:{port}/") as browser:
        assert browser.script(SOCKET, f"ws://faces.test:{port}/live") is True
        assert browser.script(APP, "", text, image)[0] == 200
    assert ids(url, text) == ["a", "b"]


def test_behind_a_proxy_that_leaves_the_path(
    start_services: Callable[..., Services], photos: Path, tmp_path: Path, camera: Path
) -> None:
    if haproxy.program() is None:
        pytest.skip(haproxy.MISSING)
    settings = {"ALLOWED_HOSTS": "faces.test", "TRUSTED_PROXIES": "127.0.0.1", "BASE_PATH": "/home/faces"}
    front = start_services(**settings).front
    own = [urlsplit(front.url).netloc] * 2
    with HAProxy(own, ["127.0.0.1:1"] * 3, tmp_path / "haproxy.log") as proxy:
        site = f"http://faces.test:{urlsplit(proxy.fronts_url).port}"
        browser = Browser(tmp_path, camera=camera, names=NAMES)
        try:
            browser.open(f"{site}/home/faces")
            assert browser.script("return location.pathname") == "/home/faces/"
            assert browser.script("return document.querySelector('.brand img').naturalWidth") > 0
            image = base64.b64encode((photos / "obama.jpg").read_bytes()).decode()
            body = f'{{"images": ["{image}"]}}'
            assert browser.script(POST, "people/44/photos", body)
            browser.turn_to("People")
            browser.one("#people", "44")
            assert browser.script(SOCKET, f"{site.replace('http', 'ws')}/home/faces/live") is True
            described = json.loads(browser.script(READ, "openapi.json"))
            assert described["servers"] == [{"url": "/home/faces"}]
            assert browser.faults() == []
        finally:
            browser.driver.quit()
    assert ids(front.url) == ["44"]
