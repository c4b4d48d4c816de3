"""What changes in the PostgreSQL store within one transaction."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import Cursor

from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.rows import blob, sample_of
from face_detection.gallery.store import Description, NewSample, Sample, Vector
from shared.errors import NotFound, SpaceMismatch


class Transaction:
    """What a tenant changes in one transaction: counts up changes, numbers and revisions from the last ones."""

    def __init__(self, connection: Session, tenant: str) -> None:
        now = datetime.now(UTC)
        self._connection = connection
        self.change: int
        self.has_tenant: bool
        ((self.change, self._number, last, self.has_tenant),) = connection.execute(
            sql.LAST, {"tenant": tenant}
        ).fetchall()
        self._first_change = self.change
        self._tenant = tenant
        self._now = now.isoformat(timespec="milliseconds")
        self._revision = max(last, int(now.timestamp() * 1_000_000) - 1)

    def finish(self) -> None:
        """Make the numbers of the changes the last ones."""
        if self.change > self._first_change:
            self._execute(sql.COUNT_UP, change=self.change)

    def count(self) -> int:
        """How many samples the tenant has by now."""
        return int(self._execute(sql.COUNT)[0][0])

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, which ascend, in order."""
        rows = self._connection.execute(
            sql.BY_NUMBERS, {"tenant": self._tenant, "numbers": list(numbers)}, binary=True
        ).fetchall()
        return [sample_of(*row) for row in rows]

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; the ids differ."""
        spaces = self._spaces(samples)
        known = dict(self._execute(sql.KEYS_OF_PEOPLE, ids=[sample.id for sample in samples]))
        self._put_people(sql.UPSERT_PEOPLE, samples)
        doomed: list[tuple[int, int]] = []
        changed: list[tuple[int, int, int, bytes]] = []
        position = 0
        for sample in samples:
            if sample.id in known:
                first, *others = known[sample.id]
                doomed += zip(others, itertools.count(position + 1), strict=False)
                position += len(others) + 1
                changed.append((first, position, spaces[sample.space], blob(sample.vector)))
        if doomed:
            keys, positions = map(list, zip(*doomed, strict=True))
            self._execute(sql.BURY_KEYS, keys=keys, positions=positions)
        if changed:
            self._change_vectors(changed)
        self._advance(position)
        self._insert([sample for sample in samples if sample.id not in known], spaces)

    def add(self, samples: Sequence[NewSample]) -> list[int]:
        """See ``Store.add``; returns the numbers."""
        first = self._number + 1
        spaces = self._spaces(samples)
        self._put_people(sql.ADD_PEOPLE, list({sample.id: sample for sample in reversed(samples)}.values()))
        self._insert(samples, spaces)
        return list(range(first, self._number + 1))

    def replace(self, number: int, space: str, vector: Vector) -> None:
        """See ``Store.replace``."""
        rows = self._execute(sql.SAMPLE_KEY, number=number)
        if not rows:
            raise NotFound("There is no sample with this number.")
        self._change_vectors([(rows[0][0], 1, self._space_number(space, vector.size), blob(vector))])
        self._advance(1)

    def describe(self, id: str, description: Description) -> None:
        """See ``Store.describe``."""
        metadata = _json(description.metadata)
        values = {"id": id, "name": description.name, "metadata": metadata, "action": description.action}
        if not self._count(sql.DESCRIBE, **values):
            raise NotFound("There is nobody with this id.")
        self._advance(self._count(sql.TOUCH, id=id))

    def owner(self, number: int) -> str:
        """Id of the person whose sample it is; there must be one."""
        return str(self._execute(sql.OWNER, number=number)[0][0])

    def delete(self, id: str) -> bool:
        """See ``Store.delete``."""
        rows = self._execute(sql.PERSON_KEY, id=id)
        for (person,) in rows:
            self._advance(self._count(sql.BURY_PERSON, person=person))
            self._forget(person)
        return bool(rows)

    def delete_sample(self, number: int) -> bool:
        """See ``Store.delete_sample``."""
        rows = self._execute(sql.SAMPLE_KEY, number=number)
        for key, person in rows:
            self._advance(self._count(sql.BURY_KEYS, keys=[key], positions=[1]))
            if not self._execute(sql.HAS_SAMPLES, person=person):
                self._forget(person)
        return bool(rows)

    def clear(self) -> int:
        """See ``Store.clear``."""
        self._connection.be_patient()
        count = self._advance(self._count(sql.BURY_TENANT))
        self._count(sql.CLEAR_EVENTS)
        self._count(sql.CLEAR_PEOPLE)
        return count

    def _forget(self, person: int) -> None:
        self._count(sql.DELETE_EVENTS, person=person)
        self._count(sql.DELETE_PERSON, person=person)

    def _change_vectors(self, changes: Sequence[tuple[int, int, int, bytes]]) -> None:
        """Give samples other embeddings: key, position among the changes, number of the space, vector."""
        keys, positions, spaces, vectors = map(list, zip(*changes, strict=True))
        self._count(sql.CHANGE_VECTORS, keys=keys, positions=positions, spaces=spaces, vectors=vectors)

    def _insert(self, samples: Sequence[NewSample], spaces: dict[str, int]) -> None:
        if not samples:
            return
        self._count(
            sql.INSERT,
            number=self._number,
            ids=[sample.id for sample in samples],
            spaces=[spaces[sample.space] for sample in samples],
            vectors=[blob(sample.vector) for sample in samples],
        )
        self._number += self._advance(len(samples))

    def _put_people(self, statement: str, samples: Sequence[NewSample]) -> None:
        self._count(
            statement,
            ids=[sample.id for sample in samples],
            names=[sample.name for sample in samples],
            metadata=[_json(sample.metadata) for sample in samples],
            actions=[sample.action for sample in samples],
        )

    def _spaces(self, samples: Sequence[NewSample]) -> dict[str, int]:
        dimensions: dict[str, int] = {}
        for sample in samples:
            if dimensions.setdefault(sample.space, sample.vector.size) != sample.vector.size:
                raise SpaceMismatch("Embeddings of one space have different dimensions.")
        return {name: self._space_number(name, length) for name, length in dimensions.items()}

    def _space_number(self, name: str, dimensions: int) -> int:
        rows = self._execute(sql.SPACE, name=name) or self._execute(sql.ADD_SPACE, name=name, dimensions=dimensions)
        number, known = rows[0]
        if known != dimensions:
            raise SpaceMismatch(f"The embedding has {dimensions} dimensions where its space has {known}.")
        return int(number)

    def _execute(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        cursor = self._run(statement, values)
        return cursor.fetchall() if cursor.description else []

    def _count(self, statement: str, **values: object) -> int:
        return self._run(statement, values).rowcount

    def _run(self, statement: str, values: dict[str, object]) -> Cursor[tuple[Any, ...]]:
        known = {"tenant": self._tenant, "now": self._now, "change": self.change, "revision": self._revision}
        return self._connection.execute(statement, known | values)

    def _advance(self, count: int) -> int:
        self.change += count
        self._revision += count
        return count


def _json(metadata: Any) -> str:
    return json.dumps(metadata, separators=(",", ":"))
