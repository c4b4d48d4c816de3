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
    """Something that happened; ``number`` counts within the tenant, ``has_crop`` tells whether ``crop`` gives one."""

    number: int
    at: int
    kind: EventKind
    person: str | None
    name: str | None
    distance: float | None
    occasion: Occasion
    has_crop: bool


class EventLog(Protocol):
    """Keeps events. Safe between threads and processes; raises as ``Store`` does."""

    def append(self, events: Sequence[tuple[str, NewEvent]]) -> None:
        """Log events of tenants in one transaction.

        Those of people and of tenants who are gone are dropped, as if they had been deleted with them.
        """

    def page(
        self,
        tenant: str,
        limit: int,
        before: int | None = None,
        person: str | None = None,
        kind: EventKind | None = None,
    ) -> Sequence[Event]:
        """At most ``limit`` events, the latest first.

        Args:
            tenant: whose.
            limit: at least 1.
            before: only those with smaller numbers.
            person: only those of this person.
            kind: only these.
        """

    def crop(self, tenant: str, number: int) -> bytes:
        """The JPEG that was kept with an event.

        Raises:
            NotFound: there is no such event, or no picture was kept.
        """

    def purge(self, tenant: str, before: int) -> int:
        """Delete events from before a time in microseconds since 1970; returns how many there were."""
