"""python -m face_detection live"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from face_detection.cli.console import printable, remark
from face_detection.cli.parameters import SECONDS, detection_option, json_option, liveness_option, threshold_options
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import How, Recognise, Seen, Service
from face_detection.cli.video.frames import SILENT_SECONDS, Camera, Frame, Video
from face_detection.cli.video.presence import Presence, Stay
from face_detection.live.visits import LEAVE_AFTER
from shared.calibration import Limit
from shared.errors import ServiceError, StartupError
from shared.models import Effort

T = TypeVar("T")


class _Source(click.ParamType[int | str | Path]):
    name = "source"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str | Path:
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) < 4:
            return int(text)
        if "://" in text:
            return text
        if Path(text).exists():
            return Path(text)
        self.fail(f"{text} is no number of a camera, no file and no address.", param, ctx)


class Announcer:
    """Prints who comes and who leaves, and whether the camera is there.

    Args:
        as_json: whether to print JSON objects, one a line.
        patience: seconds without a sighting after which somebody has left.
        clock: tells the time, of which the seconds of a frame are told.
    """

    def __init__(self, as_json: bool, patience: float, clock: Callable[[float], str]) -> None:
        self._as_json = as_json
        self._presence = Presence(patience)
        self._clock = clock

    def look(self, camera: Camera) -> None:
        """Take note of whether a camera gives frames."""
        if event := camera.change():
            at, text = self._clock(camera.seconds), event.replace("_", " is ")
            click.echo(json.dumps({"at": at, "event": event}) if self._as_json else f"{at}  the {text}")

    def see(self, seen: list[Seen], now: float) -> None:
        """Take note of the faces of a frame, or that time has passed without one, at a time in seconds."""
        come, left = self._presence.see(seen, now)
        for stay in left:
            self._say("leaves", stay, stay.end)
        for stay in come:
            self._say("comes", stay, stay.begin)

    def leave(self) -> None:
        """Everybody leaves, since nothing more will be seen."""
        for stay in self._presence.leave():
            self._say("leaves", stay, stay.end)

    def _say(self, what: str, stay: Stay, seconds: float) -> None:
        at = self._clock(seconds)
        if self._as_json:
            known = {"at": at, "event": what, "id": stay.id, "name": stay.name}
            click.echo(json.dumps(known | {"distance": stay.distance, "frames": stay.frames}))
            return
        name = "unknown" if stay.id is None else printable(stay.name or stay.id)
        detail = f"distance {stay.distance}" if what == "comes" else f"after {stay.end - stay.begin:.1f} s"
        click.echo(f"{at}  {name} {what}, {detail}")


@click.command(
    epilog="""\b
Examples:
  python -m face_detection live                        the first camera
  python -m face_detection live 1 --window             the second one; space takes a photo and compares, q quits
  python -m face_detection live rtsp://10.0.0.7/main --json
  python -m face_detection live film.mp4
"""
)
@click.argument("source", type=_Source(), default="0")
@threshold_options
@liveness_option
@detection_option
@click.option("--every", type=SECONDS, default=0.5, show_default=True, help="Seconds from frame to frame.")
@click.option(
    "--patience",
    type=SECONDS,
    default=LEAVE_AFTER,
    show_default=True,
    help="Seconds unseen after which one has left; whoever is back earlier has not been away.",
)
@click.option("--window", is_flag=True, help="Show the picture; space takes a photo and compares it, q quits.")
@json_option("Print a JSON object a line.")
@connected()
def live(
    service: Service,
    source: int | str | Path,
    limit: Limit | None,
    liveness: bool,
    detection: Effort | None,
    every: float,
    patience: float,
    window: bool,
    as_json: bool,
) -> None:
    """Say who comes and who leaves before a camera.

    SOURCE is the number of a camera, a file, or the address of a stream. A camera or stream that is lost is opened
    again. Ctrl-C ends it.
    """
    service.prepare()
    plays = isinstance(source, Path) and not window
    announcer = Announcer(as_json, max(patience, 2 * every), _played if plays else _clock(datetime.now().timestamp()))
    recognise = partial(service.recognise, how=How(limit, liveness, detection))
    if window:
        _show(recognise, source, every, announcer)
        return
    if isinstance(source, Path):
        _follow(recognise, Video(source).frames(every), announcer, lambda frame: frame.seconds)
        return
    with closing(Camera(source)) as camera:
        frames = _frames_of(camera, every, announcer)
        _follow(recognise, frames, announcer, lambda _: camera.seconds)


def _frames_of(camera: Camera, every: float, announcer: Announcer) -> Iterator[Frame]:
    """The latest frames of a camera; while there are none, time passes."""
    for frame in camera.frames(every):
        announcer.look(camera)
        if frame is not None:
            yield frame
        else:
            announcer.see([], camera.seconds)


def _follow(
    recognise: Recognise,
    frames: Iterator[Frame],
    announcer: Announcer,
    now: Callable[[Frame], float],
) -> None:
    """Tell of each frame; ``now`` tells the time when it was recognised, or how late it is while there is no answer."""
    complaint = ""
    try:
        for frame in frames:
            asked = _begun(partial(recognise, frame.jpeg()))
            while not wait([asked], SILENT_SECONDS).done:
                announcer.see([], now(frame))
            seen: list[Seen] = []
            try:
                seen = list(asked.result())
                complaint = ""
            except ServiceError as error:  # a camera outlives a restart of the service
                if error.message != complaint:
                    complaint = error.message
                    remark(complaint)
            announcer.see(seen, now(frame))
    finally:
        announcer.leave()


def _begun(work: Callable[[], T]) -> Future[T]:
    """Work in a thread of its own, for which nobody waits when the command ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="recognise", daemon=True).start()
    return future


def _show(recognise: Recognise, source: int | str | Path, every: float, announcer: Announcer) -> None:
    try:
        # Python is often installed without Tk.
        from face_detection.cli.video.window import Window
    except ImportError as error:
        raise StartupError(
            "This Python has no tkinter, which windows need. On Debian: apt-get install python3-tk, for the Python of "
            "Debian; with pyenv: apt-get install tk-dev, then install that Python again."
        ) from error
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise StartupError("There is no display (DISPLAY is not set).")
    with closing(Camera(source)) as camera:

        def saw(seen: list[Seen], now: float) -> None:
            announcer.look(camera)
            announcer.see(seen, now)

        try:
            Window(recognise, camera, every, saw).run()
        finally:
            announcer.leave()


def _played(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02}:{seconds % 60:04.1f}"


def _clock(began: float) -> Callable[[float], str]:
    return lambda seconds: datetime.fromtimestamp(began + seconds).astimezone().isoformat(timespec="seconds")
