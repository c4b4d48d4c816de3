"""What changes in the SQLite store within one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from face_detection.gallery.sql import answers
from face_detection.gallery.sql.history import leave_mark
from face_detection.gallery.sql.rows import blob, description_row, metadata_text, sample_of, search_text
from face_detection.gallery.sql.writing import Upsert
from face_detection.gallery.sqlite import statements as sql
from face_detection.gallery.store import Description, NewSample, Sample, Vector
from shared.errors import NotFound, SpaceMismatch


class Transaction:
    """What a tenant changes in one transaction: counts up changes, numbers and revisions from the last ones."""

    def __init__(self, connection: sqlite3.Connection, tenant: str) -> None:
        now = datetime.now(UTC)
        self.connection = self._connection = connection
        self.change = self._first_change = number_of(connection, sql.LAST_CHANGE)
        self.has_tenant = bool(number_of(connection, sql.HAS_TENANT, tenant))
        self._tenant = tenant
        self._now = now.isoformat(timespec="milliseconds")
        self._number = number_of(connection, sql.LAST_NUMBER, tenant)
        last = number_of(connection, sql.LAST_REVISION, tenant)
        self._revision = max(last, int(now.timestamp() * 1_000_000) - 1)

    def finish(self) -> None:
        """Mark what was changed, see ``history``."""
        if self.change > self._first_change:
            leave_mark(self._connection, self.change)

    def count(self, space: str) -> int:
        """How many samples of an embedding space the tenant has by now."""
        return number_of(self._connection, sql.COUNT_SPACE, self._tenant, space)

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, which ascend, in order."""
        rows = self._connection.execute(sql.BY_NUMBERS, (json.dumps(numbers), self._tenant)).fetchall()
        return [sample_of(*row) for row in rows]

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; no two samples have both id and space in common."""
        spaces = self._spaces(samples)
        self._put_people(sql.UPSERT_PERSON, samples)
        ids = json.dumps(sorted({sample.id for sample in samples}))
        known = self._connection.execute(sql.SAMPLES_OF_PEOPLE, (ids, self._tenant)).fetchall()
        upsert = Upsert.of(samples, spaces, known)
        for key in upsert.buried:
            self._bury("one", key=key)
        for key in upsert.touched:
            self._change(sql.TOUCH_SAMPLE, key)
        for key, sample in upsert.changed:
            self._change(sql.CHANGE_VECTOR, key, space=spaces[sample.space], vector=blob(sample.vector))
        self._insert(upsert.added, spaces)

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
        key, _, former = rows[0]
        new = _space_number(self._connection, space, vector.size)
        if new != former:
            self._number += 1
            self._change(sql.COPY_SAMPLE, key, number=self._number)
        self._change(sql.CHANGE_VECTOR, key, space=new, vector=blob(vector))

    def describe(self, id: str, description: Description) -> None:
        """See ``Store.describe``."""
        row = {"tenant": self._tenant, "id": id, "now": self._now}
        if not self._connection.execute(sql.DESCRIBE, row | description_row(id, description)).rowcount:
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
        for key, person, _ in rows:
            self._bury("one", key=key)
            self._connection.execute(answers.EMPTY_OF_PERSON, {"person": person})
            if not self._connection.execute(sql.HAS_SAMPLES, (person,)).fetchall():
                self._forget(person)
        return bool(rows)

    def clear(self) -> int:
        """See ``Store.clear``."""
        count = self._bury("tenant", tenant=self._tenant)
        for statement in answers.CLEAR:
            self._connection.execute(statement, {"tenant": self._tenant})
        self._connection.execute(sql.CLEAR_EVENTS, (self._tenant,))
        self._connection.execute(sql.CLEAR_PEOPLE, (self._tenant,))
        return count

    def _forget(self, person: int) -> None:
        self._connection.execute(answers.EMPTY_OF_PERSON, {"person": person})
        self._connection.execute(answers.FORGET_PERSON, {"person": person})
        self._connection.execute(sql.DELETE_EVENTS, (person,))
        self._connection.execute(sql.DELETE_PERSON, (person,))

    def _bury(self, which: sql.Which, **values: object) -> int:
        """Transaction samples into tombstones; returns how many."""
        values |= {"change": self.change, "revision": self._revision}
        return self._advance(self._connection.execute(sql.BURY[which], values).rowcount)

    def _change(self, statement: str, key: int, **values: object) -> None:
        """One change, of or from the sample with this key."""
        self._advance(1)
        values |= {"key": key, "change": self.change, "revision": self._revision}
        self._connection.execute(statement, values)

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
        rows = (
            {
                "tenant": self._tenant,
                "id": sample.id,
                "name": sample.name,
                "metadata": metadata_text(sample.metadata),
                "action": sample.action,
                "created_at": sample.created_at,
                "updated_at": sample.updated_at,
                "now": self._now,
                "search": search_text(sample.id, sample.name),
            }
            for sample in samples
        )
        self._connection.executemany(statement, rows)

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
