"""What changes in the PostgreSQL store within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import Cursor

from face_detection.gallery.postgres import statements as sql
from face_detection.gallery.postgres.named import NamedSession
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.sql import answers
from face_detection.gallery.sql.history import leave_mark
from face_detection.gallery.sql.rows import blob, description_row, metadata_text, sample_of, search_text
from face_detection.gallery.sql.writing import Upsert
from face_detection.gallery.store import Description, NewSample, Sample, Vector
from shared.errors import NotFound, SpaceMismatch


class Transaction:
    """What a tenant changes in one transaction: counts up changes, numbers and revisions from the last ones."""

    def __init__(self, connection: Session, tenant: str) -> None:
        now = datetime.now(UTC)
        self._connection = connection
        self.connection = NamedSession(connection)
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
        """Make the numbers of the changes the last ones, and mark them, see ``history``."""
        if self.change > self._first_change:
            self._execute(sql.COUNT_UP, change=self.change)
            leave_mark(self.connection, self.change)

    def count(self, space: str) -> int:
        """How many samples of an embedding space the tenant has by now."""
        return int(self._execute(sql.COUNT_SPACE, space=space)[0][0])

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, which ascend, in order."""
        rows = self._connection.execute(
            sql.BY_NUMBERS, {"tenant": self._tenant, "numbers": list(numbers)}, binary=True
        ).fetchall()
        return [sample_of(*row) for row in rows]

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; no two samples have both id and space in common."""
        spaces = self._spaces(samples)
        ids = sorted({sample.id for sample in samples})
        known = self._execute(sql.SAMPLES_OF_PEOPLE, ids=ids)
        self._put_people(sql.UPSERT_PEOPLE, samples)
        upsert = Upsert.of(samples, spaces, known)
        if upsert.buried:
            self._advance(self._count(sql.BURY_KEYS, keys=upsert.buried))
        if upsert.touched:
            self._advance(self._count(sql.TOUCH_KEYS, keys=upsert.touched))
        if upsert.changed:
            self._change_vectors([(key, spaces[sample.space], blob(sample.vector)) for key, sample in upsert.changed])
        self._insert(upsert.added, spaces)

    def add(self, samples: Sequence[NewSample]) -> list[int]:
        """See ``Store.add``; returns the numbers."""
        first = self._number + 1
        spaces = self._spaces(samples)
        self._put_people(sql.ADD_PEOPLE, samples[::-1])
        self._insert(samples, spaces)
        return list(range(first, self._number + 1))

    def replace(self, number: int, space: str, vector: Vector) -> None:
        """See ``Store.replace``."""
        rows = self._execute(sql.SAMPLE_KEY, number=number)
        if not rows:
            raise NotFound("There is no sample with this number.")
        key, _, former = rows[0]
        new = self._space_number(space, vector.size)
        if new != former:
            self._number += self._advance(self._count(sql.COPY_SAMPLE, key=key, number=self._number + 1))
        self._change_vectors([(key, new, blob(vector))])

    def describe(self, id: str, description: Description) -> None:
        """See ``Store.describe``."""
        if not self._count(sql.DESCRIBE, id=id, **description_row(id, description)):
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
        for key, person, _ in rows:
            self._advance(self._count(sql.BURY_KEYS, keys=[key]))
            self.connection.execute(answers.EMPTY_OF_PERSON, {"person": person})
            if not self._execute(sql.HAS_SAMPLES, person=person):
                self._forget(person)
        return bool(rows)

    def clear(self) -> int:
        """See ``Store.clear``."""
        self._connection.be_patient()
        count = self._advance(self._count(sql.BURY_TENANT))
        for statement in answers.CLEAR:
            self.connection.execute(statement, {"tenant": self._tenant})
        self._count(sql.CLEAR_EVENTS)
        self._count(sql.CLEAR_PEOPLE)
        return count

    def _forget(self, person: int) -> None:
        self.connection.execute(answers.EMPTY_OF_PERSON, {"person": person})
        self.connection.execute(answers.FORGET_PERSON, {"person": person})
        self._count(sql.DELETE_EVENTS, person=person)
        self._count(sql.DELETE_PERSON, person=person)

    def _change_vectors(self, changes: Sequence[tuple[int, int, bytes]]) -> None:
        """Give samples other embeddings: key, number of the space, vector."""
        keys, spaces, vectors = map(list, zip(*changes, strict=True))
        self._advance(self._count(sql.CHANGE_VECTORS, keys=keys, spaces=spaces, vectors=vectors))

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
        """Of samples with equal ids the last one describes the person."""
        people = {sample.id: sample for sample in samples}.values()
        self._count(
            statement,
            ids=[sample.id for sample in people],
            names=[sample.name for sample in people],
            metadata=[metadata_text(sample.metadata) for sample in people],
            actions=[sample.action for sample in people],
            created=[sample.created_at for sample in people],
            updated=[sample.updated_at for sample in people],
            dated=[sample.id for sample in people if sample.created_at is not None],
            searches=[search_text(sample.id, sample.name) for sample in people],
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
