"""Blocking work of the gallery, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

_THREADS = 8

_WRITERS = 32
"""Threads that write: they mostly wait for one another, and give up together when the database stays locked."""


class GalleryPool:
    """Threads for searches and for the database: some that read, others that write.

    Apart from those that decode, and from each other, so that a write that waits for the database's lock holds up
    neither a picture nor a search.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gallery")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of some work that does not write; log lines that it writes have the request's id."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)

    async def write(self, work: Callable[[], T]) -> T:
        """The same of work that changes the database, and so may have to wait for whoever else does."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, copy_context().run, work)

    def close(self) -> None:
        """Finish what runs; what has not begun is dropped."""
        self._writers.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)
