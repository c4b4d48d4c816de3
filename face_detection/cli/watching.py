"""Sends the frames of a source to a live session, one at a time, and tells who comes and who leaves."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson

from face_detection.cli.frames import Camera, Frame, Video
from face_detection.cli.visits import Visits
from shared.errors import InvalidRequest, ServiceError

_ANSWER_SECONDS = 90.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_TRIES = 5
"""Connections that are tried in a row for a file; for a camera there is no end."""

_PER_SECOND = 1000
_NUMBERS = 2**31
_FINAL_CODES = (4400, 4401, 4403)
_FINAL_STATUSES = (400, 401, 403, 404)
_MAX_ANSWER = 64 << 20

Complain = Callable[[str], None]


class Refused(ServiceError):
    """The service does not want this client, or cannot be reached."""

    code = "refused"


class EventSink(Protocol):
    """Takes events, and returns at once."""

    def put(self, event: Mapping[str, Any]) -> None:
        """Take one."""


def is_file(source: str) -> bool:
    """Whether a source ends by itself and is worked on completely."""
    return Path(source).is_file()


async def frames_of(source: str, period: float, complain: Complain) -> AsyncGenerator[Frame]:
    """The frames of a file in order, or always the latest of a camera or stream.

    Args:
        source: path of a file, number of a camera, or address of a stream.
        period: least seconds from frame to frame.
        complain: told when a camera is gone, which is then opened again and again.

    Raises:
        InvalidRequest: it cannot be opened.
    """
    if is_file(source):
        video = await asyncio.to_thread(Video, Path(source))
        async with aclosing(_read(video.frames(period))) as frames:
            async for frame in frames:
                yield frame
        return
    began, pause = time.monotonic(), _FIRST_PAUSE
    known = int(source) if source.isdecimal() else source
    camera = await asyncio.to_thread(Camera, known)
    while True:
        try:
            async with aclosing(_read(camera.frames(period))) as frames:
                async for frame in frames:
                    pause = _FIRST_PAUSE
                    yield frame._replace(seconds=time.monotonic() - began)
        finally:
            camera.close()
        complain(f"{source} gives no more frames; it is opened again.")
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            with suppress(InvalidRequest):
                camera = await asyncio.to_thread(Camera, known)
                break


async def _read(frames: Iterator[Frame]) -> AsyncGenerator[Frame]:
    """What blocks, in a thread."""
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        yield frame


class LiveClient:
    """A live session that is opened again when it is lost.

    Args:
        client: for the connections.
        url: base address of the service.
        key: API key, if it needs one.
        settings: of the session, see docs/api/live.md.
        tries: connections that are tried in a row; None for no end.
        complain: told when the connection is lost.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        url: str,
        key: str | None,
        settings: Mapping[str, Any],
        tries: int | None,
        complain: Complain,
    ) -> None:
        self._client = client
        self._url = url.rstrip("/") + "/live"
        self._headers = {"X-API-Key": key} if key else {}
        self._settings = settings
        self._tries = tries
        self._complain = complain
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def ask(self, frame: bytes, seconds: float) -> Mapping[str, Any]:
        """The answer to a frame: as docs/api/live.md describes it, with ``faces`` or with ``error``.

        Args:
            frame: a JPEG.
            seconds: its time; not less than before.

        Raises:
            Refused: see above.
        """
        failures, number = 0, round(seconds * _PER_SECOND) % _NUMBERS
        while True:
            try:
                return await self._ask(frame, number)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in _FINAL_STATUSES:
                    raise Refused(f"The service refuses: status {error.status}.") from error
                self._socket = None
                failures += 1
                if failures == self._tries:
                    raise Refused(f"The service at {self._url} cannot be reached.") from error
                if failures == 1:
                    self._complain("The connection to the service is lost; it is tried again.")
                await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))

    async def close(self) -> None:
        """End the session."""
        if self._socket is not None:
            await self._socket.close()

    async def _ask(self, frame: bytes, number: int) -> Mapping[str, Any]:
        if self._socket is None:
            self._socket = await self._client.ws_connect(
                self._url, headers=self._headers, heartbeat=30, max_msg_size=_MAX_ANSWER
            )
            if self._settings:
                await self._socket.send_json(self._settings)
        await self._socket.send_bytes(struct.pack(">I", number) + frame)
        while True:
            message = await self._socket.receive(_ANSWER_SECONDS)
            if message.type is not aiohttp.WSMsgType.TEXT:
                code = self._socket.close_code
                if code in _FINAL_CODES:
                    raise Refused(f"The service ended the session: {message.extra or code}.")
                raise ConnectionResetError(code)
            answer: Mapping[str, Any] = orjson.loads(message.data)
            if answer["frame"] is None:
                raise Refused(f"The service refuses the settings: {answer['error']['message']}")
            if answer["frame"] == number:
                return answer


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
        source, period, complain: see ``frames_of``.
        patience: see ``Visits``.
        url, key, settings: see ``LiveClient``.
        sinks: get the events.

    Raises:
        InvalidRequest, Refused: see above.
    """
    visits, now, said = Visits(patience), 0.0, ""
    recorded = is_file(source)
    if recorded:  # it is worked on faster or slower than it was recorded
        settings = {**settings, "fps": _PER_SECOND}

    def tell(events: list[dict[str, Any]]) -> None:
        for event in events:
            for sink in sinks:
                sink.put(event)

    async with aiohttp.ClientSession() as client:
        live = LiveClient(client, url, key, settings, _TRIES if recorded else None, complain)
        try:
            async with aclosing(frames_of(source, period, complain)) as frames:
                async for frame in frames:
                    now = frame.seconds
                    answer = await live.ask(await asyncio.to_thread(frame.jpeg), now)
                    error = answer.get("error", {}).get("message", "")
                    if error not in ("", said):  # not for each of the frames to which it happens
                        complain(error)
                    said = error
                    if not error:
                        tell(visits.see(answer["faces"], now))
        finally:
            tell(visits.end(now))
            await live.close()
