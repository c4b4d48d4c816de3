"""The page Recognise in a browser, before real services."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

from deploy.services import Services
from shared.formats import format_of
from tests.e2e.browser import Browser
from tests.e2e.people import enrol
from tests.pictures import encoded, far_away

pytestmark = pytest.mark.e2e

OpenBrowser = Callable[..., Browser]


@pytest.fixture(scope="session")
def photos(full_photos: Path) -> Path:
    """What is shown is smaller than they are."""
    return full_photos


def recognise(url: str, photo: Path) -> Any:
    address = f"{url}/face-recognition?include_unknown=true&candidates=3&quality=true"
    return requests.post(address, data=photo.read_bytes(), headers={"Content-Type": "image/jpeg"}, timeout=60).json()


@pytest.fixture
def gallery(url: str, photos: Path) -> str:
    """A gallery of two people; the address of the service."""
    enrol(url, "44", "Barack Obama", photos / "obama.jpg", metadata={"floor": 2})
    enrol(url, "46", "Joe Biden", photos / "biden.jpg")
    return url


def summary(browser: Browser, text: str) -> None:
    browser.until(lambda: text in browser.text("#shots-summary"))


def places(browser: Browser) -> list[list[float]]:
    """x, y, width and height of each box on the page, in pixels of its picture."""
    found: list[list[float]] = browser.script(
        """return [...document.querySelectorAll(".box")].map((box) => {
             const picture = box.parentElement.querySelector("img"), frame = picture.getBoundingClientRect();
             const scale = picture.naturalWidth / frame.width, place = box.getBoundingClientRect();
             return [place.x - frame.x, place.y - frame.y, place.width, place.height].map((one) => one * scale);
           })"""
    )
    return found


def test_boxes_and_names_are_drawn_over_the_picture(gallery: str, photos: Path, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", photos / "obama2.jpg")
    summary(browser, "1 photo, 1 face, 1 named")
    (face,) = recognise(gallery, photos / "obama2.jpg")
    assert browser.text(".box").split("\n") == ["Barack Obama", f"{face['distance']:.2f}"]
    item = browser.text(".found li")
    assert "id 44" in item and '{"floor":2}' in item and f"quality {face['quality']:.2f}" in item
    assert [line.split("\n")[0] for line in (browser.text(".closest li:nth-child(1)"),)] == ["Barack Obama"]
    assert "Joe Biden" in browser.text(".closest li:nth-child(2)")
    expected = [int(part) for part in face["bbox"].split(",")]
    for size in ((1280, 900), (700, 900), (360, 700)):
        browser.resize(*size)
        np.testing.assert_allclose(places(browser)[0], expected, atol=0.02 * max(expected))


def test_a_photo_chosen_before_the_page_works_is_not_lost(
    gallery: str, photos: Path, open_browser: OpenBrowser
) -> None:
    browser = open_browser()
    browser.open(f"{gallery}/#people")
    browser.choose("#photos", photos / "obama2.jpg")
    browser.turn_to("Recognise")
    summary(browser, "1 photo, 1 face, 1 named")


def test_the_threshold_names_anew_without_asking_again(gallery: str, photos: Path, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.open(gallery)
    assert browser.text("#threshold-value") == "9"
    browser.choose("#photos", photos / "obama2.jpg", photos / "t1.jpg")
    summary(browser, "2 photos, 7 faces, 1 named")
    (face,) = recognise(gallery, photos / "obama2.jpg")
    browser.requests()
    browser.slide("#threshold", face["distance"] - 0.2)
    summary(browser, "7 faces, 0 named")
    assert browser.text(".box").startswith("unknown")
    browser.slide("#threshold", 19)
    summary(browser, "7 faces, 7 named")
    browser.until(lambda: "7 faces, 7 named" in browser.text("#announcer"))
    browser.click("#threshold-reset")
    summary(browser, "7 faces, 1 named")
    assert [request for request in browser.requests() if not request[1].startswith("blob:")] == []
    # What is asked is asked with the default, so that the event log has no names that nobody would have got.
    kinds = [one["kind"] for one in requests.get(f"{gallery}/events?limit=8", timeout=10).json()["events"]]
    assert kinds.count("unknown") == 6


def test_the_threshold_is_chosen_by_rate(gallery: str, photos: Path, open_browser: OpenBrowser) -> None:
    picture, headers = (photos / "obama2.jpg").read_bytes(), {"Content-Type": "image/jpeg"}

    def answered(**threshold: float) -> Any:
        address = f"{gallery}/face-recognition?include_unknown=true"
        return requests.post(address, params=threshold, data=picture, headers=headers, timeout=60).json()[0]

    def shown() -> tuple[float, float]:
        """The rate beside the slider, and where the chart has the threshold."""
        rate = browser.text("#threshold-often").removeprefix("at most 1 in ").removeprefix("1 in ")
        mark = browser.all("#threshold-chart .mark")[0].get_attribute("x1")
        return 1 / float(rate.replace(",", "")), float(mark or "")

    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", photos / "obama2.jpg")
    summary(browser, "1 photo, 1 face, 1 named")
    browser.one("#threshold-rates")
    default, places = shown(), []
    assert default[0] == pytest.approx(answered()["threshold_rate"], rel=0.01)
    options = browser.all("#threshold-rate option")
    least = requests.get(f"{gallery}/calibration", timeout=10).json()["least_rate"]
    rates = [float(option.get_attribute("value") or "nan") for option in options[1:]]
    assert rates == [1e-2, 1e-3, 1e-4, least]
    for rate, option in zip(rates, options[1:], strict=True):
        option.click()
        wanted = answered(false_match_rate=rate)
        assert float(browser.text("#threshold-value")) == pytest.approx(wanted["threshold"], abs=1e-3)
        moved = float(browser.script("return document.querySelector('#threshold').value"))
        assert moved == pytest.approx(wanted["threshold"], abs=0.06)
        now, place = shown()
        assert now == pytest.approx(wanted["threshold_rate"], rel=0.01)
        places.append(place)
    assert places == sorted(places, reverse=True)
    face = answered()
    summary(browser, f"1 face, {int(face['distance'] < wanted['threshold'])} named")
    words = browser.all("#threshold-chart svg")[0].get_attribute("aria-label")
    assert words and "1 in 1,000 strangers and 9" in words

    browser.slide("#threshold", 11)
    assert shown()[0] == pytest.approx(answered(min_distance=11)["threshold_rate"], rel=0.01)
    assert browser.script("return document.querySelector('#threshold-rate').value") == ""
    browser.click("#threshold-reset")
    assert shown() == default


def test_without_a_curve_no_rate_is_offered(start_services: Callable[..., Services], open_browser: OpenBrowser) -> None:
    services = start_services(own_extraction=True, MODEL="sface", DISTANCE="tenfold-unit-euclidean", MIN_DISTANCE="9")
    browser = open_browser()
    browser.open(services.front.url)
    browser.one("#threshold-unknown", "has no curve of this distance")
    for part in ("rates", "figure"):
        assert not browser.all(f"#threshold-{part}")[0].is_displayed()
    browser.slide("#threshold", 5)
    assert browser.text("#threshold-value") == "5"


def test_a_face_that_is_too_bad_has_no_name_at_any_threshold(
    gallery: str, photos: Path, tmp_path: Path, open_browser: OpenBrowser
) -> None:
    cv2.imwrite(str(tmp_path / "blurred.png"), cv2.GaussianBlur(cv2.imread(str(photos / "obama.jpg")), (0, 0), 15))
    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", tmp_path / "blurred.png")
    summary(browser, "1 photo, 1 face, 0 named")
    browser.one(".found li strong", "Too bad to be named")
    assert re.search(r"quality 0\.\d\d \(\d+ pixels between the eyes, sharpness 0\.\d\d\)", browser.text(".found li"))
    browser.slide("#threshold", 19)
    summary(browser, "1 photo, 1 face, 0 named")


def test_the_threshold_moves_while_a_photo_is_being_shown(
    gallery: str, photos: Path, open_browser: OpenBrowser
) -> None:
    browser = open_browser()
    browser.open(gallery)
    browser.driver.execute_script(
        """
        const decode = window.createImageBitmap;
        window.createImageBitmap = async (...what) => {
          while (!window.shown) await new Promise((resolve) => setTimeout(resolve, 20));
          return decode(...what);
        };
        window.answers = () => performance.getEntriesByType("resource").filter((one) =>
          one.name.includes("/face-recognition") && one.responseEnd > 0).length;
        """
    )
    browser.choose("#photos", photos / "obama2.jpg", photos / "t1.jpg")
    browser.until(lambda: browser.driver.execute_script("return window.answers()") == 2)
    browser.slide("#threshold", 0.1)
    summary(browser, "2 photos, 0 faces, 0 named")
    browser.driver.execute_script("window.shown = true")
    summary(browser, "2 photos, 7 faces, 0 named")
    browser.slide("#threshold", 19)
    summary(browser, "2 photos, 7 faces, 7 named")


def test_dropping_and_pasting(gallery: str, photos: Path, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.open(gallery)
    browser.give("drop", "#drop", photos / "obama3.jpg", photos / "biden.jpg")
    summary(browser, "2 photos, 2 faces, 2 named")
    browser.give("paste", "body", photos / "obama.jpg")
    summary(browser, "3 photos, 3 faces, 3 named")
    browser.click("button[aria-label='Remove biden.jpg']")
    summary(browser, "2 photos, 2 faces, 2 named")
    browser.click("#clear-shots")
    browser.until(lambda: not browser.all(".shot"))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_pictures_are_turned_upright(
    gallery: str, photos: Path, open_browser: OpenBrowser, tmp_path: Path, orientation: int
) -> None:
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = tmp_path / "turned.jpg"
    with Image.open(photos / "obama.jpg") as upright:
        upright.transpose(turn).save(turned, exif=exif, quality=95)
    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", turned)
    summary(browser, "1 face, 1 named")
    expected = [int(part) for part in recognise(gallery, photos / "obama.jpg")[0]["bbox"].split(",")]
    np.testing.assert_allclose(places(browser)[0], expected, atol=0.03 * max(expected))
    # The small picture of the face is cut out where the box is.
    shown = browser.pixels(".found .face")
    x, y, width, height = expected
    side = max(width, height) * 1.4
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    crop = cv2.imread(str(photos / "obama.jpg"))[top : top + round(side), left : left + round(side)]
    wanted = cv2.resize(crop, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(float) - wanted).mean() < 12


def test_copying_json_and_the_command(gallery: str, photos: Path, open_browser: OpenBrowser, tmp_path: Path) -> None:
    photo = tmp_path / "it's me.jpg"
    photo.write_bytes((photos / "obama2.jpg").read_bytes())
    browser = open_browser()
    browser.allow("clipboardReadWrite", "clipboardSanitizedWrite")
    browser.open(gallery)
    browser.choose("#photos", photo)
    summary(browser, "1 face, 1 named")
    browser.click(".shot button", "Copy as JSON")
    browser.one(".shot button", "Copied")
    (answered,) = recognise(gallery, photo)
    shown = ("bbox", "id", "name", "metadata", "distance", "ambiguous", "angle", "quality", "candidates")
    copied = json.loads(browser.script("return navigator.clipboard.readText()"))
    assert copied == [{member: answered[member] for member in shown}]

    browser.click(".curl summary")
    assert "X-API-Key" not in browser.text(".curl code")
    run = subprocess.run(["bash", "-c", browser.text(".curl code")], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(run.stdout)[0]["id"] == "44"
    browser.slide("#threshold", 3)
    run = subprocess.run(["bash", "-c", browser.text(".curl code")], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(run.stdout)[0]["id"] == ""
    browser.one("#threshold-rates")
    browser.pick("#threshold-rate", "0.001")
    run = subprocess.run(["bash", "-c", browser.text(".curl code")], cwd=tmp_path, capture_output=True, check=True)
    assert "false_match_rate=0.001" in browser.text(".curl code")
    assert json.loads(run.stdout)[0]["threshold_rate"] == pytest.approx(1e-3, rel=0.01)


def test_small_and_turned_faces_are_looked_for_on_request(
    gallery: str, photos: Path, open_browser: OpenBrowser, tmp_path: Path
) -> None:
    (tmp_path / "distant.jpg").write_bytes(far_away(photos / "obama.jpg"))
    cv2.imwrite(str(tmp_path / "turned.png"), cv2.rotate(cv2.imread(str(photos / "obama2.jpg")), cv2.ROTATE_180))
    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", tmp_path / "distant.jpg", tmp_path / "turned.png")
    summary(browser, "2 photos, 1 face, 1 named")
    assert "turned by 180°" in browser.text(".shot[aria-label='turned.png'] .found li")
    browser.pick("#detection", "thorough")
    summary(browser, "2 photos, 2 faces, 1 named")
    assert "Too bad to be named" in browser.text(".shot[aria-label='distant.jpg'] .found li")
    browser.click(".curl summary")
    assert "detection=thorough" in browser.text(".curl code")
    browser.pick("#detection", "fast")
    summary(browser, "2 photos, 1 face, 1 named")


def test_pictures_that_are_refused(gallery: str, open_browser: OpenBrowser, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 300, 3), 128, np.uint8))
    browser = open_browser()
    browser.open(gallery)
    browser.choose("#photos", tmp_path / "notes.txt")
    browser.one("#left-out", "Left out, since they are no pictures: notes.txt.")
    browser.choose("#photos", tmp_path / "broken.jpg")
    browser.one(".shot .note.bad", "truncated")
    assert not browser.text("#left-out")
    browser.choose("#photos", tmp_path / "empty.png")
    browser.one(".shot p", "No face was found.")


def test_a_photo_from_the_camera(gallery: str, open_browser: OpenBrowser, camera: Path) -> None:
    browser = open_browser(camera=camera)
    browser.open(gallery)
    browser.click("#take-photo")
    browser.click("#camera-take")
    summary(browser, "1 photo, 2 faces, 2 named")


def test_without_a_camera(gallery: str, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.open(gallery)
    browser.click("#take-photo")
    browser.one("#camera-note", "camera")
    browser.click("#camera-dialog [data-close]")
    browser.until(lambda: not browser.one("#take-photo").get_attribute("disabled"))


def test_pictures_that_the_browser_does_not_decode(
    gallery: str, photos: Path, open_browser: OpenBrowser, tmp_path: Path
) -> None:
    with Image.open(photos / "obama2.jpg") as photo:
        photo.thumbnail((500, 500))
        for name, kind in (("a.heic", "HEIF"), ("b.tif", "TIFF"), ("c", "AVIF"), ("d.bin", "GIF")):
            (tmp_path / name).write_bytes(encoded(photo, kind))
    browser = open_browser()
    browser.open(gallery)
    accepted = browser.one("label[for=photos]") and browser.script("return document.querySelector('#photos').accept")
    assert {"image/*", ".jfif", ".tif", ".tiff", ".heic", ".heif", ".avif"} <= set(accepted.split(","))
    browser.choose("#photos", *(tmp_path / name for name in ("a.heic", "b.tif", "c", "d.bin")))
    summary(browser, "4 photos, 4 faces, 4 named")
    for name, format in (("a.heic", "HEIC"), ("b.tif", "TIFF")):
        shot = browser.one(f".shot[aria-label='{name}']", "Barack Obama")
        assert f"This browser cannot display {format} pictures; the service reads them all the same." in shot.text
    # A picture that cannot be shown is no failure, and the others have their boxes.
    assert not browser.all(".shot .note.bad") and len(browser.all(".box")) == 2
    browser.click("button[aria-label='Remove b.tif']")
    summary(browser, "3 photos, 3 faces, 3 named")


def test_transparent_pictures_are_shown_on_white(
    gallery: str, photos: Path, open_browser: OpenBrowser, tmp_path: Path
) -> None:
    with Image.open(photos / "obama2.jpg") as photo:
        cut_out = photo.convert("RGBA")
    mask = Image.new("L", cut_out.size)
    x, y, width, height = (int(part) for part in recognise(gallery, photos / "obama2.jpg")[0]["bbox"].split(","))
    mask.paste(255, (x, y, x + width, y + height))
    cut_out.putalpha(mask)
    cut_out.save(tmp_path / "cut_out.png")
    browser = open_browser(dark=True)
    browser.open(gallery)
    browser.choose("#photos", tmp_path / "cut_out.png")
    summary(browser, "1 face, 1 named")
    assert (browser.pixels(".found .face")[:2, :2] == 255).all()
    assert browser.script("return getComputedStyle(document.querySelector('.stage img')).backgroundColor") == (
        "rgb(255, 255, 255)"
    )


def test_the_page_tells_formats_apart_like_the_service(gallery: str, open_browser: OpenBrowser) -> None:
    picture = Image.new("RGB", (16, 16), "red")
    kinds = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "PPM")
    files = [encoded(picture, kind) for kind in kinds]
    files += [b"", b"text", b"BM, says somebody else", b"RIFF\x24\0\0\0WAVEfmt ", b"MM\0+\0\x08\0\0", b"II*\0"]
    for major in b"heic heix heim heis hevc hevx mif1 msf1 avis isom mp42".split():
        files += [
            b"\0\0\0\x18ftyp" + major + b"\0\0\0\0" + others for others in (b"mif1heic", b"mif1avif", b"isomiso2")
        ]
    browser = open_browser()
    browser.open(gallery)
    found = browser.driver.execute_async_script(
        """const [files, answer] = arguments;
           import("/static/formats.js").then(({ formatOf }) => Promise.all(files.map((file) =>
             formatOf(new Blob([Uint8Array.from(atob(file), (one) => one.charCodeAt(0))]))))).then(answer);""",
        [base64.b64encode(file).decode() for file in files],
    )
    assert found == [format_of(file) for file in files]


def test_what_is_dropped_without_a_file(gallery: str, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.open(gallery)
    browser.give("drop", "#drop")
    browser.one("#left-out", "save the picture first")
