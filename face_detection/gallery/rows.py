"""Between the columns of a database and what the gallery speaks of; every SQL store has the same columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from face_detection.gallery.events import Event, EventKind, NewEvent, Occasion
from face_detection.gallery.store import Change, Page, Person, Sample, Tombstone, Vector

_LITTLE_ENDIAN = np.dtype("<f4")


def blob(vector: Vector) -> bytes:
    """A vector as it is stored: float32, little-endian."""
    return vector.astype(_LITTLE_ENDIAN).tobytes()


def vector_of(blob: bytes) -> Vector:
    """A stored vector, read-only."""
    return np.frombuffer(blob, _LITTLE_ENDIAN)


def person_of(id: str, name: str, metadata: str, *rest: Any) -> Person:
    """A person, whose metadata is JSON."""
    return Person(id, name, json.loads(metadata), *rest)


def page_of(rows: Sequence[Sequence[Any]], limit: int) -> Page:
    """A page of people, of whom one more than ``limit`` was asked for: that one tells whether there is a next page."""
    people = [person_of(*row) for row in rows[:limit]]
    return Page(people, people[-1].id if len(rows) > limit else None)


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


def event_row(tenant: str, event: NewEvent) -> dict[str, object]:
    """An event's columns."""
    return {
        "tenant": tenant,
        "at": event.at,
        "kind": event.kind.value,
        "person": event.person,
        "distance": event.distance,
        "api_key": event.occasion.api_key,
        "device": event.occasion.device,
        "latitude": event.occasion.latitude,
        "longitude": event.occasion.longitude,
        "crop": event.crop,
    }


def event_of(
    number: int,
    at: int,
    kind: str,
    person: str | None,
    name: str | None,
    distance: float | None,
    *rest: Any,
) -> Event:
    """An event; the rest is the occasion's columns, and whether a crop was kept."""
    *circumstances, has_crop = rest
    return Event(number, at, EventKind(kind), person, name, distance, Occasion(*circumstances), bool(has_crop))
