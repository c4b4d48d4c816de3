"""The front in a thread of this process, for tests of clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from face_detection.app import create_app
from shared.settings import FrontSettings


@contextmanager
def running_front(settings: FrontSettings) -> Iterator[str]:
    """Address of a front with these settings."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(create_app(settings))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    try:
        runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
