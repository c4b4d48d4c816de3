"""What a log of events promises: who was enrolled or recognised, when, where, by which key and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class EventKind(StrEnum):
    """What happened."""

    ENROLLED = "enrolled"
    RECOGNISED = "recognised"
    UNKNOWN = "unknown"
    """A face that is nobody's."""


@dataclass(frozen=True)
class Occasion:
    """Under which circumstances a request came.

    Attributes:
        api_key: id of the API key, None for an anonymous request.
        device: code of the capture device.
        latitude, longitude: degrees.
    """

    api_key: str | None = None
    device: int | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class NewEvent:
    """Something to be logged.

    Attributes:
        at: microseconds since 1970.
        kind: what happened.
        person: id, None for somebody unknown.
        distance: to the nearest sample, in the unit of the searcher's metric; None where nothing was compared.
        occasion: the circumstances.
        crop: JPEG of the aligned face, where the tenant wants it kept.
    """

    at: int
    kind: EventKind
    person: str | None
    distance: float | None
    occasion: Occasion
    crop: bytes | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        number: counts within the tenant and is never used again, not even by a later tenant with the same id.
        has_crop: whether ``crop`` gives a picture.
    """

    number: int
    at: int
    kind: EventKind
    person: str | None
    name: str | None
    distance: float | None
    occasion: Occasion
    has_crop: bool


@dataclass(frozen=True)
class EventFilter:
    """Which events: those for which everything holds that is not None.

    Attributes:
        person: it is this person's, by id.
        kind: it is of this kind.
        device: it came from the capture device with this code.
        since, until: it happened at this time or later, and before that time; microseconds since 1970.
    """

    person: str | None = None
    kind: EventKind | None = None
    device: int | None = None
    since: int | None = None
    until: int | None = None


ALL_EVENTS = EventFilter()


class EventLog(Protocol):
    """Keeps events. Safe between threads and processes; raises as ``Store`` does."""

    def append(self, events: Sequence[tuple[str, NewEvent]]) -> None:
        """Log events of tenants in one transaction.

        Those of people and of tenants who are gone are dropped, as if they had been deleted with them.
        """

    def page(
        self, tenant: str, limit: int, before: int | None = None, which: EventFilter = ALL_EVENTS
    ) -> Sequence[Event]:
        """At most ``limit`` events, the latest first.

        Args:
            tenant: whose.
            limit: at least 1.
            before: only those with smaller numbers.
            which: only these.
        """

    def crop(self, tenant: str, number: int) -> bytes:
        """The JPEG that was kept with an event.

        Raises:
            NotFound: there is no such event, or no picture was kept.
        """

    def purge(self, tenant: str, before: int) -> int:
        """Delete events from before a time in microseconds since 1970; returns how many there were."""
