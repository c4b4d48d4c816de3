"""The store in SQLite (see ``migrations`` for the schema and ``connections`` for durability and threads)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from face_detection.gallery.connections import Connections
from face_detection.gallery.store import Change, NewSample, Page, Record, Sample, Vector
from shared.errors import NotFound, SpaceMismatch, StorageError

_LITTLE_ENDIAN = np.dtype("<f4")

_UPSERT = """
    INSERT INTO samples (tenant, id, change, space, name, metadata, action, created_at, updated_at, vector)
    VALUES (:tenant, :id, :change, :space, :name, :metadata, :action, :now, :now, :vector)
    ON CONFLICT (tenant, id) DO UPDATE SET
        change = excluded.change,
        space = excluded.space,
        name = excluded.name,
        metadata = excluded.metadata,
        action = excluded.action,
        created_at = coalesce(created_at, excluded.created_at),
        updated_at = excluded.updated_at,
        vector = excluded.vector
"""

_DELETE = """
    UPDATE samples SET
        change = :change,
        space = NULL, name = NULL, metadata = NULL, action = NULL,
        created_at = NULL, updated_at = NULL, vector = NULL
    WHERE tenant = :tenant AND id = :id AND space IS NOT NULL
"""

_CLEAR = """
    UPDATE samples SET
        change = :change + doomed.position,
        space = NULL, name = NULL, metadata = NULL, action = NULL,
        created_at = NULL, updated_at = NULL, vector = NULL
    FROM (
        SELECT key, row_number() OVER (ORDER BY key) AS position
        FROM samples WHERE tenant = :tenant AND space IS NOT NULL
    ) AS doomed
    WHERE samples.key = doomed.key
"""

_GET = """
    SELECT key, change, id, samples.name, metadata, action, spaces.name, created_at, updated_at, vector
    FROM samples JOIN spaces ON spaces.number = samples.space
    WHERE tenant = ? AND id = ?
"""

# CROSS JOIN keeps SQLite from reading the whole tenant to find a few keys.
_BY_KEYS = """
    SELECT samples.key, change, samples.id, samples.name, metadata, action, spaces.name, created_at, updated_at
    FROM json_each(?) AS wanted CROSS JOIN samples ON samples.key = wanted.value
    JOIN spaces ON spaces.number = samples.space
    WHERE tenant = ?
"""

_PAGE = """
    SELECT key, change, id, samples.name, metadata, action, spaces.name, created_at, updated_at
    FROM samples CROSS JOIN spaces ON spaces.number = samples.space
    WHERE tenant = ? AND samples.space IS NOT NULL AND id > ? ORDER BY id LIMIT ?
"""

_COUNT = "SELECT count(*) FROM samples WHERE tenant = ? AND space IS NOT NULL"

_COUNT_SPACE = """
    SELECT count(*) FROM samples
    WHERE tenant = ? AND space IS NOT NULL AND space = (SELECT number FROM spaces WHERE name = ?)
"""

_LAST_CHANGE = "SELECT coalesce(max(change), 0) FROM samples"

_CHANGES = """
    SELECT change, tenant, key, id, spaces.name, vector
    FROM samples LEFT JOIN spaces ON spaces.number = samples.space
    WHERE change > ? ORDER BY change LIMIT ?
