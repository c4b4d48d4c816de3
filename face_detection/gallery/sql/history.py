"""What is known of a database's past by whoever follows its changes: marks, and tombstones.

Each transaction leaves a random mark with the number of its last change. Whoever remembers the mark of what they have
seen can ask whether the database has passed it. One that was replaced by an older copy of itself has not, even when it
has had as many changes again.

Tombstones are removed once they are old enough. Those of a tenant's last number and of its last revision stay, which
also are those of the last key and change of all: none of these is used twice. How far tombstones are removed is written
in the same transaction: whoever follows changes and has come less far may miss a deletion, and is told to start over.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from face_detection.gallery.sql.database import UNLIMITED, Connection, Connections
from shared.errors import CursorExpired

KEPT = 100_000
"""Latest transactions whose marks are kept; whoever has seen nothing since then must begin anew."""

BATCH = 1000
"""Tombstones that are removed in one transaction: some hundredths of a second, for which writers wait."""


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

_REMOVE = """
    DELETE FROM samples WHERE key IN (
        SELECT key FROM samples AS old
        WHERE space IS NULL AND revision < CAST(:before AS BIGINT) AND change <= CAST(:known AS BIGINT)
            AND number < (SELECT max(number) FROM samples AS own WHERE own.tenant = old.tenant)
            AND revision < (SELECT max(revision) FROM samples AS own WHERE own.tenant = old.tenant)
        ORDER BY revision LIMIT CAST(:limit AS BIGINT)
    )
    RETURNING tenant, change, revision
"""

# Of one tenant the latest revision is the latest change.
_RECORD = """
    INSERT INTO horizons (tenant, change, revision)
    VALUES (:tenant, CAST(:change AS BIGINT), CAST(:revision AS BIGINT))
    ON CONFLICT (tenant) DO UPDATE SET change = excluded.change, revision = excluded.revision
    WHERE excluded.revision > horizons.revision
"""

HORIZON = "SELECT coalesce(max(change), 0) FROM horizons"

_REVISION = "SELECT coalesce(max(revision), 0) FROM horizons WHERE tenant = :tenant"

_EXPIRED = (
    "What was deleted since then is no longer known: start over without a cursor, and drop what does not come again."
)


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


class Tombstones:
    """The tombstones of the store's database. Blocks; raises as ``Store`` does."""

    def __init__(self, connections: Connections) -> None:
        """The tombstones of an open database, which whoever opened it closes."""
        self._connections = connections

    def remove(self, before: int, known: int = UNLIMITED, limit: int = BATCH) -> int:
        """Remove tombstones, the oldest first.

        Args:
            before: time of the deletions, in microseconds since 1970, before which they are removed.
            known: number of the change up to which they are.
            limit: most that are removed.

        Returns:
            How many were removed; fewer than ``limit`` when no other is left.
        """
        wanted = {"before": before, "known": known, "limit": limit}
        with self._connections.writing() as connection:
            removed = connection.execute(_REMOVE, wanted).fetchall()
            latest = {tenant: (change, revision) for tenant, change, revision in sorted(removed)}
            connection.executemany(
                _RECORD,
                [{"tenant": tenant, "change": last[0], "revision": last[1]} for tenant, last in latest.items()],
            )
        return len(removed)


def check_change(connection: Connection, number: int) -> None:
    """See that all tombstones of later changes were there when the caller has read them, just before.

    Raises:
        CursorExpired: they were not.
    """
    _check(connection.execute(HORIZON, {}).fetchall()[0][0], number)


def check_revision(connection: Connection, tenant: str, revision: int) -> None:
    """The same of a tenant's changes after a revision."""
    _check(connection.execute(_REVISION, {"tenant": tenant}).fetchall()[0][0], revision)


def _check(horizon: int, known: int) -> None:
    if known < horizon:
        raise CursorExpired(_EXPIRED)
