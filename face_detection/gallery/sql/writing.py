"""How people and samples are written to any SQL database: whatever a request changes, it changes in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from face_detection.gallery.directory import UNKNOWN_TENANT
from face_detection.gallery.sql import answers
from face_detection.gallery.sql.answers import Once
from face_detection.gallery.sql.database import Connection
from face_detection.gallery.store import Description, NewSample, Sample, Vector
from shared.errors import NotFound, QuotaExceeded


class Transaction(Protocol):
    """What one tenant changes in one transaction. The methods named as those of ``Store`` do the same.

    Attributes:
        change: number of the last change.
        has_tenant: whether the directory knows the tenant, who then stays until the end of the transaction.
    """

    change: int
    has_tenant: bool

    @property
    def connection(self) -> Connection:
        """That of the transaction, for what is the same SQL in every database."""

    def count(self, space: str) -> int:
        """How many samples of an embedding space the tenant has by now."""

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; no two samples have both id and space in common."""

    def add(self, samples: Sequence[NewSample]) -> list[int]:
        """See ``Store.add``; returns the numbers."""

    def numbered(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples with these numbers, which ascend, in order."""

    def replace(self, number: int, space: str, vector: Vector) -> None:
        """See ``Store``."""

    def describe(self, id: str, description: Description) -> None:
        """See ``Store``."""

    def owner(self, number: int) -> str:
        """Id of the person whose sample it is; there must be one."""

    def delete(self, id: str) -> bool:
        """See ``Store``."""

    def delete_sample(self, number: int) -> bool:
        """See ``Store``."""

    def clear(self) -> int:
        """See ``Store``."""


@dataclass
class Upsert:
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
    def of(
        cls, samples: Sequence[NewSample], spaces: Mapping[str, int], known: Iterable[tuple[str, int, int]]
    ) -> Upsert:
        """See ``Store.upsert``.

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


class SQLStore(ABC):
    """The writing half of a ``Store``."""

    @abstractmethod
    def last_change(self) -> int:
        """See ``Store``."""

    @abstractmethod
    def _transaction(self, tenant: str) -> AbstractContextManager[Transaction]:
        """A transaction, which is committed at the end and rolled back on any error."""

    def upsert(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> int:
        """See ``Store``."""
        if not samples and once is None:
            return self.last_change()
        with self._writing(tenant, samples, quota) as transaction, _done_once(transaction, tenant, once) as done:
            done.ids = [sample.id for sample in samples]
            transaction.upsert(list({(sample.id, sample.space): sample for sample in samples}.values()))
        return transaction.change

    def add(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sequence[Sample]:
        """See ``Store``."""
        if not samples and once is None:
            return []
        with self._writing(tenant, samples, quota) as transaction, _done_once(transaction, tenant, once) as done:
            done.ids = [sample.id for sample in samples]
            done.samples = transaction.numbered(transaction.add(samples))
        return done.samples

    def replace(
        self,
        tenant: str,
        number: int,
        space: str,
        vector: Vector,
        description: Description | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sample:
        """See ``Store``."""
        with self._transaction(tenant) as transaction, _done_once(transaction, tenant, once) as done:
            transaction.replace(number, space, vector)
            owner = transaction.owner(number)
            if description is not None:
                transaction.describe(owner, description)
            done.ids, done.samples = [owner], transaction.numbered([number])
        return done.samples[0]

    def describe(self, tenant: str, id: str, description: Description) -> None:
        """See ``Store``."""
        with self._transaction(tenant) as transaction:
            transaction.describe(id, description)

    def delete(self, tenant: str, id: str) -> bool:
        """See ``Store``."""
        with self._transaction(tenant) as transaction:
            return transaction.delete(id)

    def delete_sample(self, tenant: str, number: int) -> bool:
        """See ``Store``."""
        with self._transaction(tenant) as transaction:
            return transaction.delete_sample(number)

    def clear(self, tenant: str) -> int:
        """See ``Store``."""
        with self._transaction(tenant) as transaction:
            return transaction.clear()

    @contextmanager
    def _writing(self, tenant: str, samples: Sequence[NewSample], quota: int | None) -> Iterator[Transaction]:
        """A transaction that adds samples, which nobody would own if there were no tenant."""
        with self._transaction(tenant) as transaction:
            if not transaction.has_tenant:  # it may have been deleted since the request was let in
                raise NotFound(UNKNOWN_TENANT)
            yield transaction
            if quota is not None and any(transaction.count(space) > quota for space in {one.space for one in samples}):
                raise QuotaExceeded(f"The gallery would have more than the {quota} samples that the API key allows.")


@dataclass
class _Done:
    """What a transaction has stored: samples, and the ids of all whose they are."""

    samples: Sequence[Sample] = ()
    ids: Sequence[str] = ()


@contextmanager
def _done_once(transaction: Transaction, tenant: str, once: Once[Sequence[Sample]] | None) -> Iterator[_Done]:
    """Keeps the answer to a request, which is made of what is filled in; see ``answers``."""
    done = _Done()
    if once is not None:
        answers.find(transaction.connection, once)
    yield done
    if once is not None:
        answers.keep(transaction.connection, tenant, once, done.samples, done.ids)
