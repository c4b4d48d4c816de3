"""The command line as real processes: on running services, and without any."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.servers.waiting import wait_until
from deploy.services import Services
from face_detection.cli import transfer
from face_detection.cli.service.protocol import Record
from face_detection.gallery import open_gallery
from tests.conftest import ROOT
from tests.gallery_samples import vectors

pytestmark = pytest.mark.e2e

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    folder = tmp_path / "people"
    (folder / "Barack_Obama").mkdir(parents=True)
    for name in ("obama.jpg", "obama2.jpg"):
        shutil.copy(photos / name, folder / "Barack_Obama")
    shutil.copy(photos / "biden.jpg", folder / "Joe_Biden.jpg")
    return folder


@pytest.fixture
def alone(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of commands that find no service: they start one, which takes least with this model."""
    own = {"DATABASE": str(tmp_path / "alone.db"), "EXTRACTION_URL": "http://127.0.0.1:1", "MODEL": "dlib"}
    return environment | own


def run(environment: dict[str, str], *arguments: object, status: int = 0) -> str:
    """Run a command; what it prints."""
    done = subprocess.run(command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def environment_of(services: Services) -> dict[str, str]:
    """The settings with which services run."""
    return services.front._environment


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "face_detection", *map(str, arguments)]


def faces(output: str) -> list[Any]:
    return [(face["id"], face["distance"], face["bbox"]) for one in json.loads(output) for face in one["faces"]]


def test_the_whole_way_with_a_service(services: Services, url: str, folder: Path, photos: Path, tmp_path: Path) -> None:
    there, place, file = environment_of(services), ("--url", url), tmp_path / "people.jsonl"
    assert run(there, "enrol", folder, *place) == "Enrolled 2 people with 3 photos.\n"
    before = faces(run(there, "recognise", photos / "obama3.jpg", photos / "t1.jpg", "--json", *place))
    assert before[0][0] == "Barack_Obama" and len(before) == 7
    assert run(there, "verify", photos / "obama.jpg", photos / "obama3.jpg", *place).startswith("same")
    assert run(there, "verify", photos / "obama.jpg", photos / "biden.jpg", *place, status=1).startswith("different")
    assert run(there, "export", file, *place) == "Exported 2 people with 3 photos.\n"
    run(there, "people", "delete", "--all", "--yes", *place)
    assert run(there, "people", "list", *place) == ""
    # Into the database of the service, while it runs.
    assert run(there, "import", file, "--local") == "Imported 2 people.\n"
    assert faces(run(there, "recognise", photos / "obama3.jpg", photos / "t1.jpg", "--json", *place)) == before
    findings = json.loads(run(there, "doctor", "--json", *place))
    assert {one["state"] for one in findings} <= {"ok", "note"}
    assert any(one["what"] == f"service at {url}" and "3 photos" in one["found"] for one in findings)


