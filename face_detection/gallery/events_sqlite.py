"""The event log in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from face_detection.gallery import sqlite_statements as sql
from face_detection.gallery.connections import Connections
from face_detection.gallery.events import Event, EventKind, NewEvent
from face_detection.gallery.rows import event_of, event_row
from shared.errors import NotFound

_NO_LIMIT = 2**63 - 1


class SQLiteEventLog:
    """An ``EventLog`` in one SQLite database."""

    def __init__(self, connections: Connections) -> None:
        """A log on an open database, which whoever opened it closes."""
        self._connections = connections

    def append(self, events: Sequence[tuple[str, NewEvent]]) -> None:
        """See ``EventLog``."""
        with self._connections.writing() as connection:
            connection.executemany(
                sql.ADD_EVENT,
                (event_row(tenant, event) for tenant, event in events),
            )

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
            rows = connection.execute(sql.EVENTS if person is None else sql.EVENTS_OF_PERSON, wanted).fetchall()
        return [event_of(*row) for row in rows]

    def crop(self, tenant: str, number: int) -> bytes:
        """See ``EventLog``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.EVENT_CROP, (tenant, number)).fetchall()
        if not rows:
            raise NotFound("There is no such event, or no picture was kept with it.")
        return bytes(rows[0][0])

    def purge(self, tenant: str, before: int) -> int:
        """See ``EventLog``."""
        with self._connections.writing() as connection:
            return connection.execute(sql.PURGE_EVENTS, (tenant, before)).rowcount
