"""What the console looks like, to whom: phones, the dark, poor sight, screen readers, and the browser's policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from deploy.services import ROOT
from tests.e2e.browser import Browser
from tests.e2e.people import enrol

pytestmark = pytest.mark.e2e

OpenBrowser = Callable[..., Browser]

PAGES = ("recognise", "people", "live", "status")


@pytest.fixture(scope="session")
def photos(full_photos: Path) -> Path:
    """Pages have to live with their size."""
    return full_photos


def fill_pages(browser: Browser, url: str, photos: Path) -> None:
    """Something to be seen on every page."""
    name = "Barack Hussein Obama the Second of Honolulu-in-the-Pacific"
    enrol(url, "44", name, photos / "obama.jpg", metadata={"address": "x" * 300})
    browser.open(url)
    browser.choose("#photos", photos / "t1.jpg", photos / "obama2.jpg")
    browser.until(lambda: "7 faces" in browser.text("#shots-summary"))
    browser.click(".curl summary")


def visit(browser: Browser, page: str) -> None:
    browser.script("location.hash = arguments[0]", page)
    browser.one(f"#page-{page}")
    browser.settle()
    if page == "people":
        browser.one("#people button")
    elif page == "status":
        browser.one("#events tbody tr")


def test_a_phone_scrolls_downwards_only(url: str, open_browser: OpenBrowser, photos: Path) -> None:
    browser = open_browser(size=(360, 740))
    fill_pages(browser, url, photos)
    for page in PAGES:
        visit(browser, page)
        assert browser.script("return [document.documentElement.scrollWidth, innerWidth]") == [360, 360], page
    visit(browser, "people")
    browser.click("#people button")
    browser.one("#person-dialog")
    left, right = browser.script(
        "const one = document.querySelector('#person-dialog').getBoundingClientRect(); return [one.left, one.right]"
    )
    assert left >= 0 and right <= 360
    browser.driver.get(f"{url}/docs")
    browser.until(lambda: browser.all("details"))
    assert browser.script("return document.documentElement.scrollWidth") == 360


def test_dark_for_those_who_like_it_dark(url: str, open_browser: OpenBrowser, photos: Path, tmp_path: Path) -> None:
    means = []
    for dark in (False, True):
        browser = open_browser(dark=dark)
        browser.open(f"{url}/#status")
        browser.picture(tmp_path / "page.png", whole=False)
        means.append(float(np.mean(cv2.imread(str(tmp_path / "page.png")))))
    assert means[0] > 225 and means[1] < 60


_CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const over = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const own = walker.currentNode.parentElement;
  const words = walker.currentNode.data.trim().slice(0, 40);
  if (!words || !own.checkVisibility() || own.closest(".unseen, .skip, :disabled, option")) continue;
  const grounds = [];
  for (let one = own; one; one = one.parentElement) grounds.unshift(getComputedStyle(one).backgroundColor);
  const [text, ground] = [light(over([...grounds, getComputedStyle(own).color])), light(over(grounds))];
  found.push([(Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05), words]);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out(url: str, open_browser: OpenBrowser, photos: Path, dark: bool) -> None:
    browser = open_browser(dark=dark)
    fill_pages(browser, url, photos)
    for page in PAGES:
        visit(browser, page)
        contrasts = browser.script(_CONTRASTS)
        assert len(contrasts) > 10
        assert [entry for entry in contrasts if entry[0] < 4.5] == [], page


def test_whatever_can_be_operated_has_a_name(url: str, open_browser: OpenBrowser, photos: Path) -> None:
    browser = open_browser()
    fill_pages(browser, url, photos)
    roles = {
        "button",
        "textbox",
        "searchbox",
        "slider",
        "checkbox",
        "combobox",
        "link",
        "img",
        "image",
        "progressbar",
        "dialog",
    }
    seen: set[str] = set()
    for page in PAGES:
        visit(browser, page)
        if page == "people":
            browser.click("#add-person")
        tree: Any = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
        seen |= {node["role"]["value"] for node in nodes}
        unnamed = [node for node in nodes if not node.get("name", {}).get("value")]
        assert unnamed == [], page
        if page == "people":
            browser.click("#person-dialog [data-close]")
    assert {"button", "slider", "textbox", "link", "image", "dialog"} <= seen


def test_pages_come_with_a_policy_and_work_within_it(url: str, open_browser: OpenBrowser, photos: Path) -> None:
    browser = open_browser()
    fill_pages(browser, url, photos)
    for page in PAGES:
        visit(browser, page)
    refused = browser.script(
        """document.body.append(Object.assign(document.createElement("script"), {textContent: "window.intruder = 1"}));
        return window.intruder === undefined"""
    )
    assert refused
    assert any("Content Security Policy" in fault for fault in browser.faults())
    browser.forgive()
    headers = requests.get(url, timeout=10).headers
    assert "unsafe" not in headers["Content-Security-Policy"] and "Set-Cookie" not in headers
    source = "".join(file.read_text() for file in (ROOT / "face_detection" / "web").rglob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", source)
