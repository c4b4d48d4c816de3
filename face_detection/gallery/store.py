"""What a store of people and their samples promises, whatever database is behind it.

A sample is the embedding of one enrolled photo. A person has a name, metadata and one sample or more, under an id
that is unique within the tenant. Every change of a sample takes the next number of one sequence per database; a new
name or new metadata counts as a change of all samples of the person. A deletion is a change too: it leaves a
tombstone, which has the tenant, the sample's number and the change's, and nothing else. Whoever has applied all
changes up to N asks for those after N and is then up to date: ``changes`` for the whole database, ``feed`` for one
tenant, whose numbers and revisions tell nothing of other tenants.

Tombstones are removed at last (``tombstones``). Whoever comes later than that misses deletions, and is told to start
over. Whoever knew nothing when they began lacks no deletion from before: ``begun`` says when that was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.metadata import Condition
from face_detection.gallery.search.distances import MAX_LENGTH, lengths
from face_detection.gallery.sql.answers import Once
from face_detection.gallery.sql.history import Position
from face_detection.naming import composed
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
        created_at, updated_at: ISO 8601, UTC: when the person was created and last changed, where that is known from
            elsewhere; None is now, and for whoever is known already leaves the time of creation as it is.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    id: str
    name: str
    metadata: Any
    space: str
    vector: Vector
    action: str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidRequest("The id is empty.")
        check_description(f"{self.id}{self.name}", self.metadata, self.action)
        if self.vector.dtype != np.float32 or self.vector.ndim != 1:
            raise InvalidRequest("The embedding is not a float32 vector.")
        if not 0.0 < lengths(self.vector) < MAX_LENGTH:
            raise InvalidRequest("The embedding is zero, too long or not finite.")


class _Kept(Enum):
    KEPT = "kept"


KEPT: Final = _Kept.KEPT
"""Stands for what stays as it is."""


@dataclass(frozen=True)
class Description:
    """What is said of a person from now on, see ``NewSample``; whatever is ``KEPT`` stays as it is then.

    Raises:
        InvalidRequest: see ``check_description``.
    """

    name: str | Literal[_Kept.KEPT] = KEPT
    metadata: Any = KEPT
    action: str | None | Literal[_Kept.KEPT] = KEPT

    def __post_init__(self) -> None:
        check_description(
            "" if self.name is KEPT else self.name,
            None if self.metadata is KEPT else self.metadata,
            None if self.action is KEPT else self.action,
        )


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


PAGE_BYTES = 1 << 20
"""Most bytes of a part of a list, as JSON; a single entry may have more."""


def known_id(store: Store, tenant: str, id: str) -> str:
    """The id that somebody asks for: composed, unless somebody has it as it stands, from before ids were composed.

    Raises:
        StorageError, InvalidRequest: see ``Store``.
    """
    normal = composed(id)
    return id if normal != id and store.samples(tenant, id) else normal


@dataclass(frozen=True)
class Page:
    """A part of a tenant's people.

    Attributes:
        people: in the order of their ids (by code point).
        next: where the next page starts after, or None when this is the last.
    """

    people: Sequence[Person]
    next: str | None


@dataclass(frozen=True)
class Feed:
    """A part of what has changed for a tenant.

    Attributes:
        entries: by ascending revisions.
        more: whether there is more by now, after the last of these.
    """

    entries: Sequence[Sample | Tombstone]
    more: bool


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

    def upsert(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> int:
        """Store people with one sample of an embedding space each, in one transaction; of equal ones the last stays.

        A person who is known gets the new name, metadata and sample, and loses all other samples of the same space;
        the first of these keeps its key and number. Samples of other spaces stay.

        Args:
            tenant: whose people.
            samples: what to store.
            quota: most samples that the tenant may have afterwards in each of the spaces.
            once: the request, if it is one that may be sent again: its answer is kept, see ``answers``.

        Returns:
            The number of the last change.

        Raises:
            NotFound: the directory knows no such tenant, as when it was deleted a moment ago.
            SpaceMismatch: a vector has not the dimensions that its space has in this database.
            QuotaExceeded: see ``quota``.
            Answered, KeyReused, AnswerDeleted: see ``Answers.find``.
        """

    def add(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sequence[Sample]:
        """Give people further samples, in one transaction, and say what was stored, in order.

        Somebody unknown is created with the name, metadata and action of the first sample; whoever is known keeps
        theirs.

        Raises:
            NotFound, SpaceMismatch, QuotaExceeded, Answered, KeyReused, AnswerDeleted: see ``upsert``.
        """

    def replace(
        self,
        tenant: str,
        number: int,
        space: str,
        vector: Vector,
        description: Description | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sample:
        """Give one sample another embedding and, if there is one, its person another description.

        Where the sample was of another space, its former embedding stays, as a sample with a number of its own.

        Returns:
            The sample as it is then.

        Raises:
            NotFound: the tenant has no such sample.
            SpaceMismatch, Answered, KeyReused, AnswerDeleted: see ``upsert``.
        """

    def describe(self, tenant: str, id: str, description: Description) -> None:
        """Give a person another name, metadata and action, or some of these.

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

    def samples(self, tenant: str, id: str, after: int = -1, limit: int | None = None) -> Sequence[Sample]:
        """The samples of a person by ascending number; none when there is no such person.

        Only those with numbers above ``after``, and at most ``limit``.
        """

    def sample(self, tenant: str, number: int) -> Sample:
        """One sample.

        Raises:
            NotFound: the tenant has no such sample.
        """

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """The tenant's samples with these keys; those that do not exist (any more) are left out."""

    def page(
        self,
        tenant: str,
        limit: int,
        after: str | None = None,
        text: str | None = None,
        metadata: Sequence[Condition] = (),
    ) -> Page:
        """At most ``limit`` (≥ 1) people whose ids come after ``after``; None starts at the first.

        No more than fit into ``PAGE_BYTES``, but one at least. With ``text`` only those who have it in their id or
        name, without regard to case and accents (``naming.folded``). Only those whose metadata meet all conditions.
        """

    def count(self, tenant: str, space: str | None = None) -> int:
        """Number of the tenant's samples, of all spaces or of one."""

    def people_without(self, space: str, tenant: str | None = None) -> Mapping[str, int]:
        """How many people of each tenant, or of one, have no sample of an embedding space; who has none is left out."""

    def identity(self) -> str:
        """What tells this gallery from others: 32 hexadecimal digits that stay the same."""

    def last_change(self) -> int:
        """Number of the last committed change, 0 in a new database."""

    def position(self) -> Position:
        """How far the database is. Costs microseconds; asked before every search."""

    def has_passed(self, mark: int) -> bool:
        """Whether the database was at the position with this mark; of old ones it is forgotten, see ``history``.

        If not, the database was replaced, and whoever has followed it begins anew.
        """

    def changes(self, since: int, limit: int, begun: int = 0) -> Sequence[Change]:
        """At most ``limit`` changes with numbers above ``since``, ascending, without deletions up to ``begun``.

        Only the latest change of a sample is kept, so a key appears once; numbers that later changes have
        superseded are missing. ``follow`` gives all of them.

        Args:
            since: whoever asks has applied all changes up to this one.
            limit: most changes.
            begun: number of the last change at a time when they had nothing of what was deleted until then.

        Raises:
            CursorExpired: tombstones of deletions after both are removed.
        """

    def feed(self, tenant: str, since: int, limit: int, begun: int = 0) -> Feed:
        """At most ``limit`` (≥ 1) of a tenant's samples and tombstones with revisions above ``since``, ascending.

        No more than fit into ``PAGE_BYTES``, but one at least.

        Only the latest state of a sample is kept, so a number appears once.

        Args:
            tenant: whose.
            since: whoever asks has applied everything up to this revision.
            limit: most entries.
            begun: the tenant's last revision at a time when they had nothing of what was deleted until then.

        Raises:
            CursorExpired: tombstones of deletions after both are removed.
        """

    def horizon(self) -> int:
        """Number of the last change whose tombstone is removed, 0 when all are there."""

    def last_revision(self, tenant: str) -> int:
        """Revision of the tenant's last change, 0 when there was none."""

    def compact(self) -> None:
        """Rewrite the database so that its files hold no remains of deleted samples and no unused space.

        Writers wait meanwhile; it takes time and room in proportion to the database.
        """

    def close(self) -> None:
        """Close all connections; using the store afterwards raises StorageError."""


CHUNK = 4096
"""Changes that ``follow`` gives at once."""


def follow(store: Store, since: int, begun: int = 0, chunk: int = CHUNK) -> Iterator[tuple[Sequence[Change], int]]:
    """All changes after a number, until there are no more, a chunk at a time.

    Args:
        store: whose.
        since, begun: see ``Store.changes``.
        chunk: most changes at once.

    Yields:
        Changes, and the number up to which these are all. There are none where only deletions up to ``begun`` were.

    Raises:
        CursorExpired, StorageError: see ``Store.changes``.
    """
    while (changes := store.changes(since, chunk, begun)) or since < begun:
        since = changes[-1].number if changes else begun
        yield changes, since
