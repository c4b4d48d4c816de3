"""What a store of samples promises, whatever database is behind it.

A sample is one embedding of one enrolled photo, with its name and metadata, under an id that is unique within
its tenant. Every change of a sample takes the next number of one sequence per database. A deletion is a change
too: it leaves a tombstone, which has the tenant, the id and the number, and nothing else. Whoever has applied
all changes up to N asks for those after N and is then up to date (``changes``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.distances import MAX_LENGTH, lengths
from shared.errors import InvalidRequest

Vector = NDArray[np.float32]

MAX_NESTING = 64
"""Levels of arrays and objects in metadata; far below what Python's JSON parser can read back at any stack depth."""


@dataclass(frozen=True, eq=False)
class NewSample:
    """A sample to be stored.

    Attributes:
        id: unique within the tenant, not empty.
        name: what to call the person.
        metadata: any JSON value that nests at most ``MAX_NESTING`` levels of arrays and objects.
        space: the embedding space that the vector belongs to (``ModelCard.space``).
        vector: (dimensions,) float32, the embedding as the model gave it; not zero, shorter than ``MAX_LENGTH``.
        action: text that the client wants back with the metadata.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    id: str
    name: str
    metadata: Any
    space: str
    vector: Vector
    action: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidRequest("The id is empty.")
        try:
            f"{self.id}{self.name}{self.action}".encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest("The id, the name or the action is not valid Unicode.") from error
        if _nests_deeper(self.metadata, MAX_NESTING):
            raise InvalidRequest(f"The metadata nests deeper than {MAX_NESTING} levels.")
        try:
            json.dumps(self.metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidRequest("The metadata is not a JSON value.") from error
        if self.vector.dtype != np.float32 or self.vector.ndim != 1:
            raise InvalidRequest("The embedding is not a float32 vector.")
        if not 0.0 < lengths(self.vector) < MAX_LENGTH:
            raise InvalidRequest("The embedding is zero, too long or not finite.")


def _nests_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nests_deeper(part, levels - 1) for part in parts)


@dataclass(frozen=True)
class Record:
    """A stored sample without its vector.

    Attributes:
        key: stable integer of (tenant, id) in this database; survives replacing and deleting the sample.
        change: number of the sample's latest change, so equal records are the same version.
        id, name, metadata, action, space: as given in ``NewSample``.
        created_at, updated_at: ISO 8601, UTC. Replacing a sample keeps ``created_at``.
    """

    key: int
    change: int
    id: str
    name: str
    metadata: Any
    action: str | None
    space: str
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Sample(Record):
    """A stored sample.

    Attributes:
        vector: (dimensions,) float32, read-only. Left out of comparisons: ``change`` stands for it.
    """

    vector: Vector = field(compare=False)


@dataclass(frozen=True)
class Page:
    """A part of a tenant's samples.

    Attributes:
        records: in the order of their ids (by code point).
        next: where the next page starts after, or None when this is the last.
    """

    records: Sequence[Record]
    next: str | None


class Change(NamedTuple):
    """The latest change of one sample; ``space`` and ``vector`` are None when it was deleted."""

    number: int
    tenant: str
    key: int
    id: str
    space: str | None
    vector: Vector | None


class Store(Protocol):
    """Keeps samples. Safe to use from several threads, and by several processes unless it lives in memory.

    A change that was answered survives the death of the process. Every method raises StorageError when the
    database fails, with nothing changed, and InvalidRequest for text that is not valid Unicode.
    """

    def upsert(self, tenant: str, samples: Sequence[NewSample]) -> int:
        """Store samples in one transaction, replacing those with the same id; of equal ids the last one stays.

        Returns:
            The number of the last change.

        Raises:
            SpaceMismatch: a vector has not the dimensions that its space has in this database.
        """

    def delete(self, tenant: str, id: str) -> bool:
        """Delete a sample; whether there was one."""

    def clear(self, tenant: str) -> int:
        """Delete all samples of a tenant, each with a change number of its own; returns how many there were."""

    def get(self, tenant: str, id: str) -> Sample:
        """A sample with its vector.

        Raises:
            NotFound: the tenant has no such sample.
        """

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Record]:
        """The tenant's samples with these keys; those that do not exist (any more) are left out."""

    def page(self, tenant: str, limit: int, after: str | None = None) -> Page:
        """At most ``limit`` (≥ 1) samples whose ids come after ``after``; None starts at the first."""

    def count(self, tenant: str, space: str | None = None) -> int:
        """Number of the tenant's samples, of all spaces or of one."""

    def last_change(self) -> int:
        """Number of the last committed change, 0 in a new database. Costs microseconds; asked before every search."""

    def changes(self, since: int, limit: int) -> Sequence[Change]:
        """At most ``limit`` changes with numbers above ``since``, ascending.

        Only the latest change of a sample is kept, so a key appears once; numbers that later changes have
        superseded are missing.
        """

    def compact(self) -> None:
        """Rewrite the database so that its files hold no remains of deleted samples and no unused space.

        Writers wait meanwhile; it takes time and room in proportion to the database.
        """

    def close(self) -> None:
        """Close all connections; using the store afterwards raises StorageError."""
