"""Both services as real processes on free ports, with the real default model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.services import Services
from tests.e2e.browser import Browser
from tests.e2e.films import sway_photos


@pytest.fixture(scope="session")
def environment(detector_home: Path) -> dict[str, str]:
    """The environment of the services: this process's, without settings that it may have."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "DEEPFACE_HOME": str(detector_home),
    }


@pytest.fixture(scope="module")
def services(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services shared by the tests of a module."""
    with Services.on_free_ports(environment, tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture
def url(services: Services) -> str:
    """Address of the shared front, with an empty gallery."""
    requests.delete(f"{services.front.url}/clear-samples", timeout=10).raise_for_status()
    return services.front.url


@pytest.fixture
def start_services(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Services]]:
    """Starts services of the test's own; keyword arguments are settings."""
    started: list[Services] = []

    def start(**settings: str) -> Services:
        services = Services.on_free_ports(environment | settings, tmp_path)
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
def camera(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film for a browser's camera: Obama at the left and Biden at the right sway a little."""
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    sway_photos([photos / "obama.jpg", photos / "biden.jpg"], film)
    return film
