"""What happens to machines: each fault is answered in documented ways, and afterwards everything works by itself."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import requests

from benchmarks.processes import family
from benchmarks.prove.between import Between, Mood
from benchmarks.prove.installation import data_uri, documented, install, portraits, tracebacks
from benchmarks.prove.promises import Findings, Promise
from deploy.servers import postgres
from deploy.servers.postgres import PostgresServer
from deploy.services import Services

REQUEST_TIMEOUT = 8
SLACK = 4
RECOVERY = 20
"""Seconds within which everything works again."""

_LIMITS = {"REQUEST_TIMEOUT": str(REQUEST_TIMEOUT), "EXTRACTION_TIMEOUT": "4", "BODY_TIMEOUT": "5"}

FAKETIME = Path("/usr/lib")
"""Below it Debian has libfaketime."""


class Probe:
    """Asks everything of a front, and judges the answers.

    Args:
        url: of the front, ready.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: dict[str, int] = {}
        self.faults: list[str] = []
        self._allowed = documented(url)
        self._number = 0
        self._photo = data_uri(portraits()["obama"][0])
        self.works()

    def ask_all(self) -> None:
        """One request of each kind while something is wrong."""
        self._number += 1
        sample = [{"id": f"p{self._number}", "name": "Somebody", "image": self._photo}]
        for method, path, pattern, body in (
            ("POST", "/face-recognition", None, {"image": self._photo}),
            ("POST", "/update-samples", None, sample),
            ("PATCH", "/people/anchor", "/people/{id}", {"metadata": {"n": self._number}}),
            ("GET", "/people", None, None),
            ("GET", "/faces/sync", None, None),
            ("GET", "/readyz", None, None),
            ("DELETE", f"/people/p{self._number}", "/people/{id}", None),
        ):
            self._ask(method, path, pattern or path, body)

    def _ask(self, method: str, path: str, pattern: str, body: Any) -> requests.Response | None:
        started = time.monotonic()
        try:
            response = requests.request(method, self.url + path, json=body, timeout=REQUEST_TIMEOUT + SLACK)
        except requests.RequestException as error:
            self.faults.append(f"{method} {pattern}: {type(error).__name__} after {time.monotonic() - started:.1f} s")
            return None
        status = response.status_code
        self.seen[str(status)] = self.seen.get(str(status), 0) + 1
        if status not in self._allowed[method, pattern] or (status == 500 and '"internal"' in response.text):
            self.faults.append(f"{method} {pattern}: {status} {response.text[:150]}")
        return response

    def works(self) -> None:
        """Somebody can be enrolled, found, changed and deleted; tried until all of it is so.

        Raises:
            TimeoutError: it is not so within ``RECOVERY`` seconds.
        """
        deadline = time.monotonic() + RECOVERY
        while (problem := self._problem()) is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(problem)
            time.sleep(0.2)

    def _problem(self) -> str | None:
        anchor = [{"id": "anchor", "name": "Anchor", "image": self._photo}]
        passing = [{"id": "passing", "name": "Passing", "image": data_uri(portraits()["biden"][0])}]
        steps: list[tuple[str, str, Any, Callable[[Any], bool]]] = [
            ("POST", "/update-samples", anchor, lambda body: body["success"] == ["anchor"]),
            ("POST", "/update-samples", passing, lambda body: body["success"] == ["passing"]),
            ("POST", "/face-recognition", {"image": passing[0]["image"]}, lambda body: body[0]["id"] == "passing"),
            ("PATCH", "/people/anchor", {"name": "Anchor"}, lambda body: body["name"] == "Anchor"),
            ("DELETE", "/people/passing", None, lambda body: True),
            ("POST", "/face-recognition", {"image": passing[0]["image"]}, lambda body: body == []),
        ]
        for method, path, body, right in steps:
            try:
                response = requests.request(method, self.url + path, json=body, timeout=REQUEST_TIMEOUT + SLACK)
                if response.status_code != 200 or not right(response.json()):
                    return f"{method} {path} answers {response.status_code} {response.text[:150]}"
            except requests.RequestException as error:
                return f"{method} {path}: {type(error).__name__}"
        return None


