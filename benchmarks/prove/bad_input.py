"""Bad input at every door: no answer of 5xx that is not meant so, no traceback, and every answer in time."""

from __future__ import annotations

import asyncio
import multiprocessing
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests

from benchmarks.prove.installation import install, tracebacks
from benchmarks.prove.mutation import Case, Random, case
from benchmarks.prove.promises import Findings, Promise

SEED = 11
SHORT, FULL = 100_000, 1_000_000
REQUEST_TIMEOUT = 20
SLACK = 5
"""Seconds beyond REQUEST_TIMEOUT for reading, queueing and answering on a machine that is busy."""

_PROCESSES = 2
_CONNECTIONS = 12
_MESSAGES = 25
"""Of a live session."""

BY_DESIGN = (503, 504)


@dataclass
class Outcome:
    """What became of cases.

    Attributes:
        statuses: how many answers had each.
        faults: a line for each answer that may not be.
        slowest: seconds.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, made: Case, status: int | None, seconds: float) -> None:
        """Count an answer; ``status`` None is a connection that was closed without one."""
        self.statuses[str(status) if status else "none"] += 1
        self.slowest = max(self.slowest, seconds)
        name = f"case {SEED}:{made.number} {made.method} {made.target[:60]}"
        if status is None or (status >= 500 and status not in BY_DESIGN):
            self.faults.append(f"{name}: {status or 'no answer'}")
        if seconds > REQUEST_TIMEOUT + SLACK:
            self.late.append(f"{name}: {status} after {seconds:.0f} s")

    def merge(self, other: Outcome) -> None:
        """Add those of another process."""
        self.statuses += other.statuses
        self.faults += other.faults
        self.late += other.late
        self.slowest = max(self.slowest, other.slowest)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status of an answer that is read whole, and whether the connection stays.

    Raises:
        asyncio.IncompleteReadError: it was closed before.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"\r\ncontent-length:" in head:
        await reader.readexactly(int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]))
    elif b"chunked" in head:
        while (size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    return status, b"connection: close" not in head


async def _send(url: str, key: str, cases: Iterator[Case], outcome: Outcome) -> None:
    """Send cases over one connection, or as many as the service closes."""
    address = urlsplit(url)
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for made in cases:
        started = time.perf_counter()
        status: int | None = None
        stays = False
        fresh = streams is None
        try:
            streams = streams or await asyncio.open_connection(address.hostname, address.port)
            reader, writer = streams
            writer.write(made.encode(address.netloc, key))
            async with asyncio.timeout(4 * REQUEST_TIMEOUT):
                status, stays = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            if not fresh:  # a kept connection may be closed while it idles: that says nothing of the case
                _close(streams)
                streams = None
                outcome.merge(await _once(url, key, made))
                continue
        outcome.add(made, status, time.perf_counter() - started)
        if not stays:
            _close(streams)
            streams = None
    _close(streams)


async def _once(url: str, key: str, made: Case) -> Outcome:
    """A case over a connection of its own."""
    outcome = Outcome()
    await _send(url, key, iter([made]), outcome)
    return outcome


def _close(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if streams is not None:
        streams[1].close()


async def _talk(url: str, key: str, cases: Iterator[Case], outcome: Outcome) -> None:
    """Live sessions that send the bodies of cases as frames and texts."""
    async with aiohttp.ClientSession(headers={"X-API-Key": key}) as client:
        while parts := [made for made, _ in zip(cases, range(_MESSAGES), strict=False)]:
            async with client.ws_connect(f"{url}/live", max_msg_size=0) as session:
                for made in parts:
                    started = time.perf_counter()
                    answered = await _say(session, made)
                    outcome.add(made, answered, time.perf_counter() - started)
                    if session.closed:
                        break


async def _say(session: aiohttp.ClientWebSocketResponse, made: Case) -> int:
    """Send a body in one of the forms of a frame; 500 for a close code that says that the service failed, else 200."""
    chance = Random(made.number)
    try:
        match chance.randrange(4):
            case 0:
                await session.send_str(made.body[:6000].decode(errors="replace"))
            case 1:
                await session.send_bytes(made.body)
            case _:
                await session.send_bytes(struct.pack(">I", chance.randrange(2**32)) + made.body)
        message = await session.receive(timeout=0.05)
    except TimeoutError:
        return 200  # a change of settings is not answered; a frame may be waiting for its turn
    except (ConnectionError, aiohttp.ClientError):
        return 200  # it was closed before, which was judged then
    failed = message.type is aiohttp.WSMsgType.CLOSE and message.data == aiohttp.WSCloseCode.INTERNAL_ERROR
    dropped = message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    return 500 if failed or dropped else 200


async def _work(url: str, key: str, numbers: range) -> Outcome:
    outcome = Outcome()
    doors = (case(SEED, number) for number in numbers if number % 20)
    live = (case(SEED, number) for number in numbers if not number % 20)
    talking = [_talk(url, key, live, outcome) for _ in range(2)]
    await asyncio.gather(*(_send(url, key, doors, outcome) for _ in range(_CONNECTIONS)), *talking)
    return outcome


def _process(url: str, key: str, numbers: range) -> Outcome:
    return asyncio.run(_work(url, key, numbers))


def prepare(url: str) -> str:
    """Make what the requests speak of, and a key with which they may do everything."""
    key: str = requests.post(
        f"{url}/companies/default/keys", json={"name": "all", "rights": ["admin"]}, timeout=30
    ).json()["key"]
    headers = {"X-API-Key": key}
    paths: dict[str, dict[str, Any]] = {
        "/companies/1042/sectors/7": {"name": "Ground floor"},
        "/companies/1042/devices/31": {"name": "Front door", "sector": 7},
    }
    requests.post(f"{url}/companies", json={"company": "1042", "name": "Acme"}, headers=headers, timeout=30)
    for path, body in paths.items():
        requests.put(f"{url}{path}", json=body, headers=headers, timeout=30).raise_for_status()
    return key


def send_all(url: str, key: str, numbers: range) -> Outcome:
    """Send cases from several processes."""
    whole = Outcome()
    parts = [range(numbers.start + part, numbers.stop, _PROCESSES) for part in range(_PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for outcome in pool.starmap(_process, [(url, key, part) for part in parts]):
            whole.merge(outcome)
    return whole


def prove(folder: Path, full: bool, count: int | None = None) -> Findings:
    """Send the cases, and see that the service still works afterwards."""
    count = count or (FULL if full else SHORT)
    place = folder / "bad_input"
    with install(place, REQUEST_TIMEOUT=str(REQUEST_TIMEOUT), BODY_TIMEOUT="10", LIVE_SESSIONS="64") as services:
        key = prepare(services.front.url)
        started = time.monotonic()
        outcome = send_all(services.front.url, key, range(count))
        rate = count / (time.monotonic() - started)

        ready = requests.get(f"{services.front.url}/readyz", timeout=30).status_code
    of = f"{sum(outcome.statuses.values()):,} bodies ({rate:.0f}/s)"
    seen = ", ".join(f"{status}: {number:,}" for status, number in sorted(outcome.statuses.items()))
    return Findings(
        [
            Promise.none_of("No answer of 5xx but 503 and 504, and none missing", outcome.faults, of),
            Promise.none_of("No traceback in either log", tracebacks(place), of),
            Promise.none_of(
                f"No answer later than {REQUEST_TIMEOUT} s + {SLACK} s",
                outcome.late,
                f"{of}, the slowest took {outcome.slowest:.1f} s",
            ),
            Promise("It is ready afterwards", f"/readyz answers {ready}", ready == 200),
        ],
        f"Seed {SEED}; `benchmarks.prove.mutation.case({SEED}, number)` makes a case again. Answers: {seen}.",
    )
