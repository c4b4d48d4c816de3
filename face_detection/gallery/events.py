"""The log of events: who was enrolled or recognised, when, where, by which key and device."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from face_detection.gallery.sql.database import UNLIMITED, Connections
from face_detection.gallery.sql.statements import GALLERY_EXISTS
from shared.errors import NotFound


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


# PostgreSQL wants to be told the types of parameters that may be null.
ADD = f"""
    INSERT INTO events (tenant, number, at, kind, person, distance, api_key, device, latitude, longitude, crop)
    SELECT :tenant, 1 + coalesce((SELECT event FROM last_numbers WHERE tenant = :tenant), 0), :at, :kind,
        (SELECT key FROM people WHERE tenant = :tenant AND id = :person),
        :distance, :api_key, :device, :latitude, :longitude, :crop
    WHERE {GALLERY_EXISTS} AND (
        CAST(:person AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM people WHERE tenant = :tenant AND id = :person)
    )
"""

# Apart from the events, so that a number is not used again when the event that had it is gone.
TAKE_NUMBER = """
    INSERT INTO last_numbers (tenant, event) SELECT tenant, number FROM events WHERE tenant = :tenant
    AND number > coalesce((SELECT event FROM last_numbers WHERE tenant = :tenant), 0)
    ON CONFLICT (tenant) DO UPDATE SET event = excluded.event
"""

_EVENTS = """
    SELECT number, at, kind, people.id, people.name, distance, api_key, device, latitude, longitude, crop IS NOT NULL
    FROM events LEFT JOIN people ON people.key = events.person
    WHERE events.tenant = :tenant
"""

_CONDITIONS = {
    "person": "events.person = (SELECT key FROM people WHERE tenant = :tenant AND id = :person)",
    "kind": "kind = :kind",
    "device": "device = CAST(:device AS BIGINT)",
    "since": "at >= CAST(:since AS BIGINT)",
    "until": "at < CAST(:until AS BIGINT)",
}


def page_statement(wanted: Collection[str]) -> str:
    """The statement for a page of events, with those conditions alone that are wanted.

    What has no condition must not look like one: each combination finds the index that fits.
    """
    conditions = "".join(f" AND {_CONDITIONS[name]}" for name in _CONDITIONS if name in wanted)
    # Numbers ascend with time by and large, but who knows? The plus sign keeps SQLite from reading on to the beginning
    # of all events, in the order of their numbers, where a time tells where to begin.
    number = "+number" if "since" in wanted and not {"person", "device"} & set(wanted) else "number"
    return f"{_EVENTS}{conditions} AND {number} < CAST(:before AS BIGINT) ORDER BY {number} DESC LIMIT :limit"


CROP = "SELECT crop FROM events WHERE tenant = :tenant AND number = CAST(:number AS BIGINT) AND crop IS NOT NULL"

PURGE = "DELETE FROM events WHERE tenant = :tenant AND at < CAST(:before AS BIGINT)"


class EventLog:
    """Keeps events. Safe between threads and processes; raises as ``Store`` does."""

    def __init__(self, connections: Connections) -> None:
        """A log on an open database, which whoever opened it closes."""
        self._connections = connections

    def append(self, events: Sequence[tuple[str, NewEvent]]) -> None:
        """Log events of tenants in one transaction.

        Those of people and of tenants who are gone are dropped, as if they had been deleted with them.
        """
        with self._connections.writing() as connection:
            for tenant, event in events:
                if connection.execute(ADD, _row(tenant, event)).rowcount:
                    connection.execute(TAKE_NUMBER, {"tenant": tenant})

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
        wanted = {name: value for name, value in vars(which).items() if value is not None}
        place = {"tenant": tenant, "limit": limit, "before": UNLIMITED if before is None else before}
        with self._connections.reading() as connection:
            rows = connection.execute(page_statement(wanted), place | wanted).fetchall()
        return [_event(*row) for row in rows]

    def crop(self, tenant: str, number: int) -> bytes:
        """The JPEG that was kept with an event.

        Raises:
            NotFound: there is no such event, or no picture was kept.
        """
        with self._connections.reading() as connection:
            rows = connection.execute(CROP, {"tenant": tenant, "number": number}).fetchall()
        if not rows:
            raise NotFound("There is no such event, or no picture was kept with it.")
        return bytes(rows[0][0])

    def purge(self, tenant: str, before: int) -> int:
        """Delete events from before a time in microseconds since 1970; returns how many there were."""
        with self._connections.writing() as connection:
            return connection.execute(PURGE, {"tenant": tenant, "before": before}).rowcount


def _row(tenant: str, event: NewEvent) -> dict[str, object]:
    """An event's columns."""
    return {
        "tenant": tenant,
        "at": event.at,
        "kind": event.kind.value,
        "person": event.person,
        "distance": event.distance,
        "api_key": event.occasion.api_key,
        "device": event.occasion.device,
        "latitude": event.occasion.latitude,
        "longitude": event.occasion.longitude,
        "crop": event.crop,
    }


def _event(
    number: int,
    at: int,
    kind: str,
    person: str | None,
    name: str | None,
    distance: float | None,
    *rest: Any,
) -> Event:
    """An event; the rest is the occasion's columns, and whether a crop was kept."""
    *circumstances, has_crop = rest
    return Event(number, at, EventKind(kind), person, name, distance, Occasion(*circumstances), bool(has_crop))
