"""A client of live sessions: sends frames one at a time, and opens the session again when it is lost."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from shared import exact_json
from shared.errors import ServiceError

PER_SECOND = 1000
"""Numbers of frames are milliseconds."""

_NUMBERS = 2**31
_ANSWER_SECONDS = 90.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LONGEST_REST = 25.0
"""Seconds without a frame after which another session is opened: the service ends those that answer no pings."""

_FINAL_CODES = (4400, 4401, 4403)
_FINAL_STATUSES = (400, 401, 403, 404)
_MAX_ANSWER = 64 << 20

Complain = Callable[[str], None]


class Refused(ServiceError):
    """The service does not want this client, or cannot be reached."""

    code = "refused"


class LiveClient:
    """A live session that is opened again when it is lost. Lives in one event loop.

    Args:
        url: base address of the service.
        key: API key, if it needs one.
        settings: of the session, see docs/api/live.md.
        tries: connections that are tried in a row; None for no end.
        complain: told when the connection is lost.

    Attributes:
        sessions: how many were opened.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        settings: Mapping[str, Any],
        tries: int | None,
        complain: Complain,
    ) -> None:
        self._client = aiohttp.ClientSession()
        self._url = url.rstrip("/") + "/live"
        self._headers = {"X-API-Key": key} if key else {}
        self._settings = settings
        self._tries = tries
        self._complain = complain
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._answered = 0.0
        self.sessions = 0

    async def ask(self, frame: bytes, seconds: float) -> Mapping[str, Any]:
        """The answer to a frame: as docs/api/live.md describes it, with ``faces`` or with ``error``.

        Args:
            frame: a JPEG.
            seconds: its time; not less than before.

        Raises:
            Refused: see above.
        """
        failures, number = 0, round(seconds * PER_SECOND) % _NUMBERS
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
        await self._client.close()

    async def _ask(self, frame: bytes, number: int) -> Mapping[str, Any]:
        if self._socket is not None and time.monotonic() - self._answered > _LONGEST_REST:
            await self._socket.close()
            self._socket = None
        if self._socket is None:
            self._socket = await self._client.ws_connect(
                self._url, headers=self._headers, heartbeat=30, max_msg_size=_MAX_ANSWER
            )
            self.sessions += 1
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
            answer: Mapping[str, Any] = exact_json.loads(message.data)
            if answer["frame"] is None:
                raise Refused(f"The service refuses the settings: {answer['error']['message']}")
            if answer["frame"] == number:
                self._answered = time.monotonic()
                return answer
