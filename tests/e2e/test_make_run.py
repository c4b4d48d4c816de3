"""How ``make run`` ends, however it is ended, and that nothing stays behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.servers.waiting import catches, wait_until
from shared.service_process import ServiceProcess, free_port
from tests.conftest import ROOT

pytestmark = pytest.mark.e2e

RUN = [sys.executable, "-m", "deploy.run"]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def settings(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {
        "MODEL": "dlib",  # the fastest to start
        "EXTRACTION_BIND": f"127.0.0.1:{free_port()}",
        "FRONT_BIND": f"127.0.0.1:{free_port()}",
        "DATABASE": str(tmp_path / "gallery.db"),
    }


@pytest.fixture
def start(settings: dict[str, str]) -> Iterator[Start]:
    """Starts it, in a group of processes of its own as a shell does, and waits until it prints some words."""
    started: list[subprocess.Popen[str]] = []

    def start(words: str, command: list[str] = RUN, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=settings | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(process)
        assert process.stdout is not None
        printed = ""
        while words not in printed:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            printed += line
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def servants(settings: dict[str, str]) -> list[psutil.Process]:
    """All processes of services that run with these settings."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("FRONT_BIND") == settings["FRONT_BIND"]:
                found.append(process)
    return found


def said(process: subprocess.Popen[str]) -> str:
    """What it says on standard error until it ends."""
    return process.communicate(timeout=60)[1]


def nothing_stays(settings: dict[str, str]) -> None:
    wait_until(lambda: not servants(settings), lambda: str(servants(settings)), seconds=60)


def test_a_second_interrupt_ends_everything_at_once(start: Start, settings: dict[str, str]) -> None:
    process = start("curl")
    front = next(
        one for one in servants(settings) if one.ppid() == process.pid and "face_detection" in str(one.cmdline())
    )
    front.suspend()  # an orderly end would take until somebody kills it
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "Stopping" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert said(process) == "" and process.returncode == 130 and time.monotonic() - began < 30
    assert not servants(settings)


def test_impatience_without_end(start: Start, settings: dict[str, str]) -> None:
    process = start("curl")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert said(process) == "" and process.returncode in (0, 130)
    assert not servants(settings)


def test_terminate_may_come_twice(start: Start, settings: dict[str, str]) -> None:
    """As from make, and from whoever ends make with all its processes."""
    process = start("curl")
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
    assert said(process) == "" and process.returncode == 0
    assert not servants(settings)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts(start: Start, settings: dict[str, str], number: signal.Signals) -> None:
    process = start("Starting")
    process.send_signal(number)
    words = {signal.SIGINT: "Interrupted.\n", signal.SIGTERM: "Terminated.\n", signal.SIGHUP: "Hung up.\n"}
    assert said(process) == words[number] and process.returncode == 128 + number
    assert not servants(settings)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.3, 0.6])
def test_a_signal_during_imports(settings: dict[str, str], seconds: float) -> None:
    with subprocess.Popen(RUN, cwd=ROOT, env=settings, stdout=-1, stderr=-1, text=True, process_group=0) as process:
        wait_until(lambda: catches(process.pid, signal.SIGTERM))
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        assert said(process) == "Interrupted.\n" and process.returncode == 130
    nothing_stays(settings)


@pytest.mark.parametrize("words", ["Starting", "curl"])
def test_the_services_end_when_it_is_killed(start: Start, settings: dict[str, str], words: str) -> None:
    process = start(words)
    process.kill()
    nothing_stays(settings)


def test_workers_end_when_their_master_is_killed(start: Start, settings: dict[str, str]) -> None:
    process = start("curl")
    master = next(one for one in servants(settings) if one.ppid() == process.pid)
    workers = master.children()
    assert workers
    master.kill()
    assert "has ended with status -9" in said(process) and process.returncode == 1
    nothing_stays(settings)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_make(start: Start, settings: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    """Of whose rules the one that matters is taken as it stands; the others would install packages."""
    makefile = tmp_path / "Makefile"
    (recipe,) = re.findall(r"^run:.*\n(\t.*deploy\.run)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    makefile.write_text(f"BIN := {Path(sys.executable).parent}\nrun:\n{recipe}\n")
    process = start("curl", ["make", "-f", str(makefile), "run"])
    process.send_signal(number)
    said(process)
    nothing_stays(settings)


def test_nobody_reads_what_it_prints(start: Start, settings: dict[str, str]) -> None:
    process = start("Starting")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 141
    assert not servants(settings)


def test_a_leftover_is_said_to_be_one(settings: dict[str, str], tmp_path: Path) -> None:
    left = ServiceProcess("feature_extraction", settings["EXTRACTION_BIND"], settings, tmp_path / "log")
    left.start()
    try:
        left.wait_until_ready(120)
        error = subprocess.run(RUN, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
        assert error.returncode == 1 and len(error.stderr.splitlines()) == 1
        assert f"feature_extraction of an earlier start still runs, as process {left.pid}" in error.stderr
        os.kill(int(error.stderr.split()[-1]), signal.SIGTERM)
        wait_until(lambda: left.exit_status is not None)
    finally:
        left.stop()


def test_it_runs_already(start: Start, settings: dict[str, str]) -> None:
    process = start("curl")
    error = subprocess.run(RUN, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
    assert error.returncode == 1 and len(error.stderr.splitlines()) == 1
    assert f"make run is at work already, as process {process.pid}. End it with: kill {process.pid}" in error.stderr
