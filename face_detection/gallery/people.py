"""People and their samples, as ``sql.store`` keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.distances import MAX_LENGTH, lengths
from shared.errors import InvalidRequest
from shared.times import moment_of, time_text

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


_MARK = re.compile("[0-7]?[0-9a-f]{1,15}")


@dataclass(frozen=True)
class Cursor:
    """How far somebody has come who follows what changes.

    Attributes:
        since: revision up to which they have everything; 0 for one who has nothing yet.
        begun: the last revision there was when they had nothing, so that they hold nothing of what was deleted until
            then.
        mark: of the position of the database then (``gallery.sql.history``), 0 where it is not known.
    """

    since: int = 0
    begun: int = 0
    mark: int = 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What ``str`` gave, or any time (``moment_of``); an empty text is the beginning.

        Raises:
            ValueError: it is neither; says what it must be.
        """
        if not text:
            return cls()
        times, semicolon, mark = text.partition(";")
        since, slash, begun = times.partition("/")
        if semicolon and not _MARK.fullmatch(mark):
            raise ValueError("must be a cursor as it was given, or a time")
        return cls(moment_of(since), moment_of(begun) if slash else 0, int(mark, 16) if semicolon else 0)

    def __str__(self) -> str:
        """A time, or two with a slash between them until everything has come that was there at the beginning; then
        the mark in hexadecimal digits, after a semicolon."""
        text = time_text(self.since)
        if self.since < self.begun:
            text += f"/{time_text(self.begun)}"
        return f"{text};{self.mark:x}" if self.mark else text


class Change(NamedTuple):
    """The latest change of one sample; ``space`` and ``vector`` are None when it was deleted."""

    number: int
    tenant: str
    key: int
    space: str | None
    vector: Vector | None
