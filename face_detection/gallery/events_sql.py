"""The event log in an SQL database, whichever it is."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from collections.abc import Sequence

from face_detection.gallery.events import Event, EventKind, NewEvent
from face_detection.gallery.rows import event_of, event_row
from face_detection.gallery.sql import Connections
from shared.errors import NotFound

# PostgreSQL wants to be told the types of parameters that may be null.
ADD = """
    INSERT INTO events (tenant, number, at, kind, person, distance, api_key, device, latitude, longitude, crop)
    SELECT :tenant, 1 + coalesce((SELECT max(number) FROM events WHERE tenant = :tenant), 0), :at, :kind,
        (SELECT key FROM people WHERE tenant = :tenant AND id = :person),
        :distance, :api_key, :device, :latitude, :longitude, :crop
    WHERE EXISTS (SELECT 1 FROM tenants WHERE id = :tenant) AND (
        CAST(:person AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM people WHERE tenant = :tenant AND id = :person)
    )
"""

_EVENTS = """
    SELECT number, at, kind, people.id, people.name, distance, api_key, device, latitude, longitude, crop IS NOT NULL
    FROM events LEFT JOIN people ON people.key = events.person
    WHERE number < CAST(:before AS BIGINT) AND (CAST(:kind AS TEXT) IS NULL OR kind = :kind)
"""

PAGE = f"{_EVENTS} AND events.tenant = :tenant ORDER BY number DESC LIMIT :limit"

PAGE_OF_PERSON = f"""
    {_EVENTS} AND events.person = (SELECT key FROM people WHERE tenant = :tenant AND id = :person)
    ORDER BY number DESC LIMIT :limit
"""

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
            connection.executemany(ADD, (event_row(tenant, event) for tenant, event in events))

    def page(
        self,
        tenant: str,
        limit: int,
        before: int | None = None,
        person: str | None = None,
        kind: EventKind | None = None,
    ) -> Sequence[Event]:
        """See ``EventLog``."""
        wanted = {
            "tenant": tenant,
            "limit": limit,
            "before": _NO_LIMIT if before is None else before,
            "person": person,
            "kind": kind.value if kind else None,
        }
        with self._connections.reading() as connection:
            rows = connection.execute(PAGE if person is None else PAGE_OF_PERSON, wanted).fetchall()
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
