"""Photos that contradict others: nearer to somebody else than to their own person, or far from all of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from face_detection.gallery.people import Sample
from face_detection.gallery.search.distances import distances, prepare
from shared.models import Metric

FAR = 1.2
"""Distance in thresholds from which on two photos are hardly of one person: of 60 pairs of one of LFW at most one was
further apart for any of facenet, sface and dlib, and 19 of 20 pairs of different people were."""

Kind = Literal["nearer_to_other", "unlike_own"]

_CHUNK = 256


@dataclass(frozen=True)
class Near:
    """A photo near another.

    Attributes:
        id, name: of the person.
        photo: number of the sample; None for one that is not stored yet.
        distance: to it, in the unit of the metric.
    """

    id: str
    name: str
    photo: int | None
    distance: float

    @classmethod
    def of(cls, sample: Sample, distance: float) -> Near:
        """The same of a sample."""
        return cls(sample.person.id, sample.person.name, sample.number, distance)


@dataclass(frozen=True)
class Conflict:
    """Why a photo is hardly of its person.

    Attributes:
        kind: ``nearer_to_other``: somebody else's photo is a match, and none of its own person is as near.
            ``unlike_own``: its person has other photos, and all are at least ``FAR`` thresholds away.
        near: the nearest of somebody else, or of its own; None where whose it is must not be told.
        threshold: below which a distance is a match.
    """

    kind: Kind
    near: Near | None
    threshold: float

    @property
    def is_with_stored(self) -> bool:
        """Whether the nearest photo is stored, rather than new like this one."""
        return self.near is not None and self.near.photo is not None

    @property
    def members(self) -> dict[str, Any]:
        """For programs: members of JSON, without those that are not to be told or do not apply."""
        told = asdict(self.near) | {"distance": round(self.near.distance, 4)} if self.near else {}
        known = {"code": self.kind, "message": self.text, **told, "threshold": self.threshold}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def text(self) -> str:
        """One line for people."""
        if self.kind == "unlike_own":
            distance = f": distance {self.near.distance:.4g}" if self.near else ""
            return (
                f"The face is far from all other photos of its person{distance}, the threshold is {self.threshold:.4g}."
            )
        if self.near is None:
            return "The face is nearer to somebody else than to its own person."
        photo = "another photo of the request, of" if self.near.photo is None else f"photo {self.near.photo} of"
        return (
            f"The face is nearer to {photo} {self.near.name} ({self.near.id}) than to its own person: distance "
            f"{self.near.distance:.4g}, the threshold is {self.threshold:.4g}."
        )


@dataclass(frozen=True)
class Contradicted:
    """A stored sample that others contradict."""

    sample: Sample
    conflict: Conflict


def judge(own: Near | None, other: Near | None, threshold: float) -> Conflict | None:
    """Whether a photo contradicts others.

    Args:
        own: the nearest other photo of its person, None where there is none.
        other: the nearest of anybody else, None where there is none.
        threshold: below which a distance is a match.
    """
    if other and other.distance < threshold and (own is None or other.distance < own.distance):
        return Conflict("nearer_to_other", other, threshold)
    if own and own.distance >= FAR * threshold:
        return Conflict("unlike_own", own, threshold)
    return None


def conflicts(samples: Sequence[Sample], metric: Metric, threshold: float) -> Iterator[Contradicted]:
    """Those samples that others contradict, in order; somebody who is enrolled twice is found with both ids.

    Takes memory for a copy of all vectors, and time that grows with the square of their number.

    Args:
        samples: of one tenant and one embedding space.
        metric: how they are compared.
        threshold: below which a distance is a match.
    """
    if not samples:
        return
    rows = prepare(np.stack([sample.vector for sample in samples]), metric)
    ids = {id: number for number, id in enumerate(dict.fromkeys(sample.person.id for sample in samples))}
    owners = np.array([ids[sample.person.id] for sample in samples])
    squares = np.einsum("nd,nd->n", rows, rows)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        apart = squares[start : start + _CHUNK, np.newaxis] + squares - 2 * chunk @ rows.T
        is_own = owners[start : start + _CHUNK, np.newaxis] == owners
        foreign = np.where(is_own, np.inf, apart).argmin(axis=1)
        is_own[np.arange(len(chunk)), start + np.arange(len(chunk))] = False
        kin = np.where(is_own, apart, np.inf).argmin(axis=1)
        for row, sample in enumerate(samples[start : start + _CHUNK]):
            to_other, to_own = distances(rows[[foreign[row], kin[row]]], chunk[row], metric).tolist()
            own = Near.of(samples[kin[row]], to_own) if is_own[row].any() else None
            is_foreign = samples[foreign[row]].person.id != sample.person.id
            other = Near.of(samples[foreign[row]], to_other) if is_foreign else None
            if conflict := judge(own, other, threshold):
                yield Contradicted(sample, conflict)
