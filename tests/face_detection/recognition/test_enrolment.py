"""Batches that are broken off."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any, cast

import pytest

from face_detection.recognition.crops import Prepared
from face_detection.recognition.enrolment import Enroller, Enrolment
from tests.face_detection.extraction.fake_workers import SERVED


class Slow:
    """A preparation that never comes to an end."""

    async def prepare(self, *arguments: object) -> Prepared:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("steps", range(6))
async def test_a_batch_may_be_broken_off_at_any_moment(steps: int) -> None:
    """Nothing that was begun is forgotten, which Python would complain of."""

    async def embed(*arguments: object) -> Any:
        raise AssertionError

    enroller = Enroller(cast(Any, Slow()), embed, "auto")
    batch = [Enrolment(str(number), "", b"") for number in range(3)]
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        task = asyncio.create_task(enroller.embed(batch, SERVED))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
    assert not complaints
