"""python -m face_detection watch"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from face_detection.cli.console import remark
from face_detection.cli.parameters import CODE, SECONDS, liveness_option, threshold_options
from face_detection.cli.service import api_key, refusals, url_option
from face_detection.cli.video.frames import MOMENT, SILENT_SECONDS, Camera, Frame, Video
from face_detection.cli.video.live_client import PER_SECOND, LiveClient
from face_detection.cli.video.presence import Visits, event
from face_detection.cli.video.webhook import Webhook
from face_detection.live.visits import LEAVE_AFTER
from shared.calibration import Limit, named_threshold
from shared.signals import asked

_SECRET = "FACE_WEBHOOK_SECRET"

_TRIES = 5
"""Connections that are tried in a row for a file; for a camera there is no end."""

T = TypeVar("T")

Event = Mapping[str, Any]


@click.command(
    epilog="""\b
Examples:
  python -m face_detection watch film.mp4 --every 0.2
  python -m face_detection watch 0
  python -m face_detection watch rtsp://10.0.0.7/stream1 --fps 10 --device 31
  FACE_WEBHOOK_SECRET=... python -m face_detection watch 0 --webhook https://example.org/visits
"""
)
@click.argument("source")
@url_option
@threshold_options
@liveness_option
@click.option("--every", type=SECONDS, help="Least seconds from frame to frame.  [default: every frame]")
@click.option("--fps", type=click.FloatRange(0.001, 1000), help="The same as frames a second.")
@click.option("--device", type=CODE, help="Code of the company's capture device, for the event log.")
@click.option(
    "--leave-after",
    type=SECONDS,
    default=LEAVE_AFTER,
    show_default=True,
    help="Seconds unseen after which somebody has left; whoever is back earlier has not been away.",
)
@click.option("--webhook", metavar="URL", help=f"Post the events there too, signed with the secret in {_SECRET}.")
def watch(
    source: str,
    url: str,
    limit: Limit | None,
    liveness: bool,
    every: float | None,
    fps: float | None,
    device: int | None,
    leave_after: float,
    webhook: str | None,
) -> None:
    """Tell who appears before a camera or in a video, and who leaves, as JSON lines.

    SOURCE is a file, the number of a camera, or the address of a stream (rtsp://, http://). Of a file every frame is
    worked on in order; of a camera or stream the latest, and one that is lost is opened again. Needs a running service,
    which also keeps the events.
    """
    if every and fps:
        raise click.UsageError("--every and --fps say the same: give one of them.")
    secret = os.environ.get(_SECRET, "")
    if webhook and not secret:
        raise click.UsageError(f"--webhook needs a secret in {_SECRET}.")
    if webhook and not re.match(r"https?://[^/?#]", webhook):
        raise click.UsageError("--webhook must be an address like https://example.org/visits.")
    settings = named_threshold(limit) | ({"liveness": True} if liveness else {})
    settings |= {} if device is None else {"device": device}
    period = every or (1 / fps if fps else 0.0)
    with refusals():
        asyncio.run(_run(source, period, max(leave_after, 2 * period), url, settings, webhook, secret))


async def _run(
    source: str,
    period: float,
    patience: float,
    url: str,
    settings: Mapping[str, Any],
    address: str | None,
    secret: str,
) -> None:
    webhook = Webhook(address, secret, remark) if address else None
    told = [_print, webhook.put] if webhook else [_print]
    this, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert this is not None
    # The first signal ends the watching, the second the wait for the webhook.
    with asked(lambda: loop.call_soon_threadsafe(this.cancel)):
        try:
            with suppress(asyncio.CancelledError):
                await _watch(source, period, patience, url, settings, told)
        finally:
            if webhook:
                await webhook.close()
        if webhook and webhook.lost:
            raise click.ClickException(f"The webhook did not take {webhook.lost} of {webhook.events} events.")


def _print(event: Event) -> None:
    click.echo(json.dumps(event, ensure_ascii=False))


async def _watch(
    source: str,
    period: float,
    patience: float,
    url: str,
    settings: Mapping[str, Any],
    told: Sequence[Callable[[Event], None]],
) -> None:
    """Watch until the source ends, or the task is cancelled; then everybody has left."""
    settings = {**settings, "leave_after": patience}
    recorded = Path(source).is_file()
    if recorded:  # it is worked on faster or slower than it was recorded
        settings["fps"] = PER_SECOND
    live = LiveClient(url, api_key(), settings, _TRIES if recorded else None, remark)
    watcher = _Watcher(live, Visits(patience), told)
    try:
        if recorded:
            await watcher.watch_film(Path(source), period)
        else:
            await watcher.watch_camera(int(source) if source.isdecimal() else source, period)
    finally:
        watcher.end()
        await live.close()


class _Watcher:
    """Sends frames to a live session, and tells the events that its answers are."""

    def __init__(self, live: LiveClient, visits: Visits, told: Sequence[Callable[[Event], None]]) -> None:
        self._live = live
        self._visits = visits
        self._told = told
        self._now = 0.0
        self._said = ""
        self._asked: float | None = None

    async def watch_film(self, path: Path, period: float) -> None:
        """See every frame, at the time that it has in the film."""
        video = await asyncio.to_thread(Video, path)
        async with aclosing(_read(video.frames(period))) as frames:
            async for frame in frames:
                self._see(await self._ask(frame), frame.seconds)

    async def watch_camera(self, source: int | str, period: float) -> None:
        """See the latest frame, at the time of its answer. Time passes without frames and without answers, too."""
        camera = await asyncio.to_thread(Camera, source)
        parts = [asyncio.create_task(part) for part in (self._look(camera, period), self._keep_time(camera))]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            camera.close()

    def end(self) -> None:
        """Everybody leaves."""
        self._tell(self._visits.end(self._now))

    async def _look(self, camera: Camera, period: float) -> None:
        async with aclosing(_read(camera.frames(period))) as frames:
            async for frame in frames:
                if frame is not None:
                    self._asked = time.monotonic()
                    faces = await self._ask(frame)
                    self._asked = None
                    self._note(camera)
                    self._see(faces, camera.seconds)

    async def _keep_time(self, camera: Camera) -> None:
        while True:
            await asyncio.sleep(MOMENT)
            self._note(camera)
            # An answer that is on its way may be that everybody is still there.
            if self._asked is None or time.monotonic() - self._asked > SILENT_SECONDS:
                self._see([], camera.seconds)

    async def _ask(self, frame: Frame) -> list[Mapping[str, Any]]:
        """The faces of a frame; none when the service cannot use it."""
        answer = await self._live.ask(await asyncio.to_thread(frame.jpeg), frame.seconds)
        error = answer.get("error", {}).get("message", "")
        if error not in ("", self._said):  # not for each of the frames to which it happens
            remark(error)
        self._said = error
        return [] if error else answer["faces"]

    def _note(self, camera: Camera) -> None:
        """Tell if the camera is lost or back."""
        if change := camera.change():
            if change == "camera_lost":
                remark("The camera gives no more frames; it is opened again.")
            self._tell([event(change, camera.seconds)])

    def _see(self, faces: list[Mapping[str, Any]], now: float) -> None:
        self._now = now
        self._tell(self._visits.see(faces, now, self._live.sessions))

    def _tell(self, events: Iterable[Event]) -> None:
        for one in events:
            for tell in self._told:
                tell(one)


async def _read(items: Iterator[T]) -> AsyncGenerator[T]:
    """What blocks, in a thread."""
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item  # type: ignore[misc]
