"""Chromium without a window, driven by Selenium, for the tests of the web console."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")

INSTALL = "The tests of the web console need Chromium: apt-get install chromium chromium-driver"

_SETTLED = """
const main = document.querySelector("main[aria-busy=false]");
const tab = document.querySelector(".tabs a[aria-current=page]");
return main !== null && (!location.hash || !tab?.hash || tab.hash === location.hash);
"""

# Selenium's own ways of telling whether an element is displayed, and its text, take ten times as long.
_ONE = """
const [selector, text] = arguments;
return [...document.querySelectorAll(selector)].find((element) => {
  const shown = element.closest("select") ?? element;  // options have no boxes until it is opened
  const { width, height } = shown.getBoundingClientRect();
  return width > 0 && height > 0 && shown.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})
    && (element.innerText ?? "").includes(text);
}) ?? null;
"""

_REACH = """
arguments[0].scrollIntoView({block: "center"});
return !arguments[0].matches(":disabled");
"""

_DROP = """
const [kind, target, files] = arguments, data = new DataTransfer();
for (const [name, text] of files) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  data.items.add(new File([bytes], name, {type: "image/jpeg"}));
}
const event = kind === "paste" ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true, cancelable: true})
  : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
document.querySelector(target).dispatchEvent(event);
"""


def programs() -> tuple[str, str]:
    """Paths of Chromium and its driver; fails with the command that installs them."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    assert found[0] and found[1], INSTALL
    return found[0], found[1]


class Browser:
    """A browser with a profile of its own.

    Args:
        downloads: folder for what the page saves.
        camera: .y4m or .mjpeg that the camera shows over and over; None leaves the page without a camera.
        dark: whether the visitor prefers dark colours.
        size: width and height of the page in pixels.
        names: host names that lead to this machine.
    """

    def __init__(
        self,
        downloads: Path,
        camera: Path | None = None,
        dark: bool = False,
        size: tuple[int, int] = (1280, 900),
        names: Sequence[str] = (),
    ) -> None:
        chromium, driver = programs()
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--hide-scrollbars",
            f"--window-size={size[0]},{size[1]}",
        ):
            options.add_argument(argument)
        if names:
            rules = ", ".join(f"MAP {name} 127.0.0.1" for name in names)
            options.add_argument(f"--host-resolver-rules={rules}")
        if camera is not None:
            options.add_argument("--use-fake-ui-for-media-stream")
            options.add_argument("--use-fake-device-for-media-stream")
            options.add_argument(f"--use-file-for-fake-video-capture={camera}")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._messages: list[str] = []
        self._addresses: set[str] = set()
        self._hosts: set[str] = set()
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        self.resize(*size)

    def open(self, url: str) -> None:
        """Load a page of the console, and wait until it works."""
        self._hosts.add(urlsplit(url).netloc)
        self.driver.get(url)
        self.settle()

    def settle(self) -> None:
        """Wait until the page that is shown works, and is the one that the address names."""
        self.until(lambda: self.script(_SETTLED))

    def turn_to(self, tab: str) -> None:
        """Go to another page of the console."""
        self.click(".tabs a", tab)
        self.settle()

    def until(self, condition: Callable[[], T | None], seconds: float = 30) -> T:
        """The first true value of a condition; one that the page replaces or hides meanwhile is looked at again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = condition()
            except (ElementNotInteractableException, StaleElementReferenceException):
                value = None
            if value:
                return value
            assert time.monotonic() < deadline, f"{self.text('body')}\n{self.faults()}"
            time.sleep(0.05)

    def all(self, selector: str) -> Sequence[WebElement]:
        """All elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str, text: str = "") -> WebElement:
        """The first visible element of a selector that has the text, waited for."""
        found: WebElement = self.until(lambda: self.script(_ONE, selector, text))
        return found

    def text(self, selector: str) -> str:
        """Text of the first element of a selector, empty where there is none."""
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str, text: str = "") -> None:
        """Press what ``one`` finds, once it can be pressed."""

        def press() -> bool:
            element = self.one(selector, text)
            if not self.script(_REACH, element):
                return False
            element.click()
            return True

        self.until(press)

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of a field."""

        def type_in() -> bool:
            field = self.one(selector)
            field.clear()
            field.send_keys(text)
            return True

        self.until(type_in)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files, or one folder, in a file field."""
        self.all(selector)[0].send_keys("\n".join(str(file) for file in files))

    def give(self, kind: str, target: str, *files: Path) -> None:
        """``drop`` or ``paste`` files on an element."""
        contents = [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files]
        self.script(_DROP, kind, target, contents)

    def slide(self, selector: str, value: float) -> None:
        """Move a slider."""
        self.script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.one(selector),
            value,
        )

    def pick(self, selector: str, value: str) -> None:
        """Choose an entry of a list, by its value."""
        self.click(f"{selector} option[value='{value}']")

    def script(self, text: str, *arguments: object) -> Any:
        """Run JavaScript in the page."""
        return self.driver.execute_script(text, *arguments)

    def faults(self) -> list[str]:
        """Errors of the page's scripts, and what its policy kept it from; answers with an error status are none."""
        self._messages += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        harmless = ("Failed to load resource: ", "WebSocket connection to ")
        return [message for message in self._messages if not any(words in message for words in harmless)]

    def forgive(self) -> None:
        """Forget the faults so far: they were wanted."""
        self._messages.clear()

    def requests(self) -> list[tuple[str, str]]:
        """Method and address of all requests since the last call, WebSockets among them."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            parameters = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                found.append((parameters["request"]["method"], parameters["request"]["url"]))
            elif message["method"] == "Network.webSocketCreated":
                found.append(("WEBSOCKET", parameters["url"]))
        self._addresses |= {address for _, address in found}
        return found

    def strangers(self) -> set[str]:
        """Hosts that requests went to, but those of the opened pages."""
        self.requests()
        parts = [urlsplit(address) for address in self._addresses]
        return {part.netloc for part in parts if part.scheme in ("http", "https", "ws", "wss")} - self._hosts

    def resize(self, width: int, height: int) -> None:
        """Give the page another size: narrower, too, than a window can be."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def allow(self, *permissions: str) -> None:
        """Grant permissions that a visitor would be asked for."""
        self.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": list(permissions)})

    def pixels(self, selector: str) -> NDArray[np.uint8]:
        """What the first canvas of a selector shows: (height, width, 3) uint8 BGR."""
        data = self.script("return document.querySelector(arguments[0]).toDataURL('image/png')", selector)
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture.astype(np.uint8)

    def picture(self, file: Path, whole: bool = True) -> None:
        """Save what the page looks like, down to its end if ``whole``, as PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        width, height, end = self.script("return [innerWidth, innerHeight, document.documentElement.scrollHeight]")
        if whole:
            self.resize(width, end)
        time.sleep(0.3)  # for what has come into view to be painted
        file.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))
        self.resize(width, height)
