"""What the parts of the gallery that speak the same SQL to every database ask of its connections.

A parameter is written ``:name``, as SQLite has it. Whatever varies is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Answer(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchall(self) -> list[Any]:
        """The rows that were asked for, as tuples."""


class Connection(Protocol):
    """A connection that speaks SQL."""

    def execute(self, statement: str, parameters: Mapping[str, Any] = ..., /) -> Answer:
        """Execute a statement."""

    def executemany(self, statement: str, parameters: Iterable[Mapping[str, Any]], /) -> Answer:
        """Execute a statement with one set of parameters after another."""


class Connections(Protocol):
    """Connections to one database. Raise StorageError and InvalidRequest as ``Store`` does."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection for reading; every row must be fetched before leaving."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection within one transaction, which is committed at the end and rolled back on any error."""
