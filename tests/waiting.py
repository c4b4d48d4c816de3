"""Waiting for what happens in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], bool], explain: Callable[[], str] = lambda: "", seconds: float = 30) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it was not in time; with the explanation.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.01)
