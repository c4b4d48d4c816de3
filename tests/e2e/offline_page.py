"""The page /offline as a visitor uses it, and its modules called one by one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.e2e.browser import Browser

_CALL = """
const given = [...arguments], done = given.pop();
const blobOf = (text) => new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]);
const at = (name) => import(new URL(`offline/page/${name}.js`, location.href).href);
const work = async (...given) => {
  BODY
};
work(...given).then((value) => done({value}), (error) => done({error: String(error.stack ?? error)}));
"""

_RECOGNISE = """
const [photo] = given;
if (!window.background) {
  const { Background } = await at("background");
  let ready;
  const isReady = new Promise((resolve) => { ready = resolve; });
  window.background = new Background((status) => status.ready && ready());
  await isReady;
}
const { faces } = await window.background.call("recognise", { source: blobOf(photo) });
return faces.map((face) => ({ ...face, embedding: [...face.embedding] }));
"""

_KEPT = """
const { Store } = await at("store");
const store = await Store.open();
const names = await caches.keys(), files = [];
for (const name of names) {
  const requests = await (await caches.open(name)).keys();
  files.push(...requests.map((request) => new URL(request.url).pathname));
}
const found = { state: (await store.state()) ?? null, faces: (await store.faces()).length, files };
store.database.close();
return found;
"""


class OfflinePage:
    """The page in a browser.

    Args:
        browser: it is opened there.
        url: of the front.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        browser.driver.set_script_timeout(60)
        browser.open(f"{url}/offline")

    def call(self, body: str, *arguments: object) -> Any:
        """Run JavaScript that may wait: ``given`` are the arguments, ``at(name)`` is a module of the page."""
        script = _CALL.replace("BODY", body)
        outcome = self.browser.driver.execute_async_script(script, *arguments)  # type: ignore[no-untyped-call]
        assert "error" not in outcome, outcome["error"]
        return outcome.get("value")

    def connect(self, key: str = "") -> None:
        """Fetch the copy, and wait until the page would work without a network."""
        self.ask(key)
        self.until_ready()
        self.browser.one("#summary", "Works without a network.")

    def ask(self, key: str) -> None:
        """Enter a key."""
        self.browser.fill("#key", key)
        self.browser.click("#connect button")

    def until_ready(self) -> None:
        """Wait until faces can be named."""
        self.browser.until(lambda: "threads" in self.browser.text("#summary"), 60)

    def catch_up(self) -> None:
        """Ask the service for what has changed."""
        self.browser.click("#catch-up")

    def until_faces(self, faces: int) -> None:
        """Wait until the copy has a number of faces."""
        self.browser.until(lambda: self.browser.text("#summary").startswith(f"{faces} faces "))

    def until_state(self, state: str) -> None:
        """Wait until the page says online, offline or no copy."""
        self.browser.until(lambda: self.browser.text("#connection") == state)

    def names(self, photo: Path) -> str:
        """What the page says of a photo."""
        before = len(self.browser.all("figure"))
        self.browser.choose("#photos", photo)
        self.browser.until(lambda: len(self.browser.all("figure")) > before)
        self.browser.until(lambda: not self.browser.text("figcaption").endswith("…"))
        return self.browser.text("figcaption").removeprefix(f"{photo.name}: ")

    def faces(self, photo: Path) -> list[dict[str, Any]]:
        """What the worker finds in a photo, with embeddings."""
        found: list[dict[str, Any]] = self.call(_RECOGNISE, text_of(photo.read_bytes()))
        return found

    def kept(self) -> dict[str, Any]:
        """What lies in IndexedDB and in Cache Storage."""
        found: dict[str, Any] = self.call(_KEPT)
        return found


def text_of(data: bytes) -> str:
    """Bytes as a script's argument."""
    return base64.b64encode(data).decode()


def png(pixels: np.ndarray) -> str:
    """A picture as a script's argument: every browser decodes PNG to the same pixels."""
    return text_of(cv2.imencode(".png", pixels)[1].tobytes())


def cosine(a: Any, b: Any) -> float:
    """Cosine of the angle between two embeddings."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
