"""Marks that tell whether a database still is the one that somebody has followed.

Each transaction leaves a random mark with the number of its last change. Whoever remembers the mark of what they have
seen can ask whether the database has passed it. One that was replaced by an older copy of itself has not, even when it
has had as many changes again.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from face_detection.gallery.sql.database import Connection

KEPT = 100_000
"""Latest transactions whose marks are kept; whoever has seen nothing since then must begin anew."""


class Position(NamedTuple):
    """A point in the history of a database.

    Attributes:
        change: number of the last change, 0 in a new database.
        mark: positive random number below 2⁶³ that stands for this and all changes before; 0 in a new database.
    """

    change: int
    mark: int


_MARK = "INSERT INTO marks (number, change, mark) SELECT coalesce(max(number), 0) + 1, :change, :mark FROM marks"
_FORGET = "DELETE FROM marks WHERE number <= (SELECT max(number) FROM marks) - :kept"
POSITION = "SELECT change, mark FROM marks ORDER BY number DESC LIMIT 1"
_HAS_PASSED = "SELECT EXISTS (SELECT 1 FROM marks WHERE mark = :mark)"


def leave_mark(connection: Connection, change: int) -> None:
    """Mark a transaction, in which others who write wait.

    Args:
        connection: of the transaction.
        change: number of its last change.
    """
    connection.execute(_MARK, {"change": change, "mark": new_mark()})
    connection.execute(_FORGET, {"kept": KEPT})


def new_mark() -> int:
    """A random mark."""
    return 1 + secrets.randbits(62)


def position_of(connection: Connection) -> Position:
    """How far the database is; 0 with the mark 0 before its first change."""
    rows = connection.execute(POSITION).fetchall()
    return Position(*rows[0]) if rows else Position(0, 0)


def has_passed(connection: Connection, mark: int) -> bool:
    """Whether the database was at the position with this mark; at 0 every one was."""
    return mark == 0 or bool(connection.execute(_HAS_PASSED, {"mark": mark}).fetchall()[0][0])
