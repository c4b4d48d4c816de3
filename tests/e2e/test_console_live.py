"""The pages Live and Status in a browser, before real services."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.services import Services
from shared import __version__
from tests.e2e.browser import Browser
from tests.e2e.films import copy_clip
from tests.e2e.people import enrol

pytestmark = pytest.mark.e2e

OpenBrowser = Callable[..., Browser]


def rows(browser: Browser) -> dict[str, list[str]]:
    """The attendance list: name to first time, last time and how many times."""
    cells = [
        [cell.text for cell in row.find_elements("css selector", "td")] for row in browser.all("#attendance tbody tr")
    ]
    return {name: rest for name, *rest in cells}


def coloured(browser: Browser, colour: tuple[int, int, int]) -> int:
    """How many pixels of the overlay have a colour (RGB)."""
    count: int = browser.script(
        """const canvas = document.querySelector("#live-overlay"), [r, g, b] = arguments[0];
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4) count += data[i] === r && data[i + 1] === g && data[i + 2] === b;
        return count""",
        colour,
    )
    return count


KNOWN, UNKNOWN = (18, 112, 58), (138, 75, 0)


@pytest.fixture
def live(url: str, photos: Path, open_browser: OpenBrowser, camera: Path) -> Browser:
    """The page with a running camera that shows somebody who is enrolled and somebody who is not."""
    enrol(url, "44", "Barack Obama", photos / "obama2.jpg")
    browser = open_browser(camera=camera)
    browser.open(f"{url}/#live")
    browser.click("#live-start")
    browser.until(lambda: browser.text("#live-state") == "open")
    return browser


def test_names_over_the_video_and_an_attendance_list(live: Browser) -> None:
    first, last, times = live.until(lambda: rows(live).get("Barack Obama"))
    assert first <= last and times == "1"
    live.until(lambda: coloured(live, KNOWN) > 300 and coloured(live, UNKNOWN) > 300)
    live.until(lambda: float(live.text("#live-rate")) > 1)
    assert int(live.text("#live-latency").split()[0]) < 5000
    live.until(lambda: "Barack Obama was seen." in live.text("#announcer"))
    live.click("#live-forget")
    live.until(lambda: "Barack Obama" not in rows(live) or rows(live)["Barack Obama"][2] == "1")
    live.click("#live-stop")
    live.one("#live-empty", "The camera is off.")
    assert coloured(live, KNOWN) == 0
    assert live.script("return document.querySelector('#live-video').srcObject") is None


def test_an_unknown_face_is_enrolled_and_named(live: Browser, url: str) -> None:
    live.click("#live-unknown button", "Enrol")
    live.until(lambda: live.pixels("#name-face").std() > 30)
    live.fill("#name-text", "Joe Biden")
    live.click("#name-save")
    live.until(lambda: "Joe Biden" in rows(live))
    live.one("#live-unknown-none", "None.")
    people = requests.get(f"{url}/people", timeout=10).json()["people"]
    assert [(one["id"], one["name"], one["photos"]) for one in people] == [
        ("44", "Barack Obama", 1),
        ("joe-biden", "Joe Biden", 1),
    ]


def test_the_threshold_of_the_session(live: Browser) -> None:
    live.until(lambda: coloured(live, KNOWN) > 300)
    live.slide("#live-threshold", 2)
    live.until(lambda: coloured(live, KNOWN) == 0 and coloured(live, UNKNOWN) > 600)
    live.click("#live-threshold-reset")
    live.until(lambda: coloured(live, KNOWN) > 300)


def test_a_camera_that_hangs(live: Browser) -> None:
    """Its last picture stays in view, and counts for nothing."""
    live.until(lambda: rows(live).get("Barack Obama"))
    live.script("document.querySelector('#live-video').pause()")
    live.until(lambda: live.text("#live-note") == "The camera gives no pictures.", 30)
    live.one("#live-unknown-none", "None.")
    before = rows(live)
    assert coloured(live, KNOWN) == 0
    live.script("document.querySelector('#live-video').play()")
    live.until(lambda: coloured(live, KNOWN) > 300)
    live.until(lambda: live.text("#live-note") == "" and rows(live)["Barack Obama"][1] > before["Barack Obama"][1])


def test_leaving_the_page_switches_the_camera_off(live: Browser) -> None:
    live.turn_to("People")
    live.one("#people button")
    live.turn_to("Live")
    live.one("#live-start")


def test_a_session_is_taken_up_again(
    start_services: Callable[..., Services], photos: Path, open_browser: OpenBrowser, camera: Path
) -> None:
    services = start_services()
    url = services.front.url
    enrol(url, "44", "Barack Obama", photos / "obama2.jpg")
    key = requests.post(
        f"{url}/companies/default/keys", json={"name": "console", "rights": ["recognise"]}, timeout=10
    ).json()["key"]
    browser = open_browser(camera=camera)
    browser.open(f"{url}/#live")
    browser.click("#live-start")
    browser.fill("#key-text", key)
    browser.click("#key-dialog button.primary")
    browser.until(lambda: rows(browser).get("Barack Obama"))
    assert not [address for _, address in browser.requests() if "fr_" in address]
    services.front.stop()
    browser.until(lambda: browser.text("#live-state") != "open")
    browser.one("#gone", "The service does not answer.")
    services.front.start()
    services.front.wait_until_ready(60)
    browser.until(lambda: browser.text("#live-state") == "open")
    before = rows(browser)["Barack Obama"]
    # Seen again within the time to leave: it is the same visit.
    browser.until(lambda: rows(browser)["Barack Obama"][1] > before[1])
    assert rows(browser)["Barack Obama"][2] == "1"


def test_a_real_clip(url: str, faces: Path, open_browser: OpenBrowser, tmp_path: Path) -> None:
    enrol(url, "miranda", "Lin-Manuel Miranda", sorted((faces / "stills").glob("lin*"))[0])
    copy_clip(faces / "video" / "short_hamilton_clip.mp4", tmp_path / "clip.mjpeg", seconds=8)
    browser = open_browser(camera=tmp_path / "clip.mjpeg")
    browser.open(f"{url}/#live")
    browser.click("#live-start")
    browser.until(lambda: "Lin-Manuel Miranda" in rows(browser), 60)


def test_status_shows_what_runs_and_how_fast(url: str, photos: Path, open_browser: OpenBrowser) -> None:
    requests.patch(f"{url}/companies/default", json={"settings": {"keep_crops": True}}, timeout=10).raise_for_status()
    enrol(url, "44", "Barack Obama", photos / "obama2.jpg")
    browser = open_browser()
    browser.open(f"{url}/#status")
    facts = browser.one("#facts", "facenet").text
    assert f"Version\n{__version__}" in facts
    # In a gallery of one any model does; of larger ones the page says which.
    advice = browser.script(
        """
        const given = [["facenet", 100], ["facenet", 101], ["sface", 1000], ["sface", 1001], ["best", 1e6]];
        const advice = ({ advise }) => given.map(([model, samples]) => advise(model, samples) !== null);
        return import(new URL("status.js", document.querySelector("script[type=module]").src).href).then(advice);
        """
    )
    assert advice == [False, True, False, True, False] and "sface+dlib" not in facts
    assert "CPU" in facts and "Default threshold\n9" in facts and "Samples in the gallery\n1" in facts
    picture = (photos / "obama.jpg").read_bytes()
    for _ in range(5):
        requests.post(
            f"{url}/face-recognition", data=picture, headers={"Content-Type": "image/jpeg"}, timeout=60
        ).raise_for_status()
    browser.until(lambda: browser.all("#rate-chart path.first[d^=M]"))
    browser.until(lambda: "median" in browser.text("#latency-now"))
    browser.one("#stages", "embed")
    browser.one("#events tbody tr", "Barack Obama (44)")
    browser.until(lambda: browser.script("return document.querySelector('#events img.face')?.naturalWidth > 50"))
    browser.click("#event-kind option[value=enrolled]")
    browser.until(lambda: [row.text.count("enrolled") for row in browser.all("#events tbody tr")] == [1])
    browser.click("#event-kind option[value='']")
    # Other tests of this service may have left events of strangers.
    browser.until(lambda: len(browser.all("#events tbody tr")) >= 6)
    browser.fill("#event-person", "nobody\n")
    browser.one("#events-note", "There are no events.")
    browser.fill("#event-person", "44\n")
    browser.until(lambda: len(browser.all("#events tbody tr")) == 6)
    set_time = (
        "const input = document.querySelector(arguments[0]);"
        "input.value = arguments[1];"
        "input.dispatchEvent(new Event('change', {bubbles: true}));"
    )
    browser.script(set_time, "#event-until", "2020-01-01T00:00")
    browser.one("#events-note", "There are no events.")
    browser.script(set_time, "#event-until", "")
    browser.script(set_time, "#event-since", "2020-01-01T00:00")
    browser.until(lambda: len(browser.all("#events tbody tr")) == 6)
