"""Posts events to an address, signed, without holding anything up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from shared import exact_json

MOST_WAITING = 1000
"""Events that wait; beyond it the oldest are lost."""

TRIES = 6
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_TIMEOUT = 10.0
_LAST_SECONDS = 10.0


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The header ``X-Signature``: HMAC-SHA256 over timestamp, full stop and body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Posts one event after the other, in order, from a queue. Lives in one event loop.

    What the receiver refuses (a status from 400 to 499 but 408 and 429) is dropped; for other failures an event is
    posted up to ``TRIES`` times with growing pauses. Redirects are refusals.

    Args:
        url: where to.
        secret: for the signature.
        complain: told what was lost, and why.

    Attributes:
        events: how many were put.
        lost: how many of them the receiver has not taken, and will not.
    """

    def __init__(self, url: str, secret: str, complain: Callable[[str], None]) -> None:
        self._url = url
        self._secret = secret
        self._complain = complain
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._pending = 0
        self.events = 0
        self.lost = 0

    def put(self, event: Mapping[str, Any]) -> None:
        """Let an event be posted. Returns at once."""
        body = exact_json.dumps(event)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        if self._queue.full():
            self._queue.get_nowait()
            self._finish("The webhook does not keep up: an event was lost.")
        self._queue.put_nowait(body)
        self._pending += 1
        self.events += 1

    async def close(self) -> None:
        """Give what is on its way or waits a last chance of some seconds, fewer if the task is cancelled meanwhile."""
        if self._task is None:
            return
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._queue.join()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._pending:
            self._complain(f"The webhook did not take the last {self._pending} of the events, which are lost.")
            self.lost += self._pending
            self._pending = 0

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as client:
            while True:
                body = await self._queue.get()
                reason = await self._deliver(client, body)
                self._finish(reason and f"The webhook did not take an event, which is lost: {reason}.")

    def _finish(self, complaint: str) -> None:
        """One event less waits; with a complaint, it is lost."""
        self._queue.task_done()
        self._pending -= 1
        if complaint:
            self.lost += 1
            self._complain(complaint)

    async def _deliver(self, client: aiohttp.ClientSession, body: bytes) -> str:
        """Post until it was taken; returns why it was not, or nothing."""
        identity, pause, reason = secrets.token_hex(16), _FIRST_PAUSE, ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            timestamp = str(int(time.time()))
            headers = {
                "Content-Type": "application/json",
                "X-Event-Id": identity,
                "X-Timestamp": timestamp,
                "X-Signature": signature(self._secret, timestamp, body),
            }
            try:
                async with client.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                    if response.status < 300:
                        return ""
                    reason = f"status {response.status}"
                    if response.status < 500 and response.status not in (408, 429):
                        return reason
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = type(error).__name__
        return reason
