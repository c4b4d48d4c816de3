"""What the parts of the gallery that speak SQL ask of a database's connections.

All databases get the same statements. Where one needs words of its own, these stand beside each other, by the kind of
the database (``Wordings``). A parameter is written ``:name``, as SQLite has it. Whatever varies is one; of
lists see ``listed``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

Kind = Literal["sqlite", "postgres"]

Wordings = Mapping[Kind, str]
"""A statement in the words of each database."""

UNLIMITED = 2**63 - 1
"""As the limit of a statement."""


def listed(values: Iterable[int | str]) -> dict[str, object]:
    """The parameters ``listed`` and ``count`` of a statement about several values, each of which counts once.

    The one is a JSON object of the values, each with its position from 1. ``json_each`` takes it apart in every
    database, into a column ``key`` of text and one ``value``.
    """
    positions = {value: position for position, value in enumerate(values, start=1)}
    return {"listed": json.dumps(positions), "count": len(positions)}


class Answer(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchall(self) -> list[Any]:
        """The rows that were asked for, as tuples."""


class Connection(Protocol):
    """A connection that speaks SQL."""

    @property
    def kind(self) -> Kind:
        """What it leads to."""

    def execute(self, statement: str, parameters: Mapping[str, Any] = ..., /) -> Answer:
        """Execute a statement."""

    def executemany(self, statement: str, parameters: Iterable[Mapping[str, Any]], /) -> Answer:
        """Execute a statement with one set of parameters after another."""

    def execute_batch(
        self, statements: Wordings, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any], /
    ) -> None:
        """Write many rows in the quickest way.

        Args:
            statements: for SQLite, which works within the process, one that is executed for each row; for PostgreSQL,
                where each execution is a way there and back, one that is executed once, with an array for each column.
            rows: parameters by name, the same names in all.
            common: parameters that are the same for all rows.
        """

    def stream(
        self, statement: str, parameters: Mapping[str, Any], /
    ) -> AbstractContextManager[Iterable[tuple[Any, ...]]]:
        """Rows that are fetched a few at a time, for whoever may not need them all."""

    def be_patient(self) -> None:
        """Let statements take any time from now on."""


class Connections(Protocol):
    """Connections to one database, which whoever opened them closes.

    Safe between threads. Every method raises StorageError and InvalidRequest as ``Store`` does.
    """

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection for reading, where each statement sees what was committed before it.

        Every row must be fetched before leaving.
        """

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection within one transaction, which is committed at the end and rolled back on any error."""

    def compact(self) -> None:
        """Rewrite the database, so that nothing is left of what was deleted."""

    def close(self) -> None:
        """Close every connection; one in use is closed when it is given back."""
