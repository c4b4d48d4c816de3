"""What a long command tells on standard error while it works."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from face_detection.cli.console import printable
from shared.ending import Stopped

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 4
"""Pictures that are worked on at once: while one is decoded another is embedded."""


def followed(items: Iterable[T], total: int | None, unit: str) -> Iterator[T]:
    """The items, with a progress bar if standard error is a terminal."""
    return iter(tqdm(items, total=total, unit=f" {unit}", disable=None, dynamic_ncols=True, leave=False))


def remark(text: object) -> None:
    """Print a line on standard error without disturbing a progress bar."""
    tqdm.write(printable(str(text)), file=sys.stderr)


def in_order(items: Iterable[T], work: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with the result of ``work``, which is done for several at once."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    waiting: deque[tuple[T, Future[R]]] = deque()
    patient = True
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) == 2 * _AT_ONCE:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except Stopped:  # a video would take its time
        patient = False
        raise
    finally:
        pool.shutdown(patient, cancel_futures=True)