def _judge(text: str, folder: Path, probe: Probe, began: float) -> Promise:
    """The promise of a fault that is over, once it has been waited for that everything works again."""
    seen = ", ".join(f"{status}: {count}" for status, count in sorted(probe.seen.items()))
    faults = probe.faults + [f"traceback in {line}" for line in tracebacks(folder)]
    over = time.monotonic()
    try:
        probe.works()
        after = f"works {time.monotonic() - over:.1f} s after it was over"
    except TimeoutError as error:
        faults.append(f"does not recover: {error}")
        after = "does not work again"
    shown = "".join(f"; {fault}" for fault in faults[:4])
    return Promise(text, f"{seen}; {after} (fault of {over - began:.0f} s){shown}", not faults)


@contextmanager
def _running(folder: Path, **settings: str) -> Iterator[tuple[Services, Probe]]:
    with install(folder, **(_LIMITS | settings)) as services:
        yield services, Probe(services.front.url)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of a few MiB at a folder; False where it cannot be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(folder: Path) -> list[Promise]:
    """No room for the database; without a small file system to fill, no room for longer files."""
    with (
        small_disk(folder / "disk") as mounted,
        _running(folder, DATABASE=str(folder / "disk" / "gallery.db")) as (
            services,
            probe,
        ),
    ):
        began = time.monotonic()
        filler = folder / "disk" / "filler"
        pids = family(services.front.pid)
        if mounted:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(1 << 16)):
                        pass
                except OSError:
                    pass
        else:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        for _ in range(4):
            probe.ask_all()
        if mounted:
            filler.unlink()
        else:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        way = "tmpfs of 6 MiB" if mounted else "RLIMIT_FSIZE"
        return [_judge(f"Disk full ({way}, SQLite)", folder, probe, began)]


def read_only(folder: Path, database: PostgresServer) -> list[Promise]:
    """The database takes no writes for a while, as a standby that was not promoted yet."""
    url = database.database("read_only")
    with _running(folder, DATABASE=url) as (_, probe):
        began = time.monotonic()
        _set_read_only(database, "on")
        for _ in range(3):
            probe.ask_all()
        _set_read_only(database, "off")
        return [_judge("Read-only database (PostgreSQL)", folder, probe, began)]


def _set_read_only(database: PostgresServer, value: str) -> None:
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(0.5)


def read_only_folder(folder: Path) -> list[Promise]:
    """A start on a file system that takes no writes says so in one line, and a start after it was mended succeeds."""
    text = "Read-only folder at start (SQLite)"
    with small_disk(folder / "disk") as mounted:
        if not mounted:
            return [Promise(text, "needs root, to mount a file system", None)]
        disk = str(folder / "disk")
        settings = {**_LIMITS, "DATABASE": f"{disk}/gallery.db"}
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        services = install(folder, **settings)
        services.front.start()
        deadline = time.monotonic() + 30
        while services.front.exit_status is None and time.monotonic() < deadline:
            time.sleep(0.05)
        services.front.stop()
        log = (folder / "front.log").read_text()
        said = [line for line in log.splitlines() if '"CRITICAL"' in line]
        ended = services.front.exit_status
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        with services:
            Probe(services.front.url)
        right = len(said) == 1 and ended not in (0, None) and not tracebacks(folder)
        return [Promise(text, f"ends with status {ended}, {len(said)} line; starts once it can be written", right)]


def clock(folder: Path) -> list[Promise]:
    """The clock is set back and forward under running services."""
    library = next(FAKETIME.glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        return [Promise("Clock set back and forward", "needs libfaketime (on Debian: apt-get install faketime)", None)]
    folder.mkdir(parents=True)
    setting = folder / "time"
    setting.write_text("+0")
    # Python sleeps by the monotonic clock, which libfaketime takes for a fault of the caller when it is not faked.
    (folder / "sitecustomize.py").write_text("import select, time\ntime.sleep = lambda s: select.select([], [], [], s)")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(folder),
    }
    promises = []
    with _running(folder, **fake) as (_, probe):
        for offset, words in (("-2h", "two hours back"), ("+3d", "three days forward"), ("+0", "right again")):
            began = time.monotonic()
            cursor = requests.get(f"{probe.url}/faces/sync", timeout=30).headers["X-Next-Cursor"]
            setting.write_text(offset)
            for _ in range(2):
                probe.ask_all()
            probe.works()
            changes = requests.get(f"{probe.url}/faces/sync", {"last_updated_at": cursor}, timeout=30).json()
            if not any(change.get("name") == "Anchor" for change in changes):
                probe.faults.append("the sync does not tell of a change after the clock was set")
            promises.append(_judge(f"Clock set: {words}", folder, probe, began))
            probe.seen, probe.faults = {}, []
    return promises


