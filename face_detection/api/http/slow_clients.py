"""How slow a client may be: none may keep its place among the pending requests by doing next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import StreamReader, web

from shared.errors import RequestTooSlow
from shared.settings import MEBIBYTE


@asynccontextmanager
async def arriving(body: StreamReader, seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Limits the time in which a body is read: each MiB of it, or what is left, has to come within ``seconds``.

    A limit for pauses alone would let a byte now and then keep a place for ever, and one for the whole body would
    have to be as long as the largest body needs.

    Args:
        body: what is read in the context; what it yields is to be called whenever something of it was read.
        seconds: for each MiB, as it is sent: of a compressed body, before it is unpacked.

    Raises:
        RequestTooSlow: it did not come in time.
    """
    counted = 0

    def arrived() -> None:
        nonlocal counted
        if body.total_raw_bytes - counted >= MEBIBYTE:
            counted = body.total_raw_bytes
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    try:
        async with asyncio.timeout(seconds) as limit:
            yield arrived
    except TimeoutError as error:
        raise RequestTooSlow(
            f"The request came too slowly: each MiB of its body, or what is left of it, must come within {seconds:g} "
            "seconds."
        ) from error


@asynccontextmanager
async def leaving(request: web.Request, seconds: float) -> AsyncIterator[None]:
    """Limits the time in which a part of an answer is written: who does not read it is cut off like one that is gone.

    Raises:
        ConnectionAbortedError: the client did not read in time.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError from None
