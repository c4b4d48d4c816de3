"""How many requests an API key has had lately."""

from __future__ import annotations

import time
from typing import Protocol

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from typing_extensions import override


class RateLimits(Protocol):
    """Counts requests. Safe between threads."""

    def hit(self, key: str, per_minute: int) -> float | None:
        """Count a request, unless there have been so many within the last 60 seconds.

        Args:
            key: id of an API key that exists.
            per_minute: most requests within any 60 seconds, at least 1.

        Returns:
            None when the request was counted; otherwise the seconds until another will be.

        Raises:
            StorageError: the database failed.
        """


class ProcessRateLimits(RateLimits):
    """The ``RateLimits`` of one process, in its memory: N processes together let N times as many requests pass."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @override
    def hit(self, key: str, per_minute: int) -> float | None:
        item = RateLimitItemPerMinute(per_minute)
        if self._limiter.hit(item, key):
            return None
        return max(0.0, self._limiter.get_window_stats(item, key).reset_time - time.time())
