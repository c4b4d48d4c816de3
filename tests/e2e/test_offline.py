"""Recognition in the browser with the network off, from fetching the copy to forgetting it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from deploy import web_assets
from deploy.services import ROOT, Services
from face_detection.gallery import open_gallery
from face_detection.gallery.people import Description
from shared.service_process import ServiceProcess, free_port
from shared.settings import FrontSettings
from tests.contracts.databases import copied
from tests.e2e.browser import Browser
from tests.e2e.offline_page import OfflinePage, cosine
from tests.galleries import remove_tombstones
from tests.pictures import encoded

pytestmark = pytest.mark.e2e

Start = Callable[..., Services]
Open = Callable[..., Browser]


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """The browser's runtime, which comes through npm."""
    problem = web_assets.ensure(ROOT / FrontSettings().web_assets)
    if problem:
        pytest.skip(problem)


def enrol(url: str, photo: Path, id: str, name: str, **headers: str) -> None:
    with photo.open("rb") as file:
        answer = requests.post(
            f"{url}/update-samples", files={"image": file}, data={"id": id, "name": name}, headers=headers, timeout=60
        )
    assert (answer.json()["success"], answer.json()["fail"]) == ([id], [])


def encodings(url: str, photo: Path) -> list[Any]:
    with photo.open("rb") as file:
        answer = requests.post(f"{url}/face/detect", files={"image": file}, data={"encoding": "true"}, timeout=60)
    return [face["face_encoding"] for face in answer.json()["faces"]]


def test_faces_are_named_without_a_network(
    start_services: Start, open_browser: Open, camera: Path, photos: Path
) -> None:
    services = start_services()
    url = services.front.url
    enrol(url, photos / "obama.jpg", "barack", "Barack")
    enrol(url, photos / "biden.jpg", "joe", "Joe")
    shown = ("obama2.jpg", "obama3.jpg", "biden.jpg", "t1.jpg")
    expected = {name: encodings(url, photos / name) for name in shown}
    page = OfflinePage(open_browser(camera=camera), url)
    page.connect()
    page.until_faces(2)
    assert page.browser.script("return crossOriginIsolated")

    services.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/livez", timeout=5)
    page.browser.driver.refresh()
    page.until_ready()
    page.until_state("offline")
    assert page.names(photos / "obama2.jpg").startswith("Barack (5.")
    assert page.names(photos / "biden.jpg").startswith("Joe (0.")
    assert page.names(photos / "t1.jpg").count("unknown") == 6
    times = page.browser.text("figure span")
    assert all(f"{stage} " in times for stage in ("decode", "detect", "align", "embed", "compare"))

    for name, wanted in expected.items():
        found = page.faces(photos / name)
        assert len(found) == len(wanted)
        assert min(cosine(one["embedding"], other) for one, other in zip(found, wanted, strict=True)) > 0.999, name

    page.browser.click("#camera")
    page.browser.until(lambda: {"Barack", "Joe"} <= {part.split(" ")[0] for part in seen(page)})
    assert page.browser.pixels("#overlay").any()
    page.browser.click("#camera", "Stop")
    page.browser.until(lambda: not page.browser.all("#live:not([hidden])"))


def seen(page: OfflinePage) -> list[str]:
    return page.browser.text("#live-names").split("; ")


def test_a_server_without_the_runtime_says_so(start_services: Start, open_browser: Open, tmp_path: Path) -> None:
    page = OfflinePage(open_browser(), start_services(WEB_ASSETS=str(tmp_path)).front.url)
    page.ask("")
    page.browser.one("#problem", "onnxruntime-web is not installed on the server")
    assert page.browser.script("return document.querySelector('#photos').disabled")


def test_a_file_that_is_no_picture_is_refused(start_services: Start, open_browser: Open, tmp_path: Path) -> None:
    page = OfflinePage(open_browser(), start_services(MAX_IMAGE_BYTES="1000").front.url)
    page.connect()
    for name, content, words in (
        ("text.jpg", b"no picture", "The picture cannot be decoded."),
        ("large.jpg", b"\xff\xd8\xff" + bytes(1000), "The picture has more than 1000 bytes."),
    ):
        (tmp_path / name).write_bytes(content)
        assert page.names(tmp_path / name) == words


