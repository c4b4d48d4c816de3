"""How people and samples are written to any SQL database: whatever a request changes, it changes in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from face_detection.gallery.directory import UNKNOWN_TENANT
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

    def count(self) -> int:
        """How many samples the tenant has by now."""

    def upsert(self, samples: Sequence[NewSample]) -> None:
        """See ``Store.upsert``; the ids differ."""

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


class SQLStore(ABC):
    """The writing half of a ``Store``."""

    @abstractmethod
    def last_change(self) -> int:
        """See ``Store``."""

    @abstractmethod
    def _transaction(self, tenant: str) -> AbstractContextManager[Transaction]:
        """A transaction, which is committed at the end and rolled back on any error."""

    def upsert(self, tenant: str, samples: Sequence[NewSample], quota: int | None = None) -> int:
        """See ``Store``."""
        if not samples:
            return self.last_change()
        with self._writing(tenant, quota) as transaction:
            transaction.upsert(list({sample.id: sample for sample in samples}.values()))
        return transaction.change

    def add(self, tenant: str, samples: Sequence[NewSample], quota: int | None = None) -> Sequence[Sample]:
        """See ``Store``."""
        if not samples:
            return []
        with self._writing(tenant, quota) as transaction:
            return transaction.numbered(transaction.add(samples))

    def replace(
        self, tenant: str, number: int, space: str, vector: Vector, description: Description | None = None
    ) -> None:
        """See ``Store``."""
        with self._transaction(tenant) as transaction:
            transaction.replace(number, space, vector)
            if description is not None:
                transaction.describe(transaction.owner(number), description)

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
    def _writing(self, tenant: str, quota: int | None) -> Iterator[Transaction]:
        """A transaction that adds something, which nobody would own if there were no tenant."""
        with self._transaction(tenant) as transaction:
            if not transaction.has_tenant:  # it may have been deleted since the request was let in
                raise NotFound(UNKNOWN_TENANT)
            yield transaction
            if quota is not None and transaction.count() > quota:
                raise QuotaExceeded(f"The gallery would have more than the {quota} samples that the API key allows.")
