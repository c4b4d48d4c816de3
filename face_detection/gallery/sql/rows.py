"""Between the columns of a database and what the gallery speaks of; every SQL store has the same columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import (
    KEPT,
    PAGE_BYTES,
    Change,
    Description,
    Feed,
    Page,
    Person,
    Sample,
    Tombstone,
    Vector,
)
from face_detection.naming import folded

_LITTLE_ENDIAN = np.dtype("<f4")

_COMPACT = json.JSONEncoder(separators=(",", ":"))


def blob(vector: Vector) -> bytes:
    """A vector as it is stored: float32, little-endian."""
    return vector.astype(_LITTLE_ENDIAN).tobytes()


def vector_of(blob: bytes) -> Vector:
    """A stored vector, read-only."""
    return np.frombuffer(blob, _LITTLE_ENDIAN)


def search_text(id: str, name: str) -> str:
    """What people are searched by."""
    return f"{folded(id)}\n{folded(name)}"


def metadata_text(metadata: Any) -> str:
    """Metadata as it is stored: JSON."""
    return _COMPACT.encode(metadata)


def description_row(id: str, description: Description) -> dict[str, object]:
    """The columns of what is said of a person anew; None, and ``keeps_action``, for what stays."""
    name, metadata, action = description.name, description.metadata, description.action
    return {
        "name": None if name is KEPT else name,
        "metadata": None if metadata is KEPT else metadata_text(metadata),
        "action": None if action is KEPT else action,
        "keeps_action": action is KEPT,
        "search": None if name is KEPT else search_text(id, name),
    }


def person_of(id: str, name: str, metadata: str, *rest: Any) -> Person:
    """A person, whose metadata is JSON."""
    return Person(id, name, json.loads(metadata), *rest)


def page_of(rows: Iterable[Sequence[Any]], limit: int, metadata: Sequence[Condition] = ()) -> Page:
    """A page of people: as many as were asked for and fit, of those who meet all conditions.

    Args:
        rows: of people ordered by id. Only as many are taken as are needed, so they had better come one by one.
        limit: most people.
        metadata: conditions.
    """
    people: list[Person] = []
    size = 0
    for row in rows:
        person = person_of(*row)
        if not all(condition.matches(person.metadata) for condition in metadata):
            continue
        size += _size(row)
        if people and (len(people) == limit or size > PAGE_BYTES):
            return Page(people, people[-1].id)
        people.append(person)
    return Page(people, None)


def feed_of(rows: Iterable[Sequence[Any]], limit: int) -> Feed:
    """A part of what has changed, as ``page_of``."""
    entries: list[Sample | Tombstone] = []
    size = 0
    for row in rows:
        size += _size(row)
        if entries and (len(entries) == limit or size > PAGE_BYTES):
            return Feed(entries, True)
        entries.append(entry_of(*row))
    return Feed(entries, False)


_ENTRY_BYTES, _NUMBER_BYTES = 200, 12


def _size(row: Sequence[Any]) -> int:
    """About how many bytes of JSON become of a row: text as it is, and the numbers of a vector."""
    return _ENTRY_BYTES + sum(
        len(value) if isinstance(value, str) else len(value) // _LITTLE_ENDIAN.itemsize * _NUMBER_BYTES
        for value in row
        if isinstance(value, str | bytes)
    )


def sample_of(
    key: int, number: int, change: int, revision: int, space: str, blob: bytes, id: str, name: str, *rest: Any
) -> Sample:
    """A sample and its person."""
    return Sample(key, number, change, revision, space, person_of(id, name, *rest), vector_of(blob))


def entry_of(key: int, number: int, change: int, revision: int, space: str | None, *rest: Any) -> Sample | Tombstone:
    """A sample, or the tombstone of one, which has no space."""
    return Tombstone(number, revision) if space is None else sample_of(key, number, change, revision, space, *rest)


def changes_of(rows: Sequence[Sequence[Any]]) -> list[Change]:
    """Changes of samples. A gallery of millions is loaded through here, so nothing is called in between."""
    return [
        Change(number, tenant, key, space, None if blob is None else np.frombuffer(blob, _LITTLE_ENDIAN))
        for number, tenant, key, space, blob in rows
    ]
