"""python -m face_detection live"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from face_detection.cli.connection import connected
from face_detection.cli.console import printable
from face_detection.cli.frames import Camera, Frame, Video
from face_detection.cli.parameters import SECONDS, min_distance_option
from face_detection.cli.presence import Presence, Stay
from face_detection.cli.progress import remark
from face_detection.cli.service import Seen, Service
from shared.errors import ServiceError, StartupError


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
    """Prints who comes and who leaves.

    Args:
        as_json: whether to print JSON objects, one a line.
        patience: seconds without a sighting after which somebody has left.
        clock: tells the time, of which the seconds of a frame are told.
    """

    def __init__(self, as_json: bool, patience: float, clock: Callable[[float], str]) -> None:
        self._as_json = as_json
        self._presence = Presence(patience)
        self._clock = clock

    def see(self, seen: list[Seen], now: float) -> None:
        """Take note of the faces of a frame, at a time in seconds."""
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
@min_distance_option
@click.option("--every", type=SECONDS, default=0.5, show_default=True, help="Seconds from frame to frame.")
@click.option(
    "--patience", type=SECONDS, default=3.0, show_default=True, help="Seconds unseen after which one has left."
)
@click.option("--window", is_flag=True, help="Show the picture; space takes a photo and compares it, q quits.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@connected()
def live(
    service: Service,
    source: int | str | Path,
    min_distance: float | None,
    every: float,
    patience: float,
    window: bool,
    as_json: bool,
) -> None:
    """Say who comes and who leaves before a camera.

    SOURCE is the number of a camera, a file, or the address of a stream. Ctrl-C ends it.
    """
    service.prepare()
    plays = isinstance(source, Path) and not window
    announcer = Announcer(as_json, patience, _played if plays else _clock(datetime.now().timestamp()))
    if window:
        _show(service, source, min_distance, every, announcer)
        return
    if isinstance(source, Path):
        _follow(service, Video(source).frames(every), min_distance, announcer)
        return
    with closing(Camera(source)) as camera:
        _follow(service, camera.frames(every), min_distance, announcer)
    raise StartupError(f"{source} gives no more pictures.")


def _follow(service: Service, frames: Iterator[Frame], min_distance: float | None, announcer: Announcer) -> None:
    complaint = ""
    try:
        for frame in frames:
            try:
                announcer.see(list(service.recognise(frame.jpeg(), min_distance)), frame.seconds)
                complaint = ""
            except ServiceError as error:  # a camera outlives a restart of the service
                if error.message != complaint:
                    complaint = error.message
                    remark(complaint)
    finally:
        announcer.leave()


def _show(
    service: Service, source: int | str | Path, min_distance: float | None, every: float, announcer: Announcer
) -> None:
    try:
        # Python is often installed without Tk.
        from face_detection.cli.window import Window
    except ImportError as error:
        raise StartupError(
            "This Python has no tkinter, which windows need. On Debian: apt-get install python3-tk, for the Python of "
            "Debian; with pyenv: apt-get install tk-dev, then install that Python again."
        ) from error
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise StartupError("There is no display (DISPLAY is not set).")
    with closing(Camera(source)) as camera:
        try:
            Window(service, camera, min_distance, every, announcer.see).run()
        finally:
            announcer.leave()


def _played(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02}:{seconds % 60:04.1f}"


def _clock(began: float) -> Callable[[float], str]:
    return lambda seconds: datetime.fromtimestamp(began + seconds).astimezone().isoformat(timespec="seconds")
