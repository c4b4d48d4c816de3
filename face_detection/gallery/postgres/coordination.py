"""What the processes on one PostgreSQL database agree upon, which keeps it for them."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from typing_extensions import override

from face_detection.gallery.coordination import Locks, RateLimits
from face_detection.gallery.postgres.connections import Connections

_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))"

_RELEASE = "SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))"

# Seconds since the last request of the key. One that came earlier than the last one but is counted later belongs to
# the same second; a clock that was set back further than the window begins anew.
_PASSED = """
    (CASE WHEN known.second > excluded.second + 60 THEN 61
    ELSE least(greatest(excluded.second - known.second, 0), 61) END)::integer
"""

_HIT = f"""
    INSERT INTO recent_requests AS known (key, second, counts)
    VALUES (%(key)s, floor(extract(epoch FROM statement_timestamp()))::bigint, array_fill(0, ARRAY[60]) || 1)
    ON CONFLICT (key) DO UPDATE SET
        second = CASE WHEN {_PASSED} = 0 THEN known.second ELSE excluded.second END,
        counts = CASE WHEN {_PASSED} = 0 THEN known.counts[:60] || (known.counts[61] + 1)
            ELSE known.counts[{_PASSED} + 1 :] || array_fill(0, ARRAY[{_PASSED} - 1]) || 1 END
    WHERE (SELECT coalesce(sum(count), 0) FROM unnest(known.counts[{_PASSED} + 1 :]) AS count) < %(most)s::bigint
    RETURNING true
"""

_COUNTS = """
    SELECT counts, extract(epoch FROM statement_timestamp())::float8 - second FROM recent_requests WHERE key = %(key)s
"""


class PostgresLocks(Locks):
    """Advisory locks, which PostgreSQL takes back when the connection of whoever has one ends."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @contextmanager
    @override
    def take(self, name: str) -> Iterator[bool]:
        with self._connections.reading() as connection:
            ((taken,),) = connection.execute(_TAKE, {"name": name}).fetchall()
            try:
                yield taken
            finally:
                if taken and not connection.closed:
                    connection.execute(_RELEASE, {"name": name})


class PostgresRateLimits(RateLimits):
    """The ``RateLimits`` of all processes that use one PostgreSQL database, by the clock of the database.

    A row has the counts of the 61 seconds up to the last request. The window is these whole seconds, so that never
    more requests than allowed pass within any 60 seconds; a request may wait up to a second longer than it would have
    to. The row is locked by whoever counts: two fronts cannot both take the last place.

    The table is unlogged: a transaction that touches nothing else writes no log and waits for no disk at its end. A
    crash of the database, or a standby that takes over, begins with empty counts.
    """

    def __init__(self, connections: Connections) -> None:
        """Counts in an open database, which whoever opened it closes."""
        self._connections = connections

    @override
    def hit(self, key: str, per_minute: int) -> float | None:
        # Not writing(): that takes turns with whoever changes the gallery.
        with self._connections.reading() as connection:
            if connection.execute(_HIT, {"key": key, "most": per_minute}).fetchall():
                return None
            rows = connection.execute(_COUNTS, {"key": key}).fetchall()
        return max((_wait(counts, age, per_minute) for counts, age in rows), default=0.0)


def _wait(counts: Sequence[int], age: float, per_minute: int) -> float:
    """Seconds until fewer than ``per_minute`` requests are in the window, ``age`` seconds after its last one began."""
    excess = sum(counts) - per_minute
    leaving = 0
    while excess >= 0:
        excess -= counts[leaving]
        leaving += 1
    return max(0.0, leaving - age)
