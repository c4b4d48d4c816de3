"""The page People in a browser, before real services."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

from tests.e2e.browser import Browser
from tests.e2e.people import enrol
from tests.pictures import encoded

pytestmark = pytest.mark.e2e

OpenBrowser = Callable[..., Browser]


def person(url: str, id: str) -> Any:
    response = requests.get(f"{url}/people/{id}", timeout=10)
    return response.json() if response.ok else None


def numbers(url: str, id: str) -> list[int]:
    return [photo["number"] for photo in requests.get(f"{url}/people/{id}/photos", timeout=10).json()["photos"]]


def cards(browser: Browser) -> list[str]:
    found: list[str] = browser.script(
        "return [...document.querySelectorAll('#people button')].map((one) => one.dataset.id)"
    )
    return found


@pytest.fixture
def people(url: str, open_browser: OpenBrowser) -> Browser:
    """The page, over an empty gallery."""
    browser = open_browser()
    browser.open(f"{url}/#people")
    browser.one("#people-count", "Nobody is enrolled yet.")
    return browser


def test_adding_somebody_with_several_photos(people: Browser, url: str, photos: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((300, 300, 3), 200, np.uint8))
    people.click("#add-person")
    people.fill("#person-name", "Bärbel Ümläut")
    people.fill("#person-metadata", '{"floor": 2')
    people.choose("#person-files", photos / "obama.jpg", tmp_path / "wall.png", photos / "t1.jpg")
    people.click("#person-add")
    people.one("#person-metadata-fault", "This is not JSON")
    assert person(url, "barbel-umlaut") is None
    people.fill("#person-metadata", '{"floor": 2, "card": 89014103211118510721}')
    people.click("#person-add")
    people.click("#confirm-no", "Keep it")
    people.one("#person-note", "has been added with 2 photos")
    first, second, third = [re.sub(r"photo \d+", "photo N", item.text) for item in people.all("#person-results li")]
    assert first == "obama.jpg\nTaken as photo N."
    assert second.startswith("wall.png\n") and "face" in second
    assert third.startswith("t1.jpg\nTaken as photo N; this one of 6 faces was taken. The face is far from all other")
    # The picture beside the photo is the face that was used, cut out of the visitor's own file.
    assert people.pixels("#person-results .face").std() > 30
    found = person(url, "barbel-umlaut")
    assert (found["name"], found["metadata"], found["photos"]) == (
        "Bärbel Ümläut",
        {"floor": 2, "card": 89014103211118510721},
        2,
    )
    people.click("#person-dialog [data-close]")
    people.one("#people button", "Bärbel Ümläut")
    people.one("#people-count", "1 person")


def test_a_photo_that_the_browser_does_not_decode(people: Browser, url: str, photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "obama.jpg") as photo:
        photo.thumbnail((500, 500))
        (tmp_path / "IMG_1.HEIC").write_bytes(encoded(photo, "HEIF"))
    people.click("#add-person")
    people.fill("#person-name", "Barack")
    people.choose("#person-files", tmp_path / "IMG_1.HEIC")
    people.click("#person-add")
    people.one("#person-note", "has been added with 1 photo")
    people.one("#person-results li", "This browser cannot display HEIC pictures; the service reads them all the same.")
    assert person(url, "barack")["photos"] == 1


def test_of_two_equally_good_faces_somebody_picks_one(people: Browser, url: str, photos: Path, tmp_path: Path) -> None:
    photo = cv2.imread(str(photos / "obama2.jpg"))
    cv2.imwrite(str(tmp_path / "twins.png"), np.hstack([photo, photo[:, ::-1]]))
    people.click("#add-person")
    people.fill("#person-name", "Ann")
    people.choose("#person-files", tmp_path / "twins.png")
    people.click("#person-add")
    people.one("#person-results li", "Which one is it?")
    people.click("#person-results button:last-child")  # none
    people.one("#person-results li .fault", "Several faces are equally good, at ")
    people.one("#person-note", "0 of 1 photo taken.")
    people.choose("#person-files", tmp_path / "twins.png")
    people.click("#person-add")
    people.one("#person-results li", "Which one is it?")
    people.click("#person-results button[aria-label='Face 2 of twins.png']")
    people.one("#person-note", "Ann has been added with 1 photo.")
    (item,) = people.all("#person-results li")
    assert re.fullmatch(r"twins\.png\nTaken as photo \d+; this one of 2 faces was taken\.", item.text)
    assert len(numbers(url, "ann")) == 1
    people.choose("#person-files", tmp_path / "twins.png")
    people.one("#person-results li", "Which one is it?")
    people.click("#person-dialog [data-close]")
    people.click("#people button")
    people.one("#person-title", "Ann")
    assert people.all("#person-delete")[0].is_enabled() and len(numbers(url, "ann")) == 1


def test_a_face_that_is_too_bad_is_shown_beside_the_reason(
    people: Browser, url: str, photos: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "blurred.png"), cv2.GaussianBlur(cv2.imread(str(photos / "obama.jpg")), (0, 0), 6))
    people.click("#add-person")
    people.fill("#person-name", "Ann")
    people.choose("#person-files", tmp_path / "blurred.png")
    people.click("#person-add")
    people.one("#person-results li .fault", "The face is too blurred: sharpness 0.")
    people.one("#person-note", "0 of 1 photo taken.")
    assert people.pixels("#person-results .face").std() > 20
    assert person(url, "ann") is None


def test_nobody_is_added_under_an_id_that_is_taken(people: Browser, url: str, photos: Path) -> None:
    enrol(url, "joe", "Joe", photos / "biden.jpg")
    people.click("#add-person")
    people.fill("#person-name", "Joe")
    people.click("#person-add")
    people.one("#person-note", "Choose at least one photo.")
    people.choose("#person-files", photos / "obama.jpg")
    people.click("#person-add")
    people.one("#person-note", "There is somebody with the id joe already.")
    assert person(url, "joe")["photos"] == 1


def test_somebody_of_whom_no_photo_can_be_used_is_not_added(people: Browser, url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    people.click("#add-person")
    people.fill("#person-name", "Nobody")
    people.choose("#person-files", tmp_path / "broken.jpg")
    people.click("#person-add")
    people.one("#person-note", "0 of 1 photo taken.")
    people.one("#person-results", "This is not a picture.")
    assert person(url, "nobody") is None


def test_searching_and_paging(people: Browser, url: str, photos: Path, data_uri: Callable[[Path], str]) -> None:
    image = data_uri(photos / "biden.jpg")
    batch = [
        {"id": f"p{n:02}", "name": f"Person {n}", "image": image, "metadata": {"floor": n // 10}} for n in range(30)
    ]
    assert not requests.post(f"{url}/update-samples", json=batch, timeout=120).json()["fail"]
    people.open(f"{url}/#people")
    people.driver.refresh()
    people.one("#people-count", "1 to 24")
    assert cards(people) == [f"p{n:02}" for n in range(24)]
    people.click("#people-next")
    people.one("#people-count", "25 to 30")
    assert cards(people) == [f"p{n}" for n in range(24, 30)]
    people.click("#people-back")
    people.one("#people-count", "1 to 24")
    people.fill("#search-text", "person 2")
    people.one("#people-count", "11 people with “person 2”")
    assert cards(people) == ["p02", *(f"p{n}" for n in range(20, 30))]
    people.until(lambda: "11 people" in people.text("#announcer"))
    people.fill("#search-text", "%")
    people.one("#people-count", "Nobody with “%”.")
    people.fill("#search-text", "metadata.floor=2")
    people.one("#people-count", "10 people with “metadata.floor=2”")
    assert cards(people) == [f"p{n}" for n in range(20, 30)]


def test_renaming_describing_and_photos(people: Browser, url: str, photos: Path) -> None:
    enrol(url, "a%2Fb c", "Wrong Name", photos / "obama.jpg")
    people.driver.refresh()
    people.click("#people button", "Wrong Name")
    (first,) = numbers(url, "a%2Fb c")
    people.one("#person-photos li", f"Photo {first}\n")
    people.fill("#person-name", "Right Name")
    people.fill("#person-metadata", '["x", 89014103211118510721]')
    people.click("#person-save")
    people.one("#person-note", "Saved.")
    people.choose("#person-files", photos / "obama2.jpg")
    people.one("#person-note", "1 of 1 photo taken.")
    first, second = numbers(url, "a%2Fb c")
    people.one("#person-photos li", f"Photo {second}\n")
    found = person(url, "a%2Fb c")
    assert (found["id"], found["name"], found["metadata"], found["photos"]) == (
        "a/b c",
        "Right Name",
        ["x", 89014103211118510721],
        2,
    )
    people.click(f"button[aria-label='Delete photo {first}']")
    people.click("#confirm-yes")
    people.until(lambda: [item.text for item in people.all("#person-photos li")] == [f"Photo {second}\nDelete"])
    assert numbers(url, "a%2Fb c") == [second]
    people.driver.refresh()
    people.click("#people button", "Right Name")
    people.fill("#person-name", "Other Name")
    people.click("#person-save")
    people.one("#person-note", "Saved.")
    found = person(url, "a%2Fb c")
    assert (found["name"], found["metadata"]) == ("Other Name", ["x", 89014103211118510721])
    people.fill("#person-metadata", "")
    people.click("#person-save")
    people.until(lambda: person(url, "a%2Fb c")["metadata"] is None)
    people.click("#person-dialog [data-close]")
    people.one("#people button", "Other Name")
    assert people.script("return document.activeElement.dataset.id") == "a/b c"


def test_deleting_asks_first(people: Browser, url: str, photos: Path) -> None:
    enrol(url, "joe", "Joe", photos / "biden.jpg")
    people.driver.refresh()
    people.click("#people button", "Joe")
    people.click("#person-delete")
    people.one("#confirm-title", "Delete Joe?")
    people.click("#confirm-dialog [data-close]")
    people.until(lambda: not people.all("#confirm-dialog[open]"))
    assert person(url, "joe") is not None
    people.click("#person-delete")
    people.click("#confirm-yes")
    people.one("#people-count", "Nobody is enrolled yet.")
    assert person(url, "joe") is None


def test_names_are_text_and_never_markup(people: Browser, url: str, photos: Path) -> None:
    name = "<img src=x onerror='document.title=1'><b>&amp;"
    enrol(url, "x", name, photos / "obama.jpg")
    people.driver.refresh()
    people.one("#people button", name)
    people.click("#people button")
    assert people.one("#person-title").text == name
    people.click("#person-dialog [data-close]")
    people.turn_to("Recognise")
    people.choose("#photos", photos / "obama2.jpg")
    people.until(lambda: name in people.text(".found"))
    assert not people.all("#people b, .found b, img[src=x]")


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """A folder of three people, one of whom has no usable photo, and something else beside them."""
    root = tmp_path / "staff"
    for photo in ("Barack_Obama/obama.jpg", "Barack_Obama/old/obama2.jpg", "Joe_Biden/biden.jpg"):
        target = root / photo
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / target.name, target)
    (root / "Nobody").mkdir()
    (root / "Nobody" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    (root / "notes.txt").write_text("not a photo")
    return root


def test_importing_a_folder(people: Browser, url: str, folder: Path) -> None:
    people.click("#import")
    people.choose("#import-files", folder)
    people.one("#import-summary", "3 people with 4 photos. 1 other file will be left out.")
    people.click("#import-start")
    people.one("#import-summary", "Done: 3 photos taken, 1 refused, 1 other file left out.")
    stray, failure = [row.text for row in people.all("#import-failures tbody tr")]
    assert stray.startswith("staff/notes.txt") and stray.endswith("No picture.")
    assert failure.startswith("Nobody/broken.jpg") and "truncated" in failure
    found = person(url, "Barack_Obama")
    assert (found["name"], found["photos"]) == ("Barack Obama", 2)
    # Once more: whoever is there is passed over.
    people.click("#import-start")
    people.one("#import-summary", "Done: 0 photos taken, 1 refused, 1 other file left out, 2 people skipped.")
    assert person(url, "Barack_Obama")["photos"] == 2
    people.click("#import-cancel")
    people.one("#people-count", "2 people")


def test_an_import_can_be_stopped(people: Browser, url: str, full_photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(60):
        (root / f"p{number}").mkdir(parents=True)
        shutil.copy(full_photos / "t1.jpg", root / f"p{number}" / "photo.jpg")
    people.click("#import")
    people.choose("#import-files", root)
    people.one("#import-summary", "60 people with 60 photos.")
    people.click("#import-start")
    people.until(lambda: int(people.text("#import-summary").split()[0]) >= 3)
    people.click("#import-cancel", "Stop")
    people.one("#import-summary", "Stopped: ")
    people.click("#import-cancel", "Close")
    people.one("#people button")
    # The service finishes what it has begun.
    people.until(lambda: "front_pending_requests 0.0" in requests.get(f"{url}/metrics", timeout=10).text)
    assert 3 <= requests.get(f"{url}/readyz", timeout=10).json()["samples"] < 60


def exported(browser: Browser, folder: Path) -> Any:
    file = browser.until(lambda: next(folder.glob("people-*.json"), None))
    text = file.read_text()
    file.unlink()
    return json.loads(text)


def test_export(people: Browser, url: str, photos: Path, tmp_path: Path) -> None:
    enrol(url, "44", "Barack", photos / "obama.jpg")
    enrol(url, "44", "Barack", photos / "obama2.jpg")
    enrol(url, "46", "Joe", photos / "biden.jpg")
    requests.patch(f"{url}/people/46", json={"metadata": {"floor": 3}}, timeout=10).raise_for_status()
    people.click("#export")
    people.click("#export-start")
    people.one("#export-state", "2 people exported.")
    whole = exported(people, tmp_path)
    assert whole["people"] == requests.get(f"{url}/people", timeout=10).json()["people"]
    people.click("#export-embeddings")
    people.click("#export-start")
    whole = exported(people, tmp_path)
    assert whole["space"].startswith("facenet/")
    assert [[len(one["embedding"]) for one in found["embeddings"]] for found in whole["people"]] == [[128, 128], [128]]


def test_photos_that_contradict_each_other_are_listed(people: Browser, url: str, photos: Path) -> None:
    enrol(url, "44", "Barack", photos / "obama.jpg")
    enrol(url, "46", "Joe", photos / "biden.jpg", photos / "obama2.jpg")
    wrong = numbers(url, "46")[1]
    people.click("#check")
    people.one("#conflicts-state", "3 photos examined, 3 contradictions.")
    (row,) = [row for row in people.all("#conflicts-list li") if row.text.startswith(f"Photo {wrong} of")]
    assert "looks more like" in row.text and "Barack" in row.text
    people.click("#conflicts-list button[title='id 46']")
    people.one("#person-title", "Joe")
    people.click("#person-dialog [data-close]")
    people.click(f"button[aria-label='Delete photo {wrong} of Joe']")
    people.click("#confirm-yes")
    people.until(lambda: not people.all("#conflicts-list li"))
    assert numbers(url, "46") == [wrong - 1]
    people.click("#check")
    people.one("#conflicts-state", "2 photos examined, no contradictions.")
    people.click("#conflicts-close")
    people.until(lambda: not people.all("#conflicts")[0].is_displayed())


def test_a_photo_that_looks_like_somebody_else_can_be_taken_back(people: Browser, url: str, photos: Path) -> None:
    enrol(url, "44", "Barack", photos / "obama.jpg")
    people.click("#add-person")
    people.fill("#person-name", "Joe")
    people.choose("#person-files", photos / "obama2.jpg")
    people.click("#person-add")
    people.one("#confirm-title", "Keep obama2.jpg?")
    assert "Barack (44)" in people.text("#confirm-text")
    people.click("#confirm-yes", "Take it back")
    people.one("#person-note", "0 of 1 photo taken.")
    people.one("#person-results li", "Taken back.")
    assert person(url, "joe") is None
    people.choose("#person-files", photos / "obama2.jpg")
    people.click("#person-add")
    people.click("#confirm-no", "Keep it")
    people.one("#person-note", "Joe has been added with 1 photo.")
    assert person(url, "joe")["photos"] == 1


def test_what_an_import_contradicts_can_be_taken_back(people: Browser, url: str, photos: Path, tmp_path: Path) -> None:
    enrol(url, "44", "Barack", photos / "obama.jpg")
    (tmp_path / "staff" / "Joe").mkdir(parents=True)
    shutil.copy(photos / "obama2.jpg", tmp_path / "staff" / "Joe")
    blurred = cv2.GaussianBlur(cv2.imread(str(photos / "obama.jpg")), (0, 0), 6)
    cv2.imwrite(str(tmp_path / "staff" / "Joe" / "z.png"), blurred)
    people.click("#import")
    people.choose("#import-files", tmp_path / "staff")
    people.one("#import-summary", "1 person with 2 photos.")
    people.click("#import-start")
    people.one("#import-summary", "Done: 1 photo taken, 1 refused.")
    warned, refused = sorted(people.all("#import-failures tbody tr"), key=lambda row: row.text)
    assert "Joe/obama2.jpg" in warned.text and "Barack (44)" in warned.text
    assert "Joe/z.png" in refused.text and "too blurred" in refused.text
    people.until(lambda: all(people.pixels(f"tr:nth-child({n}) .face").std() > 20 for n in (1, 2)))
    people.click("button[aria-label='Take obama2.jpg back']")
    people.until(lambda: "Taken back." in people.text("#import-failures"))
    assert person(url, "Joe") is None
