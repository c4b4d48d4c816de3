"""How the command line ends by signals and when nobody reads what it prints: real processes, at any moment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.servers.waiting import catches, wait_until
from face_detection.gallery import open_gallery
from tests.conftest import ROOT
from tests.gallery_samples import sample, vectors

pytestmark = pytest.mark.processes

SAID = {signal.SIGINT: "Interrupted.\n", signal.SIGTERM: "Terminated.\n", signal.SIGHUP: "Hung up.\n"}
CLIENT = "face_detection"
WEIGHTS = "feature_extraction.weights"

Start = Callable[..., subprocess.Popen[str]]


def heed_interrupts() -> None:
    """What is started in the background of a shell ignores Ctrl-C, and so do its children unless they are told."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path, detector_home: Path) -> Iterator[Start]:
    """Starts a program of this project, which listens to signals when it is returned."""
    started: list[subprocess.Popen[str]] = []
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE": str(tmp_path / "gallery.db"),
        "DEEPFACE_HOME": str(detector_home),
        "EXTRACTION_URL": "http://127.0.0.1:1",
    }

    def start(*arguments: object, module: str = CLIENT, heeding: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts if heeding else None,
        )
        started.append(process)
        wait_until(lambda: catches(process.pid, signal.SIGTERM) or process.poll() is not None)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture
def silence() -> Iterator[tuple[str, threading.Event]]:
    """Address of a server that takes every connection and never answers, and whether somebody has said something."""
    heard = threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                    kept[-1].recv(1)
                except OSError:
                    return
                heard.set()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()
        thread.join()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said on standard error."""
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def expected(number: signal.Signals) -> tuple[int, str]:
    return 128 + number, SAID[number]


@pytest.mark.parametrize("module", [CLIENT, WEIGHTS])
@pytest.mark.parametrize("seconds", [0, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_at_any_moment_of_the_start(start: Start, module: str, seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(
            "people" if module == CLIENT else "list", *(["list", "--local"] * (module == CLIENT)), module=module
        )
        time.sleep(seconds)
        process.send_signal(number)
        assert ended(process) in (expected(number), (0, ""))


def test_impatience(start: Start) -> None:
    for pause in (0.0, 0.01, 0.1):
        process = start("people", "list", "--local")
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        status, said = ended(process)
        assert (status, said) in (expected(signal.SIGINT), (0, ""))


@pytest.mark.parametrize("number", SAID)
@pytest.mark.parametrize("command", ["recognise", "enrol", "verify", "people", "doctor"])
def test_while_a_service_is_silent(
    start: Start,
    silence: tuple[str, threading.Event],
    photos: Path,
    tmp_path: Path,
    command: str,
    number: signal.Signals,
) -> None:
    url, heard = silence
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "somebody.jpg").symlink_to(photos / "obama.jpg")
    arguments: dict[str, tuple[object, ...]] = {
        "recognise": (photos / "obama.jpg", photos / "biden.jpg"),
        "enrol": (tmp_path / "people",),
        "verify": (photos / "obama.jpg", photos / "biden.jpg"),
        "people": ("list",),
        "doctor": (),
    }
    process = start(command, *arguments[command], "--url", url)
    assert heard.wait(60)
    process.send_signal(number)
    assert ended(process) == expected(number)


def test_while_it_asks(start: Start, silence: tuple[str, threading.Event]) -> None:
    process = start("people", "delete", "--all", "--url", silence[0])
    assert process.stderr is not None
    assert process.stderr.read(6) == "Delete"
    process.send_signal(signal.SIGINT)
    status, said = ended(process)
    assert status == 130 and "Interrupted.\n" in said


@pytest.mark.parametrize("command", ["live", "watch"])
def test_while_a_library_waits_for_a_camera(start: Start, silence: tuple[str, threading.Event], command: str) -> None:
    """OpenCV does not come back to Python for half a minute."""
    url, heard = silence
    process = start(command, f"{url}/stream", *(("--local",) if command == "live" else ()))
    assert heard.wait(90)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert ended(process) == expected(signal.SIGINT) and time.monotonic() - began < 20


def test_the_second_does_not_wait_for_what_the_first_ends_in_order(start: Start, photos: Path, tmp_path: Path) -> None:
    """The child that has to end first is stopped."""
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "somebody.jpg").symlink_to(photos / "obama.jpg")
    process = start("enrol", tmp_path / "people", "--local")
    gunicorns: list[psutil.Process] = []

    def find() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):
                if "gunicorn" in child.cmdline():
                    gunicorns.append(child)
        return bool(gunicorns)

    wait_until(find, seconds=60)
    gunicorns[0].suspend()
    try:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None and process.stderr.readline() == "Interrupted.\n"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
    finally:
        gunicorns[0].resume()
    wait_until(lambda: not gunicorns[0].is_running())


def test_signals_that_it_was_told_to_ignore(start: Start, tmp_path: Path) -> None:
    """As by nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("people", "list", "--local", heeding=False)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert not catches(process.pid, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert ended(process)[0] == 0


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (CLIENT, ("--help",)),
        (CLIENT, ("people", "list", "--local")),
        (CLIENT, ("people", "list", "--local", "--json")),
        (CLIENT, ("people", "show", "nobody", "--local")),
        (CLIENT, ("events", "--local")),
        (CLIENT, ("keys", "list")),
        (CLIENT, ("doctor",)),
        (WEIGHTS, ("list",)),
        (WEIGHTS, ("--help",)),
    ],
)
def test_nobody_reads_what_it_prints(start: Start, tmp_path: Path, module: str, arguments: tuple[str, ...]) -> None:
    store = open_gallery(str(tmp_path / "gallery.db")).store
    store.add("default", [sample(f"p{number}", vector) for number, vector in enumerate(vectors(3000, 128, 5))])
    store.close()
    process = start(*arguments, module=module)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) in (0, 1) and (said == "" or "nobody" in arguments), said
    assert "Traceback" not in said and "BrokenPipe" not in said