def test_what_the_browser_does_not_decode_is_told(
    start_services: Start, open_browser: Open, photos: Path, tmp_path: Path
) -> None:
    page = OfflinePage(open_browser(), start_services().front.url)
    page.browser.one("#formats", "This browser cannot decode TIFF and HEIC")
    page.connect()
    with Image.open(photos / "obama2.jpg") as photo:
        photo.thumbnail((300, 300))
        for name, kind in (("a.heic", "HEIF"), ("b.tif", "TIFF"), ("c.gif", "GIF")):
            (tmp_path / name).write_bytes(encoded(photo, kind))
        photo.putalpha(Image.new("L", photo.size))
        (tmp_path / "invisible.png").write_bytes(encoded(photo, "PNG"))
    for name, format in (("a.heic", "HEIC"), ("b.tif", "TIFF")):
        assert f"This browser does not decode {format}; the service does" in page.names(tmp_path / name)
    assert page.names(tmp_path / "c.gif").startswith("unknown")
    page.names(tmp_path / "invisible.png")
    assert (page.browser.pixels("#results canvas") == 255).all()


def test_the_copy_catches_up(
    start_services: Start, open_browser: Open, environment: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    database = str(tmp_path / "gallery.db")
    services = start_services(DATABASE=database)
    url = services.front.url
    enrol(url, photos / "obama.jpg", "barack", "Barack")
    page = OfflinePage(open_browser(), url)
    page.connect()
    page.until_faces(1)
    services.front.stop()
    page.catch_up()
    page.until_state("offline")

    # Elsewhere the same gallery goes on.
    bind = f"127.0.0.1:{free_port()}"
    settings = {"DATABASE": database, "EXTRACTION_URL": services.extraction.url, "FRONT_BIND": bind}
    elsewhere = ServiceProcess("face_detection", bind, environment | settings, tmp_path / "elsewhere.log")
    elsewhere.start()
    try:
        elsewhere.wait_until_ready(60)
        enrol(elsewhere.url, photos / "biden.jpg", "joe", "Joe")
        requests.delete(f"{elsewhere.url}/people/barack", timeout=10).raise_for_status()
    finally:
        elsewhere.stop()
    assert page.names(photos / "obama2.jpg").startswith("Barack "), "the copy is as old as it is"
    assert page.names(photos / "biden.jpg").startswith("unknown ")

    services.front.start()
    services.front.wait_until_ready(60)
    page.catch_up()
    page.until_state("online")
    assert page.names(photos / "biden.jpg").startswith("Joe ")
    assert page.names(photos / "obama2.jpg").startswith("unknown ")
    assert page.kept()["faces"] == 1

    requests.patch(f"{url}/people/joe", json={"name": "Joseph"}, timeout=10).raise_for_status()
    requests.patch(f"{url}/companies/default", json={"settings": {"min_distance": 0.01}}, timeout=10).raise_for_status()
    page.catch_up()
    page.browser.until(lambda: page.names(photos / "biden.jpg").startswith("unknown "))
    requests.patch(f"{url}/companies/default", json={"settings": {"min_distance": 9}}, timeout=10).raise_for_status()
    page.catch_up()
    page.browser.until(lambda: page.names(photos / "biden.jpg").startswith("Joseph "))


def test_a_copy_that_comes_too_late_starts_over_and_lets_go(
    start_services: Start, open_browser: Open, photos: Path, tmp_path: Path
) -> None:
    database = str(tmp_path / "gallery.db")
    services = start_services(DATABASE=database)
    url = services.front.url
    enrol(url, photos / "obama.jpg", "barack", "Barack")
    enrol(url, photos / "biden.jpg", "joe", "Joe")
    page = OfflinePage(open_browser(), url)
    page.connect()
    page.until_faces(2)
    services.front.stop()
    page.catch_up()
    page.until_state("offline")
    with closing(open_gallery(database)) as gallery:
        gallery.store.delete("default", "barack")
        gallery.store.describe("default", "joe", Description("Joseph"))
        remove_tombstones(gallery)
    assert page.names(photos / "obama2.jpg").startswith("Barack ")
    services.front.start()
    services.front.wait_until_ready(60)
    page.catch_up()
    page.until_state("online")
    page.browser.until(lambda: page.kept()["faces"] == 1)
    assert page.names(photos / "obama2.jpg").startswith("unknown ")
    assert page.names(photos / "biden.jpg").startswith("Joseph ")
    page.browser.driver.refresh()
    page.until_faces(1)
    assert page.names(photos / "biden.jpg").startswith("Joseph ")

    enrol(url, photos / "obama.jpg", "barack", "Barack")
    page.catch_up()
    page.until_faces(2)
    with closing(open_gallery(database)) as gallery:  # it happens again
        gallery.store.delete("default", "joe")
        gallery.store.describe("default", "barack", Description("Hussein"))
        remove_tombstones(gallery)
    page.catch_up()
    page.browser.until(lambda: page.kept()["faces"] == 1)
    assert page.names(photos / "obama2.jpg").startswith("Hussein ")
    assert page.names(photos / "biden.jpg").startswith("unknown ")


def test_a_copy_of_a_database_that_is_replaced_starts_over(
    start_services: Start, open_browser: Open, photos: Path, tmp_path: Path
) -> None:
    database = str(tmp_path / "gallery.db")
    url = start_services(DATABASE=database).front.url
    enrol(url, photos / "obama.jpg", "barack", "Barack")
    put_back = copied(database)
    enrol(url, photos / "biden.jpg", "joe", "Joe")
    page = OfflinePage(open_browser(), url)
    page.connect()
    page.until_faces(2)
    put_back()
    enrol(url, photos / "obama2.jpg", "hussein", "Hussein")
    page.catch_up()
    page.browser.until(lambda: page.names(photos / "biden.jpg").startswith("unknown "))
    assert page.names(photos / "obama2.jpg").startswith("Hussein ")
    assert page.kept()["faces"] == 2


def test_a_key_without_the_right_gets_nothing(start_services: Start, open_browser: Open, photos: Path) -> None:
    url = start_services().front.url
    operator = {"X-API-Key": make_key(url, "admin", {})["key"]}
    enrol(url, photos / "obama.jpg", "barack", "Barack", **operator)
    camera, desk = make_key(url, "recognise", operator), make_key(url, "enrol", operator)
    page = OfflinePage(open_browser(), url)
    refused = (("", "needs an API key"), ("fr_wrong", "not valid"), (camera["key"], "lacks the right enrol"))
    for key, words in refused:
        page.ask(key)
        page.browser.one("#problem", words)
        page.until_state("no copy")
        kept = page.kept()
        assert kept["state"] is None and kept["faces"] == 0
        assert not [file for file in kept["files"] if file.startswith("/offline/models")]

    page.connect(desk["key"])
    page.until_faces(1)
    assert sum(file.startswith("/offline/models/") for file in page.kept()["files"]) == 2
    requests.delete(f"{url}/companies/default/keys/{desk['id']}", headers=operator, timeout=10).raise_for_status()
    page.catch_up()
    page.browser.one("#problem", "thrown away")
    kept = page.kept()
    assert kept["state"] is None and kept["faces"] == 0
    assert not [file for file in kept["files"] if file.startswith("/offline/models")]
    assert page.browser.script("return document.querySelector('#photos').disabled")


def make_key(url: str, right: str, headers: dict[str, str]) -> dict[str, Any]:
    body = {"name": right, "rights": [right]}
    answer = requests.post(f"{url}/companies/default/keys", json=body, headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    key: dict[str, Any] = answer.json()
    return key


def test_everything_is_forgotten(start_services: Start, open_browser: Open, photos: Path) -> None:
    services = start_services()
    enrol(services.front.url, photos / "obama.jpg", "barack", "Barack")
    page = OfflinePage(open_browser(), services.front.url)
    page.connect()
    page.until_faces(1)
    page.browser.click("#forget")
    page.until_state("no copy")
    page.browser.until(lambda: page.kept() == {"state": None, "faces": 0, "files": []})
    assert page.call("return (await navigator.serviceWorker.getRegistrations()).length") == 0
    page.connect()
    page.until_faces(1)


@pytest.mark.parametrize(("model", "files"), [("sface", 2), ("sface+dlib", 3)])
def test_a_copy_of_another_model_is_thrown_away(
    model: str,
    files: int,
    start_services: Start,
    open_browser: Open,
    environment: dict[str, str],
    photos: Path,
    tmp_path: Path,
) -> None:
    services = start_services(own_extraction=True)
    url = services.front.url
    enrol(url, photos / "obama.jpg", "barack", "Barack")
    page = OfflinePage(open_browser(), url)
    page.connect()
    page.until_faces(1)
    services.extraction.stop()
    bind = services.extraction.url.removeprefix("http://")
    settings = {"EXTRACTION_BIND": bind, "MODEL": model}
    other = ServiceProcess("feature_extraction", bind, environment | settings, tmp_path / "other.log")
    other.start()
    try:
        other.wait_until_ready(60)

        def has_gone_over() -> bool:
            page.catch_up()  # again, where the service has not noticed yet
            return f"; {model}, " in page.browser.text("#summary")

        page.browser.until(has_gone_over, 60)
        page.until_faces(0)
        enrol(url, photos / "biden.jpg", "joe", "Joe")
        page.catch_up()
        page.until_faces(1)
        assert page.names(photos / "obama2.jpg").startswith("unknown ")
        assert page.names(photos / "biden.jpg").startswith("Joe ")
        kept = page.kept()
        assert kept["faces"] == 1 and kept["state"]["models"]["space"].startswith(f"{model}/")
        assert sum(file.startswith("/offline/models/") for file in kept["files"]) == files
    finally:
        other.stop()
