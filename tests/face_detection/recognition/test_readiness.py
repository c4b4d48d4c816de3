"""Outcomes that are shared by all who ask at the same time."""

from __future__ import annotations

import asyncio

import pytest

from face_detection.recognition.readiness import SHARED_SECONDS, Shared
from shared.errors import NotReady


class Work:
    """Counts how often it is done; it goes on when ``may_end`` is set."""

    def __init__(self, fails: bool = False) -> None:
        self.done = 0
        self.may_end = asyncio.Event()
        self._fails = fails

    async def __call__(self) -> int:
        await self.may_end.wait()
        self.done += 1
        if self._fails:
            raise NotReady("Not yet.")
        return self.done


async def test_all_who_ask_within_a_second_share_one_result() -> None:
    work = Work()
    shared = Shared(work)
    asking = [asyncio.create_task(shared.get()) for _ in range(100)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 100
    assert await shared.get() == 1
    await asyncio.sleep(SHARED_SECONDS + 0.1)
    assert await shared.get() == 2


async def test_a_failure_is_shared_too_and_its_traceback_does_not_grow() -> None:
    work = Work(fails=True)
    work.may_end.set()
    shared = Shared(work)
    lengths = set()
    for _ in range(20):
        with pytest.raises(NotReady) as failure:
            await shared.get()
        lengths.add(len(failure.traceback))
    assert (work.done, len(lengths)) == (1, 1)
    await asyncio.sleep(SHARED_SECONDS + 0.1)
    with pytest.raises(NotReady):
        await shared.get()
    assert work.done == 2


async def test_who_gives_up_does_not_end_it_for_others() -> None:
    work = Work()
    shared = Shared(work)
    first, second = (asyncio.create_task(shared.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    work.may_end.set()
    assert await second == 1
    assert first.cancelled()
