"""Advisory locks, which PostgreSQL gives back when the connection of whoever has one ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

from face_detection.gallery.locks import Locks
from face_detection.gallery.postgres.connections import Connections

_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))"

_RELEASE = "SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))"


class PostgresLocks(Locks):
    """The ``Locks`` of one PostgreSQL database."""

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
