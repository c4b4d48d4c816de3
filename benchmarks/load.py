"""A load generator that costs little: prepared requests over keep-alive connections, in one process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Load:
    """What a run of the generator saw.

    Attributes:
        rate: answers with status 200 per second.
        latencies: seconds of each of them; with a given rate counted from when the request was due, so that
            waiting for a busy connection counts too.
        statuses: how many answers had each status.
    """

    rate: float
    latencies: np.ndarray[tuple[int], np.dtype[np.float64]]
    statuses: Counter[int]

    @property
    def failures(self) -> int:
        """Answers with another status than 200."""
        return self.statuses.total() - self.statuses[200]

    def percentile(self, percent: float) -> float:
        """Seconds within which ``percent`` of the answers came."""
        return float(np.percentile(self.latencies, percent))


def request(url: str, path: str, body: bytes, content_type: str) -> bytes:
    """A whole POST request, ready to be sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def generate(url: str, requests: Sequence[bytes], clients: int, seconds: float, rate: float | None = None) -> Load:
    """Send requests from ``clients`` connections for some seconds.

    Args:
        url: address of the server.
        requests: sent in turn.
        clients: connections at once.
        seconds: length of the run.
        rate: requests per second in all; None sends each as soon as the one before was answered.
    """
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_main, args=(theirs, url, list(requests), clients, seconds, rate)
    )
    process.start()
    passed, latencies, statuses = ours.recv()
    process.join()
    return Load(len(latencies) / passed, np.array(latencies), statuses)


def _main(pipe: Connection, url: str, requests: list[bytes], clients: int, seconds: float, rate: float | None) -> None:
    pipe.send(asyncio.run(_run(url, requests, clients, seconds, rate)))


async def _run(
    url: str, requests: list[bytes], clients: int, seconds: float, rate: float | None
) -> tuple[float, list[float], Counter[int]]:
    address = urlsplit(url)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    sent = 0
    started = time.perf_counter()

    async def client() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while True:
            number, sent = sent, sent + 1
            due = time.perf_counter() if rate is None else started + number / rate
            if due - started > seconds:
                break
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            writer.write(requests[number % len(requests)])
            status = await _status(reader)
            statuses[status] += 1
            if status == 200:
                latencies.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - started, latencies, statuses


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