"""


class SQLiteStore:
    """A ``Store`` in one SQLite database."""

    def __init__(self, database: str) -> None:
        """Open a database, see ``Connections``.

        Raises:
            StartupError: it cannot be used.
        """
        self._connections = Connections(database)

    def upsert(self, tenant: str, samples: Sequence[NewSample]) -> int:
        """See ``Store``."""
        if not samples:
            return self.last_change()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        dimensions = _dimensions(samples)
        with self._connections.writing() as connection:
            before = _last_change(connection)
            spaces = {name: _space_number(connection, name, length) for name, length in dimensions.items()}
            connection.executemany(
                _UPSERT,
                (
                    {
                        "tenant": tenant,
                        "id": sample.id,
                        "change": before + position,
                        "space": spaces[sample.space],
                        "name": sample.name,
                        "metadata": json.dumps(sample.metadata, separators=(",", ":")),
                        "action": sample.action,
                        "now": now,
                        "vector": sample.vector.astype(_LITTLE_ENDIAN).tobytes(),
                    }
                    for position, sample in enumerate(samples, start=1)
                ),
            )
        return before + len(samples)

    def delete(self, tenant: str, id: str) -> bool:
        """See ``Store``."""
        with self._connections.writing() as connection:
            row = {"tenant": tenant, "id": id, "change": _last_change(connection) + 1}
            return connection.execute(_DELETE, row).rowcount > 0

    def clear(self, tenant: str) -> int:
        """See ``Store``."""
        with self._connections.writing() as connection:
            return connection.execute(_CLEAR, {"tenant": tenant, "change": _last_change(connection)}).rowcount

    def get(self, tenant: str, id: str) -> Sample:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(_GET, (tenant, id)).fetchall()
        if not rows:
            raise NotFound("There is no sample with this id.")
        *columns, blob = rows[0]
        return Sample(**vars(_record(*columns)), vector=_vector(blob))

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Record]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(_BY_KEYS, (json.dumps(list(keys)), tenant)).fetchall()
        return {row[0]: _record(*row) for row in rows}

    def page(self, tenant: str, limit: int, after: str | None = None) -> Page:
        """See ``Store``."""
        with self._connections.reading() as connection:
            # One more than asked for tells whether there is a next page. No id is empty.
            rows = connection.execute(_PAGE, (tenant, after or "", limit + 1)).fetchall()
        records = [_record(*row) for row in rows[:limit]]
        return Page(records, records[-1].id if len(rows) > limit else None)

    def count(self, tenant: str, space: str | None = None) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            if space is None:
                rows = connection.execute(_COUNT, (tenant,)).fetchall()
            else:
                rows = connection.execute(_COUNT_SPACE, (tenant, space)).fetchall()
        return int(rows[0][0])

    def last_change(self) -> int:
        """See ``Store``."""
        with self._connections.reading() as connection:
            return _last_change(connection)

    def changes(self, since: int, limit: int) -> Sequence[Change]:
        """See ``Store``."""
        with self._connections.reading() as connection:
            rows = connection.execute(_CHANGES, (since, limit)).fetchall()
        return [
            Change(number, tenant, key, id, space, None if blob is None else _vector(blob))
            for number, tenant, key, id, space, blob in rows
        ]

    def compact(self) -> None:
        """See ``Store``."""
        with self._connections.exclusive() as connection:
            # secure_delete overwrites what is freed, but leaves copies where rows had moved between pages.
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageError("The database is busy.")

    def close(self) -> None:
        """See ``Store``."""
        self._connections.close()


def _last_change(connection: sqlite3.Connection) -> int:
    rows = connection.execute(_LAST_CHANGE).fetchall()
    return int(rows[0][0])


def _dimensions(samples: Sequence[NewSample]) -> dict[str, int]:
    dimensions: dict[str, int] = {}
    for sample in samples:
        if dimensions.setdefault(sample.space, sample.vector.size) != sample.vector.size:
            raise SpaceMismatch("Embeddings of one space have different dimensions.")
    return dimensions


def _space_number(connection: sqlite3.Connection, name: str, dimensions: int) -> int:
    connection.execute("INSERT OR IGNORE INTO spaces (name, dimensions) VALUES (?, ?)", (name, dimensions))
    rows = connection.execute("SELECT number, dimensions FROM spaces WHERE name = ?", (name,)).fetchall()
    number, known = rows[0]
    if known != dimensions:
        raise SpaceMismatch(f"The embedding has {dimensions} dimensions where its space has {known}.")
    return int(number)


def _record(key: int, change: int, id: str, name: str, metadata: str, *rest: str) -> Record:
    return Record(key, change, id, name, json.loads(metadata), *rest)


def _vector(blob: bytes) -> Vector:
    return np.frombuffer(blob, _LITTLE_ENDIAN)
