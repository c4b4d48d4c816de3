"""What changes in the SQLite store within one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from face_detection.gallery import sqlite_statements as sql
from face_detection.gallery.rows import blob, sample_of
from face_detection.gallery.store import Description, NewSample, Sample, Vector
from shared.errors import NotFound, SpaceMismatch


class Transaction:
    """What a tenant changes in one transaction: counts up changes, numbers and revisions from the last ones."""

    def __init__(self, connection: sqlite3.Connection, tenant: str) -> None:
        now = datetime.now(UTC)
        self._connection = connection
        self.change = number_of(connection, sql.LAST_CHANGE)
        self.has_tenant = bool(number_of(connection, sql.HAS_TENANT, tenant))
        self._tenant = tenant
        self._now = now.isoformat(timespec="milliseconds")
        self._number = number_of(connection, sql.LAST_NUMBER, tenant)
        last = number_of(connection, sql.LAST_REVISION, tenant)
        self._revision = max(last, int(now.timestamp() * 1_000_000) - 1)

    def count(self) -> int:
        """How many samples the tenant has by now."""
        return number_of(self._connection, sql.COUNT, self._tenant)

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, which ascend, in order."""
        rows = self._connection.execute(sql.BY_NUMBERS, (json.dumps(numbers), self._tenant)).fetchall()
        return [sample_of(*row) for row in rows]

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; the ids differ."""
        spaces = self._spaces(samples)
        self._put_people(sql.UPSERT_PERSON, samples)
        known = self._first_samples(samples)
        for sample in samples:
            if sample.id in known:
                person, key, count = known[sample.id]
                if count > 1:
                    self._bury("others", person=person, key=key)
                self._change_vector(key, spaces[sample.space], sample.vector)
        self._insert([sample for sample in samples if sample.id not in known], spaces)

    def add(self, samples: Sequence[NewSample]) -> list[int]:
        """See ``Store.add``; returns the numbers."""
        first = self._number + 1
        self._put_people(sql.ADD_PERSON, list({sample.id: sample for sample in reversed(samples)}.values()))
        self._insert(samples, self._spaces(samples))
        return list(range(first, self._number + 1))

    def replace(self, number: int, space: str, vector: Vector) -> None:
        """See ``Store.replace``."""
        rows = self._connection.execute(sql.SAMPLE_KEY, (self._tenant, number)).fetchall()
        if not rows:
            raise NotFound("There is no sample with this number.")
        self._change_vector(rows[0][0], _space_number(self._connection, space, vector.size), vector)

    def describe(self, id: str, description: Description) -> None:
        """See ``Store.describe``."""
        row = self._row(id, description.name, description.metadata, description.action)
        if not self._connection.execute(sql.DESCRIBE, row).rowcount:
            raise NotFound("There is nobody with this id.")
        counters = {"change": self.change, "revision": self._revision}
        self._advance(self._connection.execute(sql.TOUCH, row | counters).rowcount)

    def owner(self, number: int) -> str:
        """Id of the person whose sample it is; there must be one."""
        rows = self._connection.execute(sql.OWNER, (self._tenant, number)).fetchall()
        return str(rows[0][0])

    def delete(self, id: str) -> bool:
        """See ``Store.delete``."""
        rows = self._connection.execute(sql.PERSON_KEY, (self._tenant, id)).fetchall()
        for (person,) in rows:
            self._bury("person", person=person)
            self._forget(person)
        return bool(rows)

    def delete_sample(self, number: int) -> bool:
        """See ``Store.delete_sample``."""
        rows = self._connection.execute(sql.SAMPLE_KEY, (self._tenant, number)).fetchall()
        for key, person in rows:
            self._bury("one", key=key)
            if not self._connection.execute(sql.HAS_SAMPLES, (person,)).fetchall():
                self._forget(person)
        return bool(rows)

    def clear(self) -> int:
        """See ``Store.clear``."""
        count = self._bury("tenant", tenant=self._tenant)
        self._connection.execute(sql.CLEAR_EVENTS, (self._tenant,))
        self._connection.execute(sql.CLEAR_PEOPLE, (self._tenant,))
        return count

    def _forget(self, person: int) -> None:
        self._connection.execute(sql.DELETE_EVENTS, (person,))
        self._connection.execute(sql.DELETE_PERSON, (person,))

    def _bury(self, which: sql.Which, **values: object) -> int:
        """Transaction samples into tombstones; returns how many."""
        values |= {"change": self.change, "revision": self._revision}
        return self._advance(self._connection.execute(sql.BURY[which], values).rowcount)

    def _change_vector(self, key: int, space: int, vector: Vector) -> None:
        self._advance(1)
        row = {"key": key, "space": space, "vector": blob(vector)}
        self._connection.execute(sql.CHANGE_VECTOR, row | {"change": self.change, "revision": self._revision})

    def _insert(self, samples: Sequence[NewSample], spaces: dict[str, int]) -> None:
        rows = (
            (self._tenant, self._number + n, self.change + n, self._revision + n, self._tenant, sample.id)
            + (spaces[sample.space], blob(sample.vector))
            for n, sample in enumerate(samples, start=1)
        )
        self._connection.executemany(sql.INSERT, rows)
        self._advance(len(samples))
        self._number += len(samples)

    def _put_people(self, statement: str, samples: Sequence[NewSample]) -> None:
        self._connection.executemany(statement, (self._row(s.id, s.name, s.metadata, s.action) for s in samples))

    def _row(self, id: str, name: str, metadata: Any, action: str | None) -> dict[str, object]:
        metadata = json.dumps(metadata, separators=(",", ":"))
        return {
            "tenant": self._tenant,
            "id": id,
            "name": name,
            "metadata": metadata,
            "action": action,
            "now": self._now,
        }

    def _first_samples(self, samples: Sequence[NewSample]) -> dict[str, tuple[int, int, int]]:
        """For each known person: its key, the key of its first sample, and how many it has."""
        ids = json.dumps([sample.id for sample in samples])
        rows = self._connection.execute(sql.FIRST_SAMPLES, (ids, self._tenant)).fetchall()
        return {id: (person, key, count) for id, person, key, count in rows}

    def _spaces(self, samples: Sequence[NewSample]) -> dict[str, int]:
        dimensions: dict[str, int] = {}
        for sample in samples:
            if dimensions.setdefault(sample.space, sample.vector.size) != sample.vector.size:
                raise SpaceMismatch("Embeddings of one space have different dimensions.")
        return {name: _space_number(self._connection, name, length) for name, length in dimensions.items()}

    def _advance(self, count: int) -> int:
        self.change += count
        self._revision += count
        return count


def number_of(connection: sqlite3.Connection, statement: str, *parameters: object) -> int:
    """The single integer that a query answers with."""
    return int(connection.execute(statement, parameters).fetchall()[0][0])


def _space_number(connection: sqlite3.Connection, name: str, dimensions: int) -> int:
    connection.execute(sql.ADD_SPACE, (name, dimensions))
    rows = connection.execute(sql.SPACE, (name,)).fetchall()
    number, known = rows[0]
    if known != dimensions:
        raise SpaceMismatch(f"The embedding has {dimensions} dimensions where its space has {known}.")
    return int(number)
