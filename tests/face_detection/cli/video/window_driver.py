"""Presses keys in the window of ``live``, and says what it showed: python -m (this module) FILM [ADDRESS].

A process of its own, since Tk ends the whole process when another thread than the one that made it frees it. The film
is compared with the gallery of the settings; with an address, the extraction service moves there after one answer.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path

import numpy as np
from PIL import ImageGrab

from face_detection.cli.service.local import LocalService
from face_detection.cli.service.protocol import Seen
from face_detection.cli.video.frames import Camera
from face_detection.cli.video.window import Window
from shared.settings import FrontSettings

BOX_OF_THE_KNOWN = (40, 120, 40)


class Driver:
    """Looks at the headline, presses space after two answers, and q after the result."""

    def __init__(self, service: LocalService, camera: Camera, elsewhere: str | None) -> None:
        self._service = service
        self._elsewhere = elsewhere
        self.told: list[tuple[list[str | None], float]] = []
        self.headlines: list[str] = []
        self.boxes: list[int] = []
        self.window = Window(service.recognise, camera, 0.2, self.saw)

    def saw(self, seen: list[Seen], now: float) -> None:
        self.told.append(([one.id for one in seen], now))
        if self._elsewhere:
            self._service._core.extraction._workers.all[0].url = self._elsewhere

    def note(self) -> None:
        text = str(self.window.headline.cget("text"))
        if [text] != self.headlines[-1:]:
            self.headlines.append(text)

    def boxed(self) -> int:
        """How many pixels of the display have the colour of a known face's box."""
        self.window.root.update_idletasks()
        self.window.root.winfo_pointerxy()  # an answer of the display, which has drawn everything then
        picture = np.asarray(ImageGrab.grab())[:, :, ::-1].astype(int)
        return int((np.abs(picture - BOX_OF_THE_KNOWN).max(axis=2) < 6).sum())

    def look(self) -> None:
        root = self.window.root
        self.note()
        if len(self.headlines) == 1 and len(self.told) >= 2:
            self.boxes.append(self.boxed())
            root.event_generate("<space>")
            self.note()
            root.event_generate("<space>")  # while one is compared another changes nothing
        if len(self.headlines) == (2 if self._elsewhere else 3):
            self.boxes.append(self.boxed())
            root.event_generate("<q>")
        else:
            root.after(20, self.look)


def main() -> None:
    """Show the film, and print what was seen as JSON."""
    service = LocalService(FrontSettings.from_environment(), "default")
    service.prepare()
    camera = Camera(Path(sys.argv[1]))
    gc.disable()
    driver = Driver(service, camera, sys.argv[2] if len(sys.argv) > 2 else None)
    driver.window.root.after(0, driver.look)
    driver.window.run()
    window = weakref.ref(driver.window.root)
    del driver.window
    camera.close()
    service.close()
    seen = {"told": driver.told, "headlines": driver.headlines, "boxes": driver.boxes}
    print(json.dumps(seen | {"freed": window() is None}))


if __name__ == "__main__":
    main()
