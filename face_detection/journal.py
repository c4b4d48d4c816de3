"""Writes events in the background, so that no recognition waits for a disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from face_detection.gallery.collections import tenant_of
from face_detection.gallery.events import EventKind, EventLog, NewEvent, Occasion
from face_detection.gallery.sql.answers import Answers
from face_detection.gallery.sql.directory import Directory
from face_detection.metrics import Metrics
from shared.background import start_thread
from shared.errors import StorageError, StorageRefused

log = logging.getLogger(__name__)

_INTERVAL = 0.5
_LONGEST_PAUSE = 4.0
"""Seconds between two attempts while the database fails, or an event."""

_LAST_PAUSE = 0.2
"""The same once the journal is being closed."""

_PURGE_INTERVAL = 3600.0
_MOST_WAITING = 10_000
_MOST_AT_ONCE = 500
"""Events in one transaction: others want to write, too."""

_ATTEMPTS = 4
"""After so many an event that fails by itself is given up."""

_LOG_INTERVAL = 10.0
_DAY = 86_400 * 1_000_000


@dataclass(eq=False)
class _Waiting:
    tenant: str
    event: NewEvent
    attempts: int = 0


class Journal:
    """Events on their way to the log. Safe between threads; one of its own writes, so that it waits for no other.

    They are written every half second and when the journal is closed. While the database fails they wait; beyond
    ``_MOST_WAITING`` the oldest are lost. An event that fails though the database works is set aside, and the others
    are written. Whatever is lost is counted and logged.

    Args:
        events: where they go.
        answers: kept ones, which are purged along with them.
        directory: knows how long each tenant keeps them.
        days: for which events are kept unless the tenant says otherwise; 0 keeps none.
        metrics: told how many wait, and how many are lost.
    """

    def __init__(self, events: EventLog, answers: Answers, directory: Directory, days: int, metrics: Metrics) -> None:
        self._events = events
        self._answers = answers
        self._directory = directory
        self._days = days
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._pending = 0  # those that wait and those that are being written
        self._unsaid = 0
        self._said = -_LOG_INTERVAL
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._closed = False
        self._latest = 0.0

    def note(
        self,
        tenant: str,
        kind: EventKind,
        person: str | None,
        distance: float | None,
        occasion: Occasion,
        crop: bytes | None = None,
    ) -> None:
        """Something has just happened, see ``NewEvent``; never waits."""
        event = NewEvent(time.time_ns() // 1000, kind, person, distance, occasion, crop)
        with self._lock:
            if self._closed:
                lost, reason = 1, "closed"
            else:
                self._waiting.append(_Waiting(tenant, event))
                self._count(1)
                lost, reason = self._make_room(), "overflow"
        self._lose(lost, reason)

    def start(self) -> None:
        """Begin to write and to purge."""
        self._thread = start_thread("journal", self._run, self._closing)

    def close(self, seconds: float) -> None:
        """Write what waits, for at most so many seconds; what cannot be written until then is lost."""
        self._latest = time.monotonic() + seconds
        self._closing.set()
        if self._thread is None:
            self._thread = start_thread("journal", self._run, self._closing)
        self._thread.join(seconds)
        with self._lock:
            lost = self._pending
            self._count(-lost)
            self._closed = True
        self._lose(lost, "closed")
        self._say(0.0)

    def _run(self) -> None:
        pause, purge_at = _INTERVAL, 0.0
        while not self._closing.wait(pause):
            pause = _INTERVAL if self._write_waiting() else min(2 * pause, _LONGEST_PAUSE)
            self._say(_LOG_INTERVAL)
            if time.monotonic() >= purge_at:
                purge_at = time.monotonic() + _PURGE_INTERVAL
                self._purge()
        while self._pending and time.monotonic() < self._latest:
            if not self._write_waiting():
                time.sleep(_LAST_PAUSE)

    def _write_waiting(self) -> bool:
        """Write all that waits by now; whether all of it is done with."""
        again: list[_Waiting] = []
        try:
            for _ in range(0, len(self._waiting), _MOST_AT_ONCE):
                with self._lock:
                    batch = [self._waiting.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._waiting)))]
                again += self._write(batch)
        except StorageError as error:
            log.warning("events wait: %s", error.explained, extra={"events": self._pending})
            return False
        finally:
            self._put_back(again)
        return not again

    def _write(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Write a batch; if it fails though the database works, its halves, until those are alone that fail.

        Returns:
            Those that are to be tried again.

        Raises:
            StorageError: the database fails; what is not written waits.
        """
        again: list[_Waiting] = []
        parts = [batch]
        try:
            while parts:
                part = parts[-1]
                try:
                    self._append(part)
                except Exception as error:
                    if isinstance(error, StorageError) and not isinstance(error, StorageRefused):
                        raise
                    parts.pop()
                    if middle := len(part) // 2:
                        parts += [part[middle:], part[:middle]]
                    elif self._refused(part[0], error):
                        again.append(part[0])
                else:
                    parts.pop()
                    self._done(len(part))
        except BaseException:
            self._put_back([*again, *(one for part in reversed(parts) for one in part)])
            raise
        return again

    def _refused(self, one: _Waiting, failure: Exception) -> bool:
        """An event has failed by itself; whether it is to be tried again."""
        one.attempts += 1
        if one.attempts < _ATTEMPTS:
            return True
        about = {"company": tenant_of(one.tenant), "kind": one.event.kind, "at": one.event.at}
        reason = f"{type(failure).__name__}: {failure}"
        log.error("an event that cannot be written is set aside", extra=about | {"cause": reason})
        self._done(1)
        self._lose(1, "refused")
        return False

    def _append(self, batch: Sequence[_Waiting]) -> None:
        kept = self._directory.settings_of_galleries()
        days = {gallery: self._kept_days(settings.event_days) for gallery, settings in kept.items()}
        self._events.append([(one.tenant, one.event) for one in batch if days.get(one.tenant)])

    def _put_back(self, batch: Iterable[_Waiting]) -> None:
        with self._lock:
            if self._closed:
                return  # they have been counted as lost
            self._waiting.extendleft(reversed([*batch]))
            lost = self._make_room()
        self._lose(lost, "overflow")

    def _make_room(self) -> int:
        """Drop the oldest of too many; how many. Called with the lock."""
        lost = max(0, len(self._waiting) - _MOST_WAITING)
        for _ in range(lost):
            self._waiting.popleft()
        self._count(-lost)
        return lost

    def _done(self, count: int) -> None:
        """So many are pending no longer, unless they have been counted as lost."""
        with self._lock:
            if not self._closed:
                self._count(-count)

    def _count(self, more: int) -> None:
        """So many more are pending. Called with the lock."""
        self._pending += more
        self._metrics.events_waiting.inc(more)

    def _lose(self, count: int, reason: str) -> None:
        if not count:
            return
        self._metrics.events_lost.labels(reason).inc(count)
        with self._lock:
            self._unsaid += count
        self._say(_LOG_INTERVAL)

    def _say(self, interval: float) -> None:
        """Log how many are lost since that was logged, if that is so many seconds ago."""
        with self._lock:
            lost = self._unsaid
            if not lost or time.monotonic() - self._said < interval:
                return
            self._unsaid, self._said = 0, time.monotonic()
        log.error("%d events are lost", lost)

    def _purge(self) -> None:
        try:
            self._answers.purge()
            now = time.time_ns() // 1000
            for gallery, settings in self._directory.settings_of_galleries().items():
                self._events.purge(gallery, now - self._kept_days(settings.event_days) * _DAY)
        except StorageError as error:
            log.warning("old events are not deleted: %s", error.explained)

    def _kept_days(self, own: int | None) -> int:
        return self._days if own is None else own