def extraction(folder: Path) -> list[Promise]:
    """The extraction service is slow, hangs, or breaks off."""
    promises = []
    services = install(folder, **_LIMITS)
    with Between(int(services.extraction.url.rpartition(":")[2])) as between:
        services.front._environment["EXTRACTION_URL"] = between.url
        with services:
            probe = Probe(services.front.url)
            for mood in (Mood.SLOW, Mood.SILENT, Mood.RUDE):
                began = time.monotonic()
                between.mood = mood
                probe.ask_all()
                between.mood = Mood.HONEST
                promises.append(_judge(f"The way to the extraction service {mood}", folder, probe, began))
                probe.seen, probe.faults = {}, []
    return promises


def half_open(folder: Path) -> list[Promise]:
    """Clients that begin a request and fall silent, in the middle of a head or of a body."""
    with _running(folder) as (_, probe):
        began = time.monotonic()
        address = ("127.0.0.1", urlsplit(probe.url).port)
        head = b"POST /face-recognition HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        connections = []
        for number in range(400):
            connection = socket.create_connection(address, timeout=10)
            connection.sendall(head if number % 2 else head + b"Content-Length: 5000000\r\n\r\nx")
            connections.append(connection)
        for _ in range(3):
            probe.ask_all()
        for connection in connections:
            connection.close()
        # Those that take room are refused with 429, which is documented.
        return [_judge("400 half-open connections", folder, probe, began)]


def paused(folder: Path, database: PostgresServer | None) -> list[Promise]:
    """A process stands still for a while, as on a machine that swaps."""
    promises = []
    settings = {"DATABASE": database.database("paused")} if database else {}
    with _running(folder, FRONT_WORKERS="2", **settings) as (services, probe):
        victims = {"one worker of the front": [family(services.front.pid)[-1]]}
        victims["the extraction service"] = family(services.extraction.pid)
        for words, pids in victims.items():
            began = time.monotonic()
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                if words.startswith("one worker"):
                    time.sleep(3)  # whoever is connected to it waits for as long: that is not what is asked here
                else:
                    probe.ask_all()
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            promises.append(_judge(f"Paused: {words}", folder, probe, began))
            probe.seen, probe.faults = {}, []
        if database is not None:
            began = time.monotonic()
            with database.frozen():
                probe.ask_all()
            promises.append(_judge("Paused: the database", folder, probe, began))
    return promises


def prove(folder: Path, full: bool) -> Findings:
    """Every fault; ``full`` goes through them five times."""
    programs = postgres.programs()
    findings = Findings()
    for number in range(5 if full else 1):
        place = folder / f"faults{number}"
        for trial in (full_disk, read_only_folder, clock, extraction, half_open):
            findings.promises += _try(trial, place / trial.__name__)
        if programs is None:
            findings.promises.append(Promise("PostgreSQL: read-only and paused", postgres.MISSING, None))
            findings.promises += _try(paused, place / "paused", None)
            continue
        with PostgresServer(programs) as server:
            for of_database in (read_only, paused):
                findings.promises += _try(of_database, place / of_database.__name__, server)
    return findings


def _try(trial: Callable[..., list[Promise]], folder: Path, *arguments: PostgresServer | None) -> list[Promise]:
    """A trial; one that cannot be made to its end has kept nothing."""
    try:
        return trial(folder, *arguments)
    except Exception as error:
        return [
            Promise(f"The trial {trial.__name__} comes to its end", f"{type(error).__name__}: {error}"[:400], False)
        ]
