"""A window with what a camera sees: who is before it, and a photo to be compared at the press of a key."""

from __future__ import annotations

import time
import tkinter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import click
import cv2

from face_detection.cli.console import printable
from face_detection.cli.service.protocol import Recognise, Seen
from face_detection.cli.video.frames import SILENT_SECONDS, Camera, Frame
from face_detection.recognition.drawing import Mark, annotate
from shared.errors import ServiceError, StartupError
from shared.images import Pixels

_PERIOD = 33
"""Milliseconds from picture to picture."""

_RESULT_SECONDS = 4.0
_MOST_WIDTH, _MOST_HEIGHT = 1280, 760
_HINT = "Space: take a photo    Q: quit"
_LOST = "The camera gives no pictures."
_PLAIN, _GOOD, _BAD = "#303030", "#1d6b2b", "#8b1a1a"


class Window:
    """Runs in the thread that made it, which must be the main thread on some systems.

    Args:
        recognise: asked who is on an encoded picture, from a thread of the window's own.
        camera: what to show.
        every: seconds from one recognition to the next.
        saw: told of the faces of each frame and the time in seconds, which passes also while there are none.

    Raises:
        StartupError: there is no display.
    """

    def __init__(
        self,
        recognise: Recognise,
        camera: Camera,
        every: float,
        saw: Callable[[list[Seen], float], None],
    ) -> None:
        try:
            self.root = tkinter.Tk(className="Faces")
        except tkinter.TclError as error:
            raise StartupError(f"No window can be opened: {error}.") from error
        self._name = recognise
        self._camera = camera
        self._every = every
        self._saw = saw
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="recognise")
        self._frame: Frame | None = None
        self._seen: Sequence[Seen] = ()
        self._asked: tuple[Frame, Future[list[Seen]]] | None = None
        self._photo: tuple[Frame, Future[list[Seen]]] | None = None
        self._is_new = False
        self._lost = False
        self._live_from = 0.0
        self._next = 0.0
        self._image: tkinter.PhotoImage | None = None
        self._failure: BaseException | None = None
        self.root.title("Faces")
        self.root.configure(background=_PLAIN)
        self._picture = tkinter.Label(self.root, background=_PLAIN)
        self._picture.pack(expand=True, fill="both")
        self.headline = tkinter.Label(self.root, foreground="white", background=_PLAIN, font=("TkDefaultFont", 24))
        self.headline.pack(fill="x", ipady=8)
        self._say(_HINT, _PLAIN)
        self.root.bind("<space>", lambda _: self._take_photo())
        for key in ("<q>", "<Q>", "<Escape>"):
            self.root.bind(key, lambda _: self.root.quit())
        self.root.protocol("WM_DELETE_WINDOW", self.root.quit)
        # What fails in a callback ends the window instead of being printed and forgotten.
        self.root.report_callback_exception = self._fail

    def run(self) -> None:
        """Show until q is pressed, the window is closed, or the video ends."""
        try:
            self.root.after(0, self._tick)
            self.root.focus_force()
            self.root.mainloop()
        finally:
            self._worker.shutdown(cancel_futures=True)
            # Nothing is left to the garbage collector: Tk aborts the process when another thread frees it.
            self._image = None
            self.root.destroy()
            del self.root.report_callback_exception
        if self._failure is not None:
            raise self._failure

    def _tick(self) -> None:
        if self._camera.ended and self._photo is None:
            self.root.quit()
            return
        if (frame := self._camera.latest()) is not None:
            self._frame, self._is_new = frame, True
        if self._photo is not None:
            self._finish_photo()
        elif self._camera.lost:
            self._seen, self._asked, self._lost = (), None, True
            self._saw([], self._camera.seconds)
            self._say(_LOST, _BAD)
        elif time.monotonic() >= self._live_from:
            if self._live_from or self._lost:
                self._live_from, self._lost = 0.0, False
                self._say(_HINT, _PLAIN)
            self._recognise()
            if self._frame is not None:
                self._draw(self._frame.pixels, self._seen)
        self.root.after(_PERIOD, self._tick)

    def _recognise(self) -> None:
        """Ask who is there, if it is time, and take note of the answer, if there is one."""
        if self._asked is not None and self._asked[1].done():
            _, answer = self._asked
            self._asked = None
            try:
                self._seen = answer.result()
            except ServiceError as error:
                self._seen = ()
                self._say(error.message, _BAD)
            self._saw(list(self._seen), self._camera.seconds)
        elif self._asked is not None and self._camera.seconds - self._asked[0].seconds > SILENT_SECONDS:
            self._saw([], self._camera.seconds)
        if self._asked is None and self._frame is not None and self._is_new and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self._is_new = False
            self._asked = self._frame, self._ask(self._frame)

    def _take_photo(self) -> None:
        if self._frame is None or self._photo is not None or self._lost:
            return
        self._photo = self._frame, self._ask(self._frame)
        self._draw(self._frame.pixels, ())
        self._say("Comparing ...", _PLAIN)

    def _finish_photo(self) -> None:
        assert self._photo is not None
        frame, answer = self._photo
        if not answer.done():
            return
        self._photo = None
        self._live_from = time.monotonic() + _RESULT_SECONDS
        try:
            seen = answer.result()
        except ServiceError as error:
            self._say(error.message, _BAD)
            return
        self._draw(frame.pixels, seen)
        text, good = _verdict(seen)
        self._say(text, _GOOD if good else _BAD)
        click.echo(f"photo: {text}")

    def _ask(self, frame: Frame) -> Future[list[Seen]]:
        return self._worker.submit(lambda: list(self._name(frame.jpeg())))

    def _draw(self, pixels: Pixels, seen: Sequence[Seen]) -> None:
        pixels = pixels.copy()
        for number, one in enumerate(seen, 1):
            annotate(pixels, Mark(one.box, None if one.id is None else one.name), number)
        height, width = pixels.shape[:2]
        scale = min(1.0, _MOST_WIDTH / width, _MOST_HEIGHT / height)
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        _, encoded = cv2.imencode(".ppm", pixels)
        self._image = tkinter.PhotoImage(master=self.root, data=encoded.tobytes(), format="PPM")
        self._picture.configure(image=self._image)

    def _say(self, text: str, colour: str) -> None:
        self.headline.configure(text=printable(text), background=colour)

    def _fail(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        self._failure = error
        self.root.quit()


def _verdict(seen: Sequence[Seen]) -> tuple[str, bool]:
    """What a photo has shown, and whether it is somebody known."""
    if not seen:
        return "No face", False
    names = [f"{one.name} ({one.distance})" for one in seen if one.id is not None]
    return (", ".join(names), True) if names else ("Not recognised", False)
