"""Both services as real processes on free ports, with the real default model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from deploy import sample_photos
from deploy.services import Services
from shared.service_process import ServiceProcess, free_port
from tests.conftest import CACHE
from tests.e2e.browser import Browser
from tests.e2e.films import sway_photos
from tests.e2e.remembering import RememberingExtraction


@pytest.fixture(scope="session")
def full_photos() -> Path:
    """The photos as they were taken."""
    return sample_photos.ensure(CACHE / "photos")


@pytest.fixture(scope="session")
def photos(full_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with fewer pixels, but enough for every face: most tests are about what happens around a photo."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in full_photos.glob("*.jpg"):
        with Image.open(photo) as picture:
            side = 900 if photo.name == "t1.jpg" else 400
            picture.thumbnail((side, side))
            picture.save(folder / photo.name, quality=95)
    return folder


@pytest.fixture(scope="session")
def environment(detector_home: Path) -> dict[str, str]:
    """The environment of the services: this process's, without settings that it may have."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "DEEPFACE_HOME": str(detector_home),
    }


class FrontOfItsOwn(Services):
    """A front before an extraction service that runs already, and which other fronts use as well.

    Args:
        environment: settings of the front.
        extraction: the extraction service.
        folder: for the database, unless the settings name one, and for the log.
    """

    def __init__(self, environment: Mapping[str, str], extraction: ServiceProcess, folder: Path) -> None:
        own = {"FRONT_BIND": f"127.0.0.1:{free_port()}", "EXTRACTION_URL": extraction.url}
        super().__init__({"DATABASE": str(folder / "gallery.db"), **environment, **own}, folder)
        self.extraction = extraction

    def start(self, seconds: float = 60) -> None:
        self.front.start()
        self.front.wait_until_ready(seconds)

    def stop(self) -> None:
        self.front.stop()


@pytest.fixture(scope="session")
def extraction(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The extraction service of all fronts whose tests leave it alone; it computes each crop once."""
    bind, log = f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("extraction") / "extraction.log"
    service = RememberingExtraction(bind, environment, log)
    service.start()
    try:
        service.wait_until_ready(300)
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def services(
    environment: dict[str, str], extraction: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    """Services whose front the tests of a module share."""
    with FrontOfItsOwn(environment, extraction, tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture
def url(services: Services) -> str:
    """Address of the shared front, with an empty gallery."""
    requests.delete(f"{services.front.url}/clear-samples", timeout=10).raise_for_status()
    return services.front.url


@pytest.fixture
def start_services(
    environment: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Services]]:
    """Starts a front of the test's own; keyword arguments are settings.

    With ``own_extraction`` it gets an extraction service for itself: to stop, or with those settings.
    """
    started: list[Services] = []

    def start(own_extraction: bool = False, **settings: str) -> Services:
        if own_extraction:
            services = Services.on_free_ports(environment | settings, tmp_path)
        else:
            services = FrontOfItsOwn(environment | settings, request.getfixturevalue("extraction"), tmp_path)
        started.append(services)
        services.start()
        return services

    yield start
    for services in started:
        services.stop()


@pytest.fixture(scope="session")
def children() -> Callable[[int], list[int]]:
    """The processes that a process has started."""

    def of(pid: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    return of


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Opens browsers; keyword arguments are those of ``Browser``. No page may have had faults or left its host."""
    opened: list[Browser] = []

    def open_one(**arguments: Any) -> Browser:
        browser = Browser(tmp_path, **arguments)
        opened.append(browser)
        return browser

    yield open_one
    outcomes = [(browser.faults(), browser.strangers()) for browser in opened]
    for browser in opened:
        browser.driver.quit()
    assert outcomes == [([], set())] * len(opened)


@pytest.fixture(scope="session")
def camera(full_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film for a browser's camera: Obama at the left and Biden at the right sway a little."""
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    sway_photos([full_photos / "obama.jpg", full_photos / "biden.jpg"], film)
    return film
