"""Writes events in the background, so that no recognition waits for a disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from face_detection.gallery.directory import Directory
from face_detection.gallery.events import EventKind, EventLog, NewEvent, Occasion
from face_detection.pool import GalleryPool
from shared.errors import StorageError

log = logging.getLogger(__name__)

_INTERVAL = 0.5
_PURGE_INTERVAL = 3600.0
_MOST_WAITING = 10_000
_DAY = 86_400 * 1_000_000


class Journal:
    """Events on their way to the log; lives in one event loop.

    They are written every half second and when the journal is closed. While the database refuses them they wait,
    and beyond ``_MOST_WAITING`` the oldest are lost, which is logged.

    Args:
        events: where they go.
        directory: knows how long each tenant keeps them.
        pool: where the database is written.
        days: for which events are kept unless the tenant says otherwise; 0 keeps none.
    """

    def __init__(self, events: EventLog, directory: Directory, pool: GalleryPool, days: int) -> None:
        self._events = events
        self._directory = directory
        self._pool = pool
        self._days = days
        self._waiting: deque[tuple[str, NewEvent]] = deque()

    def note(
        self,
        tenant: str,
        kind: EventKind,
        person: str | None,
        distance: float | None,
        occasion: Occasion,
        crop: bytes | None = None,
    ) -> None:
        """Something has just happened, see ``NewEvent``; may be said from any thread."""
        event = NewEvent(time.time_ns() // 1000, kind, person, distance, occasion, crop)
        self._waiting.append((tenant, event))

    async def run(self) -> None:
        """Write and purge until cancelled."""
        purged = -_PURGE_INTERVAL
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.flush()
                if time.monotonic() - purged > _PURGE_INTERVAL:
                    purged = time.monotonic()
                    await self._pool.run(self._purge)
            except StorageError as error:
                log.warning("events wait: %s", error.message)

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            StorageError: the database failed; the events go on waiting.
        """
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        try:
            await self._pool.run(lambda: self._write(batch))
        except StorageError:
            if (lost := len(batch) + len(self._waiting) - _MOST_WAITING) > 0:
                log.error("%d events are lost", lost)
                del batch[:lost]
            self._waiting.extendleft(reversed(batch))
            raise

    async def close(self) -> None:
        """Write what waits; what the database refuses now is lost, which is logged."""
        try:
            await self.flush()
        except StorageError as error:
            log.error("%d events are lost: %s", len(self._waiting), error.message)

    def _write(self, batch: Sequence[tuple[str, NewEvent]]) -> None:
        days = {tenant.id: self._kept_days(tenant.settings.event_days) for tenant in self._directory.tenants()}
        self._events.append([(tenant, event) for tenant, event in batch if days.get(tenant)])

    def _purge(self) -> None:
        now = time.time_ns() // 1000
        for tenant in self._directory.tenants():
            self._events.purge(tenant.id, now - self._kept_days(tenant.settings.event_days) * _DAY)

    def _kept_days(self, own: int | None) -> int:
        return self._days if own is None else own
