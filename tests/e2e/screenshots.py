"""Screenshots of the console's pages in build/screenshots, and docs/console.png: python -m tests.e2e.screenshots."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests
from PIL import Image

from deploy import sample_photos
from deploy.services import ROOT, Services
from tests.e2e.browser import Browser
from tests.e2e.films import sway_photos
from tests.e2e.people import enrol

FOLDER = ROOT / "build" / "screenshots"
README_PICTURE = ROOT / "docs" / "console.png"
_README_WIDTH = 1000
_COLOURS = 256


def main() -> None:
    """Start both services with throw-away data and take every picture."""
    photos = sample_photos.ensure(ROOT / ".cache" / "photos")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    environment["DEEPFACE_HOME"] = str(ROOT / ".cache" / "deepface")
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mjpeg"
        sway_photos([photos / "obama.jpg", photos / "biden.jpg"], film)
        (Path(folder) / "staff" / "Joe").mkdir(parents=True)
        shutil.copy(photos / "obama2.jpg", Path(folder) / "staff" / "Joe")
        with Services.on_free_ports(environment, Path(folder)) as services:
            _enrol(services.front.url, photos)
            _take_for_readme(services.front.url, photos, film)
            for name, dark, size in (
                ("light", False, (1280, 900)),
                ("dark", True, (1280, 900)),
                ("phone", False, (360, 740)),
            ):
                _take_all(services.front.url, photos, film, name, dark, size)
    print(f"Written: {FOLDER}, {README_PICTURE}")


def _enrol(url: str, photos: Path) -> None:
    requests.delete(f"{url}/clear-samples", timeout=10).raise_for_status()
    settings = {"settings": {"keep_crops": True}}
    requests.patch(f"{url}/companies/default", json=settings, timeout=10).raise_for_status()
    for id, name, metadata, names in (
        ("44", "Barack Obama", {"office": "President", "number": 44}, ("obama2.jpg", "obama3.jpg")),
        ("46", "Joe Biden", {"office": "Vice President", "number": 47}, ("biden.jpg",)),
        ("visitor", "A Visitor With a Rather Long Name", None, ("t1.jpg",)),
    ):
        enrol(url, id, name, *(photos / photo for photo in names), metadata=metadata)


def _take_for_readme(url: str, photos: Path, film: Path) -> None:
    """Works of the government of the United States, which are in the public domain, and nobody's else."""
    requests.delete(f"{url}/people/visitor", timeout=10).raise_for_status()
    browser = Browser(film.parent, camera=film, size=(1120, 800))
    browser.open(f"{url}/#live")
    browser.click("#live-start")
    browser.one("#attendance tbody tr", "Barack Obama")
    browser.one("#attendance tbody tr", "Joe Biden")
    time.sleep(2)
    browser.picture(FOLDER / "readme.png", whole=False)
    browser.driver.quit()
    with Image.open(FOLDER / "readme.png") as picture:
        height = picture.height * _README_WIDTH // picture.width
        small = picture.convert("RGB").resize((_README_WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(_COLOURS, dither=Image.Dither.NONE).save(README_PICTURE, optimize=True)
    _enrol(url, photos)


def _take_all(url: str, photos: Path, film: Path, name: str, dark: bool, size: tuple[int, int]) -> None:
    browser = Browser(film.parent, camera=film, dark=dark, size=size)

    def take(page: str, whole: bool = True) -> None:
        browser.picture(FOLDER / f"{name}-{page}.png", whole)

    browser.open(url)
    take("recognise-empty")
    browser.choose("#photos", photos / "obama.jpg", photos / "t1.jpg")
    browser.until(lambda: "7 faces" in browser.text("#shots-summary"))
    browser.click(".curl summary")
    take("recognise")
    browser.open(f"{url}/#people")
    browser.settle()
    browser.one("#people button")
    take("people")
    browser.click("#people button", "Barack")
    browser.choose("#person-files", photos / "obama.jpg")
    browser.one("#person-note", "1 of 1 photo taken.")
    take("person", whole=False)
    browser.click("#person-dialog [data-close]")
    for dialog in ("import", "export"):
        browser.click(f"#{dialog}")
        take(dialog, whole=False)
        browser.click(f"#{dialog}-cancel" if dialog == "import" else f"#{dialog}-dialog [data-close]")
    browser.click("#enter-key")
    take("key", whole=False)
    browser.click("#key-dialog [data-close]")
    _take_contradictions(browser, take, photos, film.parent / "staff")
    requests.delete(f"{url}/people/46", timeout=10).raise_for_status()
    browser.open(f"{url}/#live")
    browser.settle()
    browser.click("#live-start")
    browser.one("#live-unknown button")
    browser.one("#attendance tbody tr", "Barack Obama")
    take("live")
    browser.click("#live-unknown button")
    browser.one("#name-dialog")
    time.sleep(0.5)
    take("enrol", whole=False)
    browser.click("#name-dialog [data-close]")
    browser.turn_to("Status")
    picture = (photos / "obama.jpg").read_bytes()
    for _ in range(16):
        headers = {"Content-Type": "image/jpeg"}
        requests.post(f"{url}/face-recognition", data=picture, headers=headers, timeout=60).raise_for_status()
        time.sleep(0.5)
    browser.until(lambda: "median" in browser.text("#latency-now"))
    take("status")
    browser.driver.get(f"{url}/docs")
    browser.one("details")
    take("docs", whole=False)
    browser.driver.quit()
    _enrol(url, photos)


def _take_contradictions(browser: Browser, take: Callable[..., None], photos: Path, staff: Path) -> None:
    browser.click("#import")
    browser.choose("#import-files", staff)
    browser.click("#import-start")
    browser.one("#import-failures tbody tr", "Take it back")
    take("imported", whole=False)
    browser.click("#import-cancel")
    browser.click("#check")
    browser.one("#conflicts-state", "contradictions")
    take("conflicts")
    browser.click("#conflicts-close")
    browser.click("#add-person")
    browser.fill("#person-name", "Jim")
    browser.choose("#person-files", photos / "obama.jpg")
    browser.click("#person-add")
    browser.one("#confirm-title", "Keep obama.jpg?")
    take("doubt", whole=False)
    browser.click("#confirm-yes")
    browser.one("#person-note", "0 of 1 photo taken.")
    browser.click("#person-dialog [data-close]")


if __name__ == "__main__":
    main()
