"""Work beside the requests, which nobody waits for: it must not end because of an error that nobody sees.

Whatever it raises is logged, and the work begins again after a pause that grows while it goes on failing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds after the first failure, and at most; each further one doubles the pause."""


class _Pauses:
    """How long to wait after each failure of some work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pause = 0.0
        self._began = time.monotonic()

    def failed(self) -> float:
        """Log the exception that is being handled; seconds until the work may begin again."""
        steady = time.monotonic() - self._began > LONGEST_PAUSE
        self._pause = FIRST_PAUSE if steady or not self._pause else min(2 * self._pause, LONGEST_PAUSE)
        log.exception("%s has failed and begins again in %g seconds", self._name, self._pause)
        self._began = time.monotonic() + self._pause
        return self._pause


def start_thread(name: str, work: Callable[[], None], stopped: threading.Event) -> threading.Thread:
    """Start a daemon thread which works until ``work`` returns.

    Args:
        name: of the thread.
        work: blocks. When it raises, it is called again.
        stopped: set when it is wanted no longer: then it is not called again.
    """

    def run() -> None:
        pauses = _Pauses(name)
        while True:
            try:
                return work()
            except Exception:
                if stopped.wait(pauses.failed()):
                    return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


async def until_done(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """The same in an event loop: returns when ``work`` does, or is cancelled.

    Args:
        name: for the log.
        work: when it raises, it is called again.
    """
    pauses = _Pauses(name)
    while True:
        try:
            return await work()
        except Exception:
            await asyncio.sleep(pauses.failed())
