"""The event log in an SQL database, whichever it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from face_detection.gallery.events import ALL_EVENTS, Event, EventFilter, NewEvent
from face_detection.gallery.sql.database import Connections
from face_detection.gallery.sql.rows import event_of, event_row
from shared.errors import NotFound

# PostgreSQL wants to be told the types of parameters that may be null.
ADD = """
    INSERT INTO events (tenant, number, at, kind, person, distance, api_key, device, latitude, longitude, crop)
    SELECT :tenant, 1 + coalesce((SELECT event FROM last_numbers WHERE tenant = :tenant), 0), :at, :kind,
        (SELECT key FROM people WHERE tenant = :tenant AND id = :person),
        :distance, :api_key, :device, :latitude, :longitude, :crop
    WHERE EXISTS (SELECT 1 FROM tenants WHERE id = :tenant) AND (
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

_NO_LIMIT = 2**63 - 1


class SQLEventLog:
    """An ``EventLog`` in the store's database."""

    def __init__(self, connections: Connections) -> None:
        """A log on an open database, which whoever opened it closes."""
        self._connections = connections

    def append(self, events: Sequence[tuple[str, NewEvent]]) -> None:
        """See ``EventLog``."""
        with self._connections.writing() as connection:
            for tenant, event in events:
                if connection.execute(ADD, event_row(tenant, event)).rowcount:
                    connection.execute(TAKE_NUMBER, {"tenant": tenant})

    def page(
        self, tenant: str, limit: int, before: int | None = None, which: EventFilter = ALL_EVENTS
    ) -> Sequence[Event]:
        """See ``EventLog``."""
        wanted = {name: value for name, value in vars(which).items() if value is not None}
        place = {"tenant": tenant, "limit": limit, "before": _NO_LIMIT if before is None else before}
        with self._connections.reading() as connection:
            rows = connection.execute(page_statement(wanted), place | wanted).fetchall()
        return [event_of(*row) for row in rows]

    def crop(self, tenant: str, number: int) -> bytes:
        """See ``EventLog``."""
        with self._connections.reading() as connection:
            rows = connection.execute(CROP, {"tenant": tenant, "number": number}).fetchall()
        if not rows:
            raise NotFound("There is no such event, or no picture was kept with it.")
        return bytes(rows[0][0])

    def purge(self, tenant: str, before: int) -> int:
        """See ``EventLog``."""
        with self._connections.writing() as connection:
            return connection.execute(PURGE, {"tenant": tenant, "before": before}).rowcount
