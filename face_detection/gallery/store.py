"""What a store of people and their samples promises, whatever database is behind it.

A sample is the embedding of one enrolled photo. A person has a name, metadata and one sample or more, under an id
that is unique within the tenant. Every change of a sample takes the next number of one sequence per database; a new
name or new metadata counts as a change of all samples of the person. A deletion is a change too: it leaves a
tombstone, which has the tenant, the sample's number and the change's, and nothing else. Whoever has applied all
changes up to N asks for those after N and is then up to date: ``changes`` for the whole database, ``feed`` for one
tenant, whose numbers and revisions tell nothing of other tenants.
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
    """A sample to be stored, and whose it is.

    Attributes:
        id: of the person, unique within the tenant, not empty.
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
        check_description(f"{self.id}{self.name}", self.metadata, self.action)
        if self.vector.dtype != np.float32 or self.vector.ndim != 1:
            raise InvalidRequest("The embedding is not a float32 vector.")
        if not 0.0 < lengths(self.vector) < MAX_LENGTH:
            raise InvalidRequest("The embedding is zero, too long or not finite.")


@dataclass(frozen=True)
class Description:
    """What is said of a person; see ``NewSample``.

    Raises:
        InvalidRequest: see ``check_description``.
    """

    name: str
    metadata: Any
    action: str | None = None

    def __post_init__(self) -> None:
        check_description(self.name, self.metadata, self.action)


def check_description(name: str, metadata: Any, action: str | None) -> None:
    """Refuse what a store could not give back.

    Raises:
        InvalidRequest: text that is not valid Unicode or has a NUL character, which not every database can hold; or
            metadata that is not a JSON value or nests too deep.
    """
    if "\0" in f"{name}{action}":
        raise InvalidRequest("The id, the name or the action has a NUL character.")
    try:
        f"{name}{action}".encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("The id, the name or the action is not valid Unicode.") from error
    if _nests_deeper(metadata, MAX_NESTING):
        raise InvalidRequest(f"The metadata nests deeper than {MAX_NESTING} levels.")
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest("The metadata is not a JSON value.") from error


def _nests_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nests_deeper(part, levels - 1) for part in parts)


@dataclass(frozen=True)
class Person:
    """Somebody with at least one sample.

    Attributes:
        id, name, metadata, action: as given in ``NewSample``.
        samples: how many there are, of all spaces.
        created_at, updated_at: ISO 8601, UTC.
    """

    id: str
    name: str
    metadata: Any
    action: str | None
    samples: int
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Sample:
    """A stored sample.

    Attributes:
        key: stable integer in this database, which searchers know it by. Never used twice.
        number: stable integer within its tenant, which clients may know it by. Never used twice.
        change: number of its latest change, so that equal samples are the same version.
        revision: the time of that change in microseconds since 1970; unique and ascending within the tenant, so
            that a change in the same microsecond as the one before gets a later time.
        space: as given in ``NewSample``.
        person: whose it is.
        vector: (dimensions,) float32, read-only. Left out of comparisons: ``change`` stands for it.
    """

    key: int
    number: int
    change: int
    revision: int
    space: str
    person: Person
    vector: Vector = field(compare=False)


@dataclass(frozen=True)
class Tombstone:
    """What is left of a deleted sample: its number, and the revision of its deletion."""

    number: int
    revision: int


@dataclass(frozen=True)
class Page:
    """A part of a tenant's people.

    Attributes:
        people: in the order of their ids (by code point).
        next: where the next page starts after, or None when this is the last.
    """

    people: Sequence[Person]
    next: str | None


class Change(NamedTuple):
    """The latest change of one sample; ``space`` and ``vector`` are None when it was deleted."""

    number: int
    tenant: str
    key: int
    space: str | None
    vector: Vector | None


