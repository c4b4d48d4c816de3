"""Children that end with their parents: real processes, and parents that get no chance to say anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.servers.waiting import wait_until
from shared import tethered
from tests.conftest import ROOT

pytestmark = pytest.mark.processes

CHILD = """
import os, signal, sys, time
def end(number, frame):
    open(sys.argv[1], "a").write("in order")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "w").write(str(os.getpid()) + " ")
time.sleep(600)
"""

PARENT = """
import sys, time
from shared import tethered
tethered.start("child_program", *sys.argv[1:])
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, str]:
    """The environment in which a module is found that says how it ends in the file that it is told."""
    (tmp_path / "child_program.py").write_text(CHILD)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


@pytest.fixture
def parent(modules: dict[str, str], diary: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PARENT, str(diary)]
    with subprocess.Popen(command, cwd=tmp_path, env=modules, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"started\n"
        wait_until(lambda: diary.exists() and diary.read_text().endswith(" "))
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_in_order_with_its_parent(
    parent: subprocess.Popen[bytes], diary: Path, number: signal.Signals
) -> None:
    child = int(diary.read_text())
    assert psutil.pid_exists(child)
    parent.send_signal(number)
    wait_until(lambda: diary.read_text() == f"{child} in order" and not psutil.pid_exists(child))


def test_a_child_says_nothing_of_the_end_of_its_parent(
    tmp_path: Path, modules: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "telling.py").write_text(
        "import time; from shared.signals import end_at_once; end_at_once(); print(1, flush=True); time.sleep(600)"
    )
    with tethered.start("telling", environment=modules, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
    assert process.returncode == 128 + signal.SIGTERM and capfd.readouterr().err == ""


def test_a_child_ends_when_nobody_waits_for_it_any_more(modules: dict[str, str], diary: Path) -> None:
    with tethered.start("child_program", str(diary), environment=modules) as process:
        wait_until(lambda: diary.exists() and diary.read_text().endswith(" "))
    assert process.returncode == 3 and diary.read_text() == f"{process.pid} in order"


def test_a_child_gets_arguments_and_gives_its_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "answering.py").write_text("import sys; print(sys.argv[0][-12:], sys.argv[1:]); sys.exit(5)")
    assert tethered.run("answering", "-c", "a b", cwd=tmp_path) == 5
    assert capfd.readouterr().out == "answering.py ['-c', 'a b']\n"


def test_children_find_the_packages_from_anywhere(tmp_path: Path) -> None:
    found = tethered.python_environment({"PYTHONPATH": "/elsewhere"})
    assert found["PYTHONPATH"] == f"{ROOT}:/elsewhere"
    with tethered.start("face_detection", "--help", cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and "enrol" in process.stdout.read()
        assert process.wait() == 0
