"""Waiting for what happens in other threads and processes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(happened: Callable[[], bool], explain: Callable[[], str] = lambda: "", seconds: float = 30) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it was not in time; with the explanation.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.01)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught[0], 16) >> number - 1 & 1)
