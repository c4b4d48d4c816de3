"""What one tenant changes in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from face_detection.gallery.collections import tenant_of
from face_detection.gallery.people import Description, NewSample, Sample, Vector
from face_detection.gallery.sql import answers
from face_detection.gallery.sql import statements as sql
from face_detection.gallery.sql.database import Connection, Wordings, listed
from face_detection.gallery.sql.history import leave_mark
from face_detection.gallery.sql.rows import blob, description_row, metadata_text, sample_of, search_text
from shared.errors import NotFound, QuotaExceeded, SpaceMismatch


class Transaction:
    """Counts up changes, numbers and revisions from the last ones. The methods with names of ``Store``'s do the same.

    Attributes:
        connection: that of the transaction.
        change: number of the last change.
        has_tenant: whether the directory knows the tenant, who then stays until the end of the transaction.
    """

    def __init__(self, connection: Connection, tenant: str) -> None:
        """In a transaction that ``connection`` has begun."""
        now = datetime.now(UTC)
        rows = connection.execute(sql.LAST[connection.kind], {"tenant": tenant}).fetchall()
        self.connection = connection
        self.change: int
        self.change, self._number, last, has_tenant = rows[0]
        self.has_tenant = bool(has_tenant)
        self._first_change = self.change
        self._tenant = tenant
        self._now = now.isoformat(timespec="milliseconds")
        self._revision = max(last, int(now.timestamp() * 1_000_000) - 1)

    def finish(self) -> None:
        """Make the number of the last change that of the database, and mark it, see ``history``."""
        if self.change > self._first_change:
            for statement in sql.COUNT_UP[self.connection.kind]:
                self.connection.execute(statement, {"change": self.change})
            leave_mark(self.connection, self.change)

    def count(self, space: str) -> int:
        """How many samples of an embedding space the tenant has by now, in all collections together."""
        rows = self.connection.execute(sql.COUNT_OF_OWNER, {"owner": tenant_of(self._tenant), "space": space})
        return int(rows.fetchall()[0][0])

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, ascending."""
        samples = [sample_of(*row) for row in self._rows(sql.BY_NUMBERS, **listed(numbers))]
        return sorted(samples, key=lambda sample: sample.number)

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; no two samples have both id and space in common."""
        spaces = self._spaces(samples)
        known = self._rows(sql.SAMPLES_OF_PEOPLE, **listed(sorted({sample.id for sample in samples})))
        self._put_people(sql.UPSERT_PEOPLE, samples)
        changes = _Upsert.of(samples, spaces, known)
        if changes.buried:
            self._change(sql.BURY_KEYS, **listed(changes.buried))
        if changes.touched:
            self._change(sql.TOUCH_KEYS, **listed(changes.touched))
        self._change_vectors([(key, spaces[sample.space], sample.vector) for key, sample in changes.changed])
        self._insert(changes.added, spaces)

    def add(self, samples: Sequence[NewSample]) -> list[int]:
        """Add samples, whose numbers are returned; whoever is known keeps their description."""
        first = self._number + 1
        spaces = self._spaces(samples)
        self._put_people(sql.ADD_PEOPLE, samples[::-1])
        self._insert(samples, spaces)
        return list(range(first, self._number + 1))

    def replace(self, number: int, space: str, vector: Vector) -> None:
        """Give a sample another embedding; NotFound if there is none with this number."""
        rows = self._rows(sql.SAMPLE_KEY, number=number)
        if not rows:
            raise NotFound("There is no sample with this number.")
        key, _, former = rows[0]
        new = self._space_number(space, vector.size)
        if new != former:
            self._number += self._change(sql.COPY_SAMPLE, key=key, number=self._number + 1)
        self._change_vectors([(key, new, vector)])

    def describe(self, id: str, description: Description) -> None:
        """Describe a person anew; NotFound if there is nobody with this id."""
        row = {"tenant": self._tenant, "id": id, "now": self._now} | description_row(id, description)
        if not self.connection.execute(sql.DESCRIBE, row).rowcount:
            raise NotFound("There is nobody with this id.")
        self._change(sql.TOUCH, id=id)

    def owner(self, number: int) -> str:
        """Id of the person whose sample it is; there must be one."""
        return str(self._rows(sql.OWNER, number=number)[0][0])

    def delete(self, id: str) -> bool:
        """Delete a person with all samples and events; returns whether there was one."""
        rows = self._rows(sql.PERSON_KEY, id=id)
        for (person,) in rows:
            self._change(sql.BURY_PERSON, person=person)
            self._forget(person)
        return bool(rows)

    def delete_sample(self, number: int) -> bool:
        """Delete a sample, and with the last one the person; returns whether there was one."""
        rows = self._rows(sql.SAMPLE_KEY, number=number)
        for key, person, _ in rows:
            self._change(sql.BURY_KEYS, **listed([key]))
            self.connection.execute(answers.EMPTY_OF_PERSON, {"person": person})
            if not self._rows(sql.HAS_SAMPLES, person=person):
                self._forget(person)
        return bool(rows)

    def clear(self) -> int:
        """Delete everybody; returns how many samples there were."""
        self.connection.be_patient()
        count = self._change(sql.BURY_TENANT)
        for statement in (*answers.CLEAR, sql.CLEAR_EVENTS, sql.CLEAR_PEOPLE):
            self.connection.execute(statement, {"tenant": self._tenant})
        return count

    def _forget(self, person: int) -> None:
        for statement in (answers.EMPTY_OF_PERSON, answers.FORGET_PERSON, sql.DELETE_EVENTS, sql.DELETE_PERSON):
            self.connection.execute(statement, {"person": person})

    def _change_vectors(self, changes: Sequence[tuple[int, int, Vector]]) -> None:
        """Give samples other embeddings: key, number of the space, vector."""
        rows = [
            {"key": key, "space": space, "vector": blob(vector), "position": position}
            for position, (key, space, vector) in enumerate(changes, start=1)
        ]
        counters = {"change": self.change, "revision": self._revision}
        self.connection.execute_batch(sql.CHANGE_VECTORS, rows, counters)
        self._advance(len(rows))

    def _insert(self, samples: Sequence[NewSample], spaces: Mapping[str, int]) -> None:
        rows = [
            {"id": sample.id, "space": spaces[sample.space], "vector": blob(sample.vector), "position": position}
            for position, sample in enumerate(samples, start=1)
        ]
        counters = {"number": self._number, "change": self.change, "revision": self._revision}
        self.connection.execute_batch(sql.INSERT, rows, counters | {"tenant": self._tenant})
        self._number += self._advance(len(rows))

    def _put_people(self, statements: Wordings, samples: Sequence[NewSample]) -> None:
        """Of samples with equal ids the last one describes the person."""
        people = {sample.id: sample for sample in samples}.values()
        rows = [
            {
                "id": sample.id,
                "name": sample.name,
                "metadata": metadata_text(sample.metadata),
                "action": sample.action,
                "created_at": sample.created_at,
                "updated_at": sample.updated_at,
                "search": search_text(sample.id, sample.name),
            }
            for sample in people
        ]
        dated = [sample.id for sample in people if sample.created_at is not None]
        self.connection.execute_batch(statements, rows, {"tenant": self._tenant, "now": self._now, "dated": dated})

    def _spaces(self, samples: Sequence[NewSample]) -> dict[str, int]:
        dimensions: dict[str, int] = {}
        for sample in samples:
            if dimensions.setdefault(sample.space, sample.vector.size) != sample.vector.size:
                raise SpaceMismatch("Embeddings of one space have different dimensions.")
        return {name: self._space_number(name, length) for name, length in dimensions.items()}

    def _space_number(self, name: str, dimensions: int) -> int:
        rows = self._rows(sql.SPACE, name=name) or self._rows(sql.ADD_SPACE, name=name, dimensions=dimensions)
        number, known = rows[0]
        if known != dimensions:
            raise SpaceMismatch(f"The embedding has {dimensions} dimensions where its space has {known}.")
        return int(number)

    def _rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, {"tenant": self._tenant, **values}).fetchall()

    def _change(self, statement: str, **values: object) -> int:
        """Changes of samples, each with the next number; returns how many."""
        counters = {"tenant": self._tenant, "change": self.change, "revision": self._revision}
        return self._advance(self.connection.execute(statement, counters | values).rowcount)

    def _advance(self, count: int) -> int:
        self.change += count
        self._revision += count
        return count


def check_quota(transaction: Transaction, added: Sequence[NewSample], quota: int | None) -> None:
    """Raise QuotaExceeded if the tenant has more samples than ``quota`` in a space of those that were added."""
    if quota is not None and any(transaction.count(space) > quota for space in {one.space for one in added}):
        raise QuotaExceeded(f"The gallery would have more than the {quota} samples that the API key allows.")


@dataclass
class _Upsert:
    """What storing a batch comes to, by the keys of the samples that are there.

    Attributes:
        changed: they get the embeddings of new samples.
        buried: they go.
        touched: they are of other spaces and stay, but their person is described anew.
        added: who has none of this space yet.
    """

    changed: list[tuple[int, NewSample]] = field(default_factory=list)
    buried: list[int] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)
    added: list[NewSample] = field(default_factory=list)

    @classmethod
    def of(cls, samples: Sequence[NewSample], spaces: Mapping[str, int], known: Iterable[tuple[Any, ...]]) -> _Upsert:
        """What ``Store.upsert`` has to do.

        Args:
            samples: the batch.
            spaces: numbers of its embedding spaces.
            known: what the people of the batch have: id, number of the space and key of each sample, by key.
        """
        keys: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for id, space, key in known:
            keys[id][space].append(key)
        upsert = cls()
        for sample in samples:
            own = keys[sample.id].pop(spaces[sample.space], None)
            if own:
                upsert.changed.append((own[0], sample))
                upsert.buried += own[1:]
            else:
                upsert.added.append(sample)
        upsert.touched = [key for others in keys.values() for own in others.values() for key in own]
        return upsert
