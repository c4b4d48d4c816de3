"""Turns by advisory locks, which PostgreSQL gives back when the connection of whoever has one ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.connections import Connections


class PostgresTurns:
    """The ``Turns`` of one PostgreSQL database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @contextmanager
    def take(self, name: str) -> Iterator[bool]:
        """See ``Turns``."""
        with self._connections.reading() as connection:
            ((taken,),) = connection.execute(sql.TAKE_TURN, {"name": name}).fetchall()
            try:
                yield taken
            finally:
                if taken and not connection.closed:
                    connection.execute(sql.END_TURN, {"name": name})
