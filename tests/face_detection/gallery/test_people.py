from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from face_detection.gallery.people import NewSample
from shared.errors import InvalidRequest
from tests.gallery_samples import vectors

GOOD: dict[str, Any] = {"id": "a", "name": "Ada", "metadata": None, "space": "s", "vector": vectors(1)[0]}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "\ud800"},
        {"name": "\udfff"},
        {"id": "a\0"},
        {"name": "\0"},
        {"action": "\0"},
        {"metadata": float("nan")},
        {"metadata": {"a": [float("inf")]}},
        {"metadata": {1, 2}},
        {"metadata": nested(64)},
        {"metadata": {"a": nested(100_000)}},
        {"vector": np.zeros(8, np.float32)},
        {"vector": np.array([1.0, np.nan], np.float32)},
        {"vector": np.array([1.0, np.inf], np.float32)},
        {"vector": np.array([1.0, 1.1e18], np.float32)},
        {"vector": np.ones(8)},
        {"vector": np.ones((1, 8), np.float32)},
        {"vector": np.ones(0, np.float32)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_sample_that_could_not_be_found_again_is_refused(wrong: dict[str, Any]) -> None:
    NewSample(**GOOD | {"metadata": nested(63)})
    with pytest.raises(InvalidRequest):
        NewSample(**GOOD | wrong)