def test_the_whole_way_without_a_service(alone: dict[str, str], folder: Path, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    assert run(alone, "enrol", folder, "--local") == "Enrolled 2 people with 3 photos.\n"
    before = faces(run(alone, "recognise", photos / "obama3.jpg", "--json", "--local"))
    assert before[0][0] == "Barack_Obama"
    assert run(alone, "verify", photos / "obama.jpg", photos / "obama3.jpg", "--local").startswith("same")
    run(alone, "verify", photos / "obama.jpg", photos / "biden.jpg", "--local", status=1)
    run(alone, "export", file, "--local")
    other = alone | {"DATABASE": str(tmp_path / "other.db")}
    assert run(other, "import", file, "--local") == "Imported 2 people.\n"
    assert faces(run(other, "recognise", photos / "obama3.jpg", "--json", "--local")) == before
    run(other | {"MODEL": "sface"}, "import", file, "--local", status=1)


def test_no_process_is_left_behind(alone: dict[str, str], folder: Path, children: Callable[[int], list[int]]) -> None:
    """However the command ends: by itself, by Ctrl-C, or killed."""
    for number in (None, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            command("enrol", folder, "--local"),
            cwd=ROOT,
            env=alone,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=heed_interrupts,
        )
        started: list[int] = []
        while process.poll() is None and not started:
            started = [child for child in children(process.pid) if "gunicorn" in command_line(child)]
            time.sleep(0.01)
        assert started
        if number is not None:
            process.send_signal(number)
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == {None: 0, signal.SIGINT: 130, signal.SIGKILL: -9}[number], complaints
        assert b"Traceback" not in complaints
        deadline = time.monotonic() + 40
        while "gunicorn" in command_line(started[0]):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def heed_interrupts() -> None:
    """What is started in the background of a shell ignores Ctrl-C, and so do its children unless they are told."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_an_interrupted_enrolment_leaves_whole_photos(
    services: Services, url: str, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(160):
        shutil.copy(photos / "obama.jpg", folder / f"p{number:03}.jpg")
    environment = environment_of(services)
    process = subprocess.Popen(
        command("enrol", folder, "--url", url),
        cwd=ROOT,
        env=environment,
        preexec_fn=heed_interrupts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: bool(requests.get(f"{url}/people", timeout=10).json()["people"]))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    time.sleep(3)  # the service may still be at work on the last request
    people = json.loads(run(environment, "people", "list", "--json", "--url", url))
    assert 0 < len(people) < 160 and len(people) % 32 == 0 and {one["photos"] for one in people} == {1}
    assert run(environment, "enrol", folder, "--url", url) == "Enrolled 160 people with 160 photos.\n"


def test_an_interrupted_import_goes_on(alone: dict[str, str], tmp_path: Path) -> None:
    file, rows = tmp_path / "people.jsonl", vectors(6000, 128, 5)
    transfer.write_file(file, (Record(f"p{n:04}", "", None, None, [("a/b/c/d", rows[n])] * 2) for n in range(6000)))
    arguments = ("import", file, "--local", "--space", "any")
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=alone,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    store = open_gallery(alone["DATABASE"]).store
    while not store.count("default"):
        assert process.poll() is None
        time.sleep(0.01)
    store.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    people = json.loads(run(alone, "people", "list", "--local", "--json"))
    assert process.returncode == 130 and 0 < len(people) < 6000 and len(people) % 200 == 0
    assert {one["photos"] for one in people} == {2}
    assert run(alone, *arguments) == f"Imported {6000 - len(people)} people.\n"


def test_a_broken_pipe_is_quiet(alone: dict[str, str], tmp_path: Path) -> None:
    file, rows = tmp_path / "people.jsonl", vectors(3000, 128, 5)
    transfer.write_file(file, (Record(f"p{n:04}", "x" * 100, None, None, [("a/b/c/d", rows[n])]) for n in range(3000)))
    run(alone, "import", file, "--local", "--space", "any")
    listing = subprocess.Popen(
        command("people", "list", "--local"), cwd=ROOT, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None and listing.stderr is not None
    assert listing.stdout.readline().startswith(b"ID")
    listing.stdout.close()
    assert listing.stderr.read() == b"" and listing.wait(30) == 1
    listing.stderr.close()


def test_standard_input_and_a_key_from_the_environment(
    start_services: Callable[..., Services], photos: Path, folder: Path
) -> None:
    services = start_services()
    settings = environment_of(services) | {"FACE_URL": services.front.url}
    run(settings, "enrol", folder)
    key = run(settings, "keys", "create", "door", "--right", "recognise").strip()
    picture = (photos / "obama3.jpg").read_bytes()

    def recognise(environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        arguments = command("recognise", "-", "--json")
        return subprocess.run(arguments, cwd=ROOT, env=environment, input=picture, capture_output=True, timeout=60)

    refused = recognise(settings)
    assert refused.returncode == 1 and b"FACE_API_KEY" in refused.stderr and refused.stdout == b""
    done = recognise(settings | {"FACE_API_KEY": key})
    assert done.returncode == 0 and faces(done.stdout.decode())[0][0] == "Barack_Obama"
    run(settings | {"FACE_API_KEY": key}, "people", "list", status=1)


def test_shells_can_complete(alone: dict[str, str]) -> None:
    program = alone | {"FACE_PROGRAM": "face"}
    for shell in ("bash", "zsh", "fish"):
        script = run(program | {"_FACE_COMPLETE": f"{shell}_source"})
        assert "_FACE_COMPLETE" in script and "face" in script and "python -m" not in script
    words = program | {"_FACE_COMPLETE": "bash_complete", "COMP_WORDS": "face peo", "COMP_CWORD": "1"}
    assert run(words) == "plain,people\n"
    assert run(program, "--help").startswith("Usage: face [OPTIONS]")


@pytest.mark.skipif(shutil.which("script") is None, reason="needs the program script for a terminal")
def test_progress_is_shown_on_a_terminal_only(alone: dict[str, str], folder: Path) -> None:
    shown = subprocess.run(
        ["script", "-qec", f"stty rows 30 cols 100; {' '.join(command('enrol', folder, '--local'))}", "/dev/null"],
        cwd=ROOT,
        env=alone | {"TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0 and re.search(r"\d+%\|", shown.stdout)
    assert shown.stdout.splitlines()[-1].endswith("Enrolled 2 people with 3 photos.")
