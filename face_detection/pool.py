"""Blocking work of the gallery, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

_THREADS = 8


class GalleryPool:
    """Threads for searches and for the database.

    Apart from those that decode, so that a write that waits for the database's lock holds up no picture.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gallery")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of some work; log lines that it writes have the request's id."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)

    def close(self) -> None:
        """Finish what runs."""
        self._threads.shutdown()
