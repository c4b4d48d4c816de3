"""Twice of what the service can do, and hostile clients besides: it goes on doing what it can, and refuses the rest."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests

from benchmarks.load import Load, generate, request
from benchmarks.processes import resident_bytes
from benchmarks.prove.installation import data_uri, install, portraits, tracebacks
from benchmarks.prove.promises import Findings, Promise
from deploy.services import Services

SHORT, FULL = 90, 3600
"""Seconds."""

PENDING = 256
"""MAX_PENDING_REQUESTS, of which the one address of the load has half while it is alone."""

_CALIBRATION = 8
"""Seconds."""

_CONNECTIONS = 400
_HOSTILE = "127.0.0.2"
"""Their address: what they hold is theirs."""

REFUSALS = frozenset({429, 503})


class Memory:
    """Watches what a service's processes occupy, while the context lasts."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mebibytes: list[float] = []

    def _watch(self) -> None:
        while not self._over.wait(1):
            pids = (self._services.front.pid, self._services.extraction.pid)
            self.mebibytes.append(sum(map(resident_bytes, pids)) / 2**20)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def grown(values: list[float]) -> tuple[float, float, float]:
    """Means of the second and the last quarter of some values, and by which part the one has grown to the other."""
    quarter = max(1, len(values) // 4)
    second, last = float(np.mean(values[quarter : 2 * quarter])), float(np.mean(values[-quarter:]))
    return second, last, last / second - 1


async def _slow(url: str) -> None:
    """Announces a picture and sends a byte of it a second."""
    while True:
        with suppress(OSError):
            _, writer = await _connect(url)
            head = b"POST /face-recognition HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
            writer.write(head + b"Content-Length: 3000000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(1)
        await asyncio.sleep(0.1)


async def _deaf(url: str) -> None:
    """Asks over and over and reads no answer."""
    while True:
        with suppress(OSError, TimeoutError):
            _, writer = await _connect(url)
            while True:
                writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await asyncio.wait_for(writer.drain(), 5)
                await asyncio.sleep(0.2)
        await asyncio.sleep(1)


async def _babbling(url: str) -> None:
    """Sends nonsense, and goes."""
    chance = random.Random(11)
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await _connect(url)
            writer.write(request(url, "/face-recognition", chance.randbytes(2000), "image/jpeg"))
            await reader.readline()
            writer.close()
        await asyncio.sleep(0.2)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port, local_addr=(_HOSTILE, 0))


async def _annoy(url: str) -> None:
    tasks = [_slow(url) for _ in range(40)] + [_deaf(url) for _ in range(10)] + [_babbling(url) for _ in range(4)]
    await asyncio.gather(*tasks)


def _hostile(url: str) -> None:
    asyncio.run(_annoy(url))


def judge(best: float, load: Load, memory: list[float], bound: float) -> list[Promise]:
    """What a run says of the promises.

    Args:
        best: answers per second without overload.
        memory: MiB, second by second.
        bound: seconds within which 99 % of what is accepted must be answered.
    """
    seen = ", ".join(f"{status}: {count:,}" for status, count in sorted(load.statuses.items()))
    others = {status: count for status, count in load.statuses.items() if status != 200 and status not in REFUSALS}
    second, last, growth = grown(memory)
    p99 = load.percentile(99)
    return [
        Promise(
            "Goodput at twice the capacity is at least 0.9 of the best rate",
            f"{load.rate:.1f}/s of {best:.1f}/s: {load.rate / best:.2f}",
            load.rate >= 0.9 * best,
        ),
        Promise("What is refused is refused with 429 or 503", seen, not others),
        Promise(
            "99 % of what is accepted is answered before all that may wait could have been done 1.5 times",
            f"{p99:.1f} s, bound {bound:.1f} s",
            p99 <= bound,
        ),
        Promise(
            "Memory in the last quarter is within 3 % of that in the second",
            f"{second:.0f} MiB, {last:.0f} MiB: {growth:+.1%}",
            growth <= 0.03,
        ),
    ]


def prove(folder: Path, full: bool) -> Findings:
    """Find the best rate, then send twice as much."""
    place = folder / "overload"
    seconds = FULL if full else SHORT
    with install(place, MAX_PENDING_REQUESTS=str(PENDING)) as services:
        url = services.front.url
        sample = {"name": "Somebody", "image": data_uri(portraits()["biden"][0])}
        requests.post(f"{url}/update-samples", json=[{"id": "1", **sample}], timeout=60).raise_for_status()
        prepared = [request(url, "/face-recognition", photo, "image/jpeg") for photo in portraits()["obama"]]
        generate(url, prepared, 8, 3)  # until everything is warm
        best = max(generate(url, prepared, clients, _CALIBRATION).rate for clients in (4, 8, 16))
        annoyers = multiprocessing.get_context("spawn").Process(target=_hostile, args=(url,), daemon=True)
        annoyers.start()
        try:
            with Memory(services) as memory:
                load = generate(url, prepared, _CONNECTIONS, seconds, 2 * best)
        finally:
            annoyers.kill()
            annoyers.join()
        over = time.monotonic()
        services.front.wait_until_ready(30)
        ready = time.monotonic() - over
    promises = judge(best, load, memory.mebibytes, 1.5 * PENDING / best)
    promises.append(Promise("It is ready at once when it is over", f"after {ready:.1f} s", ready < 5))
    promises.append(Promise.none_of("No traceback in either log", tracebacks(place), f"{seconds} s"))
    return Findings(promises, f"{seconds} s at {2 * best:.0f} requests/s, 54 hostile connections from another address.")
