"""Work in the background goes on, and nothing in the services works there without it."""

from __future__ import annotations

import ast
import asyncio
import logging
import threading

import pytest

from shared import background
from shared.background import start_thread, until_done
from tests.conftest import ROOT

OWN_CARE = {
    "shared/background.py": "it is what the others use",
    "face_detection/gallery/search/memory.py": "builds once, and catches everything",
    "shared/signals.py": "only waits for signals, and then ends the process",
    "shared/tethered.py": "only reads, and then ends the process",
    "feature_extraction/service.py": "loads once; a failure ends the process",
    "feature_extraction/draining.py": "a timer that ends the process",
    "face_detection/api/own/live_conversation.py": "waits for its tasks, and raises what they raise",
    "face_detection/app.py": "starts until_done",
    "face_detection/extraction/client.py": "its tasks return their errors",
    "face_detection/recognition/readiness.py": "whoever asks waits for the task",
    "face_detection/recognition/service.py": "whoever writes waits for the task",
    "face_detection/recognition/enrolment.py": "a group of tasks",
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)


class Work:
    """Fails so many times before it is done."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.done = threading.Event()

    def __call__(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise ValueError("no")
        self.done.set()


def test_a_thread_begins_again_until_it_is_done(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(3)
    thread = start_thread("digging", work, threading.Event())
    assert work.done.wait(30)
    thread.join(30)
    assert not thread.is_alive()
    failures = [record for record in caplog.records if record.message.startswith("digging has failed")]
    assert [record.levelno for record in failures] == [logging.ERROR] * 3 and all(one.exc_info for one in failures)
    assert [record.message.split()[-2] for record in failures] == ["0.001", "0.002", "0.004"]


def test_a_thread_that_is_not_wanted_does_not_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(background, "LONGEST_PAUSE", 1000.0)
    stopped, work = threading.Event(), Work(10)
    thread = start_thread("digging", work, stopped)
    stopped.set()
    thread.join(30)
    assert not thread.is_alive() and work.left == 9


async def test_a_task_begins_again_until_it_is_done_or_cancelled() -> None:
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise ValueError("no")

    await until_done("digging", work)
    assert attempts == 4
    task = asyncio.create_task(until_done("sleeping", lambda: asyncio.sleep(1000)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def starts_something(tree: ast.AST) -> bool:
    """Whether a module starts threads or tasks."""
    names = {"create_task", "ensure_future", "Thread", "Timer", "run_coroutine_threadsafe"}
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any((getattr(call, "attr", None) or getattr(call, "id", None)) in names for call in calls)


def test_every_other_thread_and_task_is_known() -> None:
    """Whoever adds one uses ``shared.background``, or says here why it cannot end without a word."""
    files = [
        path
        for package in ("shared", "face_detection", "feature_extraction")
        for path in (ROOT / package).rglob("*.py")
        if path.relative_to(ROOT).parts[:2] != ("face_detection", "cli")
    ]
    found = {str(path.relative_to(ROOT)) for path in files if starts_something(ast.parse(path.read_text()))}
    assert found == set(OWN_CARE)
