"""The pages under a path of another site, behind a real HAProxy, where a second installation has another path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy import web_assets
from deploy.servers import haproxy
from deploy.servers.haproxy import HAProxy
from deploy.servers.waiting import wait_until
from deploy.services import ROOT, Services
from shared.service_process import ServiceProcess, free_port
from shared.settings import FrontSettings
from tests.e2e.browser import Browser
from tests.e2e.offline_page import OfflinePage
from tests.e2e.people import enrol

pytestmark = pytest.mark.e2e

Open = Callable[..., Browser]

DOCS = ROOT / "docs" / "deployment.md"


@pytest.fixture(scope="module")
def doors(services: Services, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a second front, with people of its own."""
    folder = tmp_path_factory.mktemp("doors")
    bind = f"127.0.0.1:{free_port()}"
    settings = {"DATABASE": str(folder / "gallery.db"), "EXTRACTION_URL": services.extraction.url, "FRONT_BIND": bind}
    service = ServiceProcess("face_detection", bind, environment | settings, folder / "front.log")
    service.start()
    try:
        service.wait_until_ready(60)
        yield service.url
    finally:
        service.stop()


@pytest.fixture(scope="module")
def site(services: Services, doors: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the site with /faces/ and /doors/, as the documentation configures it."""
    if haproxy.program() is None:
        pytest.skip(haproxy.MISSING)
    (documented,) = re.findall(r"```haproxy\n(frontend home\n.*?)```", DOCS.read_text(), re.DOTALL)
    frontend, backend = documented.split("\nbackend ")
    bind = "bind :443 ssl crt /etc/haproxy/home.pem"
    assert bind in frontend and "127.0.0.1:6337" in backend
    rules = frontend.split(bind)[1]
    text = "\n".join(
        (
            haproxy.CONFIGURATION.read_text().split("\nfrontend fronts")[0],
            'frontend home\n    bind "${FRONTS_BIND}"',
            rules,
            rules.replace("faces", "doors"),
            f"backend {backend}".replace("127.0.0.1:6337", '"${FRONT_1}"'),
            f"backend {backend}".replace("faces", "doors").replace("127.0.0.1:6337", '"${FRONT_2}"'),
        )
    )
    folder = tmp_path_factory.mktemp("haproxy")
    (folder / "haproxy.cfg").write_text(text)
    addresses = [urlsplit(url).netloc for url in (services.front.url, doors)]
    with HAProxy(addresses, ["127.0.0.1:1"] * 3, folder / "haproxy.log", folder / "haproxy.cfg") as running:
        yield running.fronts_url


@pytest.fixture
def faces(site: str, url: str, photos: Path) -> str:
    """Address of the first installation, which knows Obama."""
    enrol(url, "44", "Barack Obama", photos / "obama2.jpg")
    return f"{site}/faces"


@pytest.mark.parametrize("path", ["/faces", "/faces/"])
def test_the_console_is_styled_and_recognises(
    faces: str, path: str, site: str, open_browser: Open, photos: Path
) -> None:
    browser = open_browser()
    browser.open(f"{site}{path}")
    assert browser.script("return location.pathname") == "/faces/"
    assert browser.script("return getComputedStyle(document.querySelector('header.bar')).position") == "sticky"
    assert browser.script("return document.querySelector('.brand img').naturalWidth") > 0
    browser.choose("#photos", photos / "obama.jpg")
    browser.one("#shots", "Barack Obama")
    browser.click(".curl summary")
    assert f"'{faces}/face-recognition?" in browser.text(".curl code")
    browser.turn_to("People")
    browser.one("#people", "Barack Obama")
    browser.turn_to("Status")
    browser.one("#page-status", "facenet")
    addresses = {urlsplit(address).path for _, address in browser.requests()} - {"/faces"}
    assert all(path.startswith("/faces/") for path in addresses if path.startswith("/")), addresses


def test_a_live_session_connects(faces: str, open_browser: Open, camera: Path) -> None:
    browser = open_browser(camera=camera)
    browser.open(f"{faces}/#live")
    browser.click("#live-start")
    browser.until(lambda: browser.text("#live-state") == "open")
    browser.one("#attendance", "Barack Obama")
    browser.one("#live-unknown button", "Enrol")


def test_the_description_is_shown(faces: str, open_browser: Open) -> None:
    browser = open_browser()
    browser.open(f"{faces}/")
    browser.click(".tabs a", "API")
    browser.one("summary", "/face-recognition")
    browser.click(".tabs a", "Status")
    browser.settle()
    assert browser.script("return location.href") == f"{faces}/#status"


def test_a_key_is_for_one_installation(faces: str, site: str, open_browser: Open) -> None:
    browser = open_browser()
    browser.open(f"{faces}/")
    browser.click("#enter-key")
    browser.fill("#key-text", "fr_of_faces")
    browser.click("#key-dialog button", "Use")
    browser.one("#forget-key")
    browser.open(f"{site}/doors/")
    assert not browser.one("#enter-key", "Enter key").get_attribute("hidden")
    assert browser.all("#forget-key:not([hidden])") == []


def test_two_offline_pages_keep_apart(
    faces: str, site: str, doors: str, open_browser: Open, photos: Path, services: Services
) -> None:
    problem = web_assets.ensure(ROOT / FrontSettings().web_assets)
    if problem:
        pytest.skip(problem)
    enrol(doors, "46", "Joe Biden", photos / "biden.jpg")
    browser = open_browser()
    page = OfflinePage(browser, faces)
    page.connect()
    page.until_faces(1)
    assert all(path.startswith("/faces/") for path in page.kept()["files"])
    other = OfflinePage(browser, f"{site}/doors")
    other.until_state("no copy")
    other.connect()
    assert other.names(photos / "biden.jpg").startswith("Joe Biden ")
    assert other.names(photos / "obama.jpg").startswith("unknown ")

    services.front.stop()
    try:
        assert requests.get(f"{faces}/livez", timeout=30).status_code == 503
        page = OfflinePage(browser, faces)
        page.until_ready()
        assert page.names(photos / "obama.jpg").startswith("Barack Obama ")
    finally:
        services.front.start()
        services.front.wait_until_ready(60)
    wait_until(lambda: requests.get(f"{faces}/livez", timeout=30).status_code == 200)

    page.browser.click("#forget")
    page.until_state("no copy")
    page.browser.until(lambda: all(path.startswith("/doors/") for path in page.kept()["files"]))
    other = OfflinePage(browser, f"{site}/doors")
    other.until_ready()
    assert other.names(photos / "biden.jpg").startswith("Joe Biden ")
    assert any(path.startswith("/doors/offline/models/") for path in other.kept()["files"])
    assert len(other.call("return navigator.serviceWorker.getRegistrations()")) == 1


def test_a_prefix_that_the_proxy_leaves(
    start_services: Callable[..., Services], open_browser: Open, camera: Path, photos: Path
) -> None:
    """With BASE_PATH the front itself is asked below the path, as by a proxy that changes nothing."""
    services = start_services(BASE_PATH="/faces")
    url = f"{services.front.url}/faces"
    enrol(url, "44", "Barack Obama", photos / "obama2.jpg")
    browser = open_browser(camera=camera)
    browser.open(f"{url}#live")
    assert browser.script("return location.pathname") == "/faces/"
    browser.click("#live-start")
    browser.one("#attendance", "Barack Obama")
    page = OfflinePage(browser, url)
    page.connect()
    services.stop()
    page = OfflinePage(browser, url)
    page.until_ready()
    page.until_state("offline")
    assert page.names(photos / "obama.jpg").startswith("Barack Obama ")
