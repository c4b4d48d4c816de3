"""Sends the frames of a source to a live session, and tells who comes and who leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, TypeVar

from face_detection.cli.video.frames import MOMENT, SILENT_SECONDS, Camera, Frame, Video
from face_detection.cli.video.live_client import PER_SECOND, Complain, LiveClient
from face_detection.cli.video.presence import Visits, event

_TRIES = 5
"""Connections that are tried in a row for a file; for a camera there is no end."""

T = TypeVar("T")


class EventSink(Protocol):
    """Takes events, and returns at once."""

    def put(self, event: Mapping[str, Any]) -> None:
        """Take one."""


async def watch(
    source: str,
    period: float,
    patience: float,
    url: str,
    key: str | None,
    settings: Mapping[str, Any],
    sinks: list[EventSink],
    complain: Complain,
) -> None:
    """Watch until the source ends, or the task is cancelled; then everybody has left.

    Args:
        source: path of a file, of which all frames are worked on in order; number of a camera, or address of a stream,
            of which always the latest is.
        period: least seconds from frame to frame.
        patience: see ``Visits``.
        url, key, settings, complain: see ``LiveClient``.
        sinks: get the events.

    Raises:
        InvalidRequest: the source cannot be opened.
        Refused: see ``LiveClient.ask``.
    """
    settings = {**settings, "leave_after": patience}
    recorded = Path(source).is_file()
    if recorded:  # it is worked on faster or slower than it was recorded
        settings["fps"] = PER_SECOND
    live = LiveClient(url, key, settings, _TRIES if recorded else None, complain)
    watcher = _Watcher(live, Visits(patience), sinks, complain)
    try:
        if recorded:
            await watcher.watch_film(Path(source), period)
        else:
            await watcher.watch_camera(int(source) if source.isdecimal() else source, period)
    finally:
        watcher.end()
        await live.close()


class _Watcher:
    def __init__(self, live: LiveClient, visits: Visits, sinks: Iterable[EventSink], complain: Complain) -> None:
        self._live = live
        self._visits = visits
        self._sinks = sinks
        self._complain = complain
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
            self._complain(error)
        self._said = error
        return [] if error else answer["faces"]

    def _note(self, camera: Camera) -> None:
        """Tell if the camera is lost or back."""
        if change := camera.change():
            if change == "camera_lost":
                self._complain("The camera gives no more frames; it is opened again.")
            self._tell([event(change, camera.seconds)])

    def _see(self, faces: list[Mapping[str, Any]], now: float) -> None:
        self._now = now
        self._tell(self._visits.see(faces, now, self._live.sessions))

    def _tell(self, events: Iterable[Mapping[str, Any]]) -> None:
        for one in events:
            for sink in self._sinks:
                sink.put(one)


async def _read(items: Iterator[T]) -> AsyncGenerator[T]:
    """What blocks, in a thread."""
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item  # type: ignore[misc]