class Store(Protocol):
    """Keeps people and their samples. Safe between threads, and between processes unless it lives in memory.

    A change that was answered survives the death of the process. Every method raises StorageError when the
    database fails, with nothing changed, and InvalidRequest for text that is not valid Unicode; text with a NUL
    character, which nobody's id or name has, may be refused likewise.
    """

    def upsert(self, tenant: str, samples: Sequence[NewSample], quota: int | None = None) -> int:
        """Store people with one sample each, in one transaction; of equal ids the last one stays.

        A person who is known gets the new name, metadata and sample, and loses all other samples. The first sample
        keeps its key and number.

        Args:
            tenant: whose people.
            samples: what to store.
            quota: most samples that the tenant may have afterwards.

        Returns:
            The number of the last change.

        Raises:
            NotFound: the directory knows no such tenant, as when it was deleted a moment ago.
            SpaceMismatch: a vector has not the dimensions that its space has in this database.
            QuotaExceeded: see ``quota``.
        """

    def add(self, tenant: str, samples: Sequence[NewSample], quota: int | None = None) -> Sequence[Sample]:
        """Give people further samples, in one transaction, and say what was stored, in order.

        Somebody unknown is created with the name, metadata and action of the first sample; whoever is known keeps
        theirs.

        Raises:
            NotFound, SpaceMismatch, QuotaExceeded: see ``upsert``.
        """

    def replace(
        self, tenant: str, number: int, space: str, vector: Vector, description: Description | None = None
    ) -> None:
        """Give one sample another embedding and, if there is one, its person another description.

        Raises:
            NotFound: the tenant has no such sample.
            SpaceMismatch: see ``upsert``.
        """

    def describe(self, tenant: str, id: str, description: Description) -> None:
        """Give a person another name, metadata and action.

        Raises:
            NotFound: the tenant has no such person.
        """

    def delete(self, tenant: str, id: str) -> bool:
        """Delete a person with all samples and events; whether there was one."""

    def delete_sample(self, tenant: str, number: int) -> bool:
        """Delete one sample, and with the last one the person; whether there was one."""

    def clear(self, tenant: str) -> int:
        """Delete all people of a tenant with their samples and events; returns how many samples there were."""

    def get(self, tenant: str, id: str) -> Person:
        """A person.

        Raises:
            NotFound: the tenant has no such person.
        """

    def samples(self, tenant: str, id: str) -> Sequence[Sample]:
        """The samples of a person by ascending number; none when there is no such person."""

    def sample(self, tenant: str, number: int) -> Sample:
        """One sample.

        Raises:
            NotFound: the tenant has no such sample.
        """

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """The tenant's samples with these keys; those that do not exist (any more) are left out."""

    def page(self, tenant: str, limit: int, after: str | None = None, text: str | None = None) -> Page:
        """At most ``limit`` (≥ 1) people whose ids come after ``after``; None starts at the first.

        With ``text`` only those who have it in their id or name; ASCII letters match in either case.
        """

    def count(self, tenant: str, space: str | None = None) -> int:
        """Number of the tenant's samples, of all spaces or of one."""

    def identity(self) -> str:
        """What tells this gallery from others: 32 hexadecimal digits that stay the same."""

    def last_change(self) -> int:
        """Number of the last committed change, 0 in a new database. Costs microseconds; asked before every search."""

    def changes(self, since: int, limit: int) -> Sequence[Change]:
        """At most ``limit`` changes with numbers above ``since``, ascending.

        Only the latest change of a sample is kept, so a key appears once; numbers that later changes have
        superseded are missing.
        """

    def feed(self, tenant: str, since: int, limit: int) -> Sequence[Sample | Tombstone]:
        """At most ``limit`` of a tenant's samples and tombstones with revisions above ``since``, ascending.

        Only the latest state of a sample is kept, so a number appears once.
        """

    def compact(self) -> None:
        """Rewrite the database so that its files hold no remains of deleted samples and no unused space.

        Writers wait meanwhile; it takes time and room in proportion to the database.
        """

    def close(self) -> None:
        """Close all connections; using the store afterwards raises StorageError."""
