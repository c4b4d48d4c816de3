"""Samples that contradict others: nearer to somebody else than to their own person, or far from all of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from face_detection.gallery.people import Sample
from face_detection.gallery.search.distances import distances, prepare
from shared.models import Metric

FAR = 1.2
"""Distance in thresholds from which on two photos are hardly of one person: of 60 pairs of one of LFW at most one was
further apart for any of facenet, sface and dlib, and 19 of 20 pairs of different people were."""

_CHUNK = 256


@dataclass(frozen=True)
class Conflict:
    """A sample that others contradict.

    Attributes:
        sample: which.
        other: the nearest of somebody else, if that is a match and no own one is nearer; else the nearest own one.
        distance: to that.
    """

    sample: Sample
    other: Sample
    distance: float

    @property
    def mistaken(self) -> bool:
        """Whether it looks like somebody else, rather than unlike its own person."""
        return self.other.person.id != self.sample.person.id


def conflicts(samples: Sequence[Sample], metric: Metric, threshold: float) -> Iterator[Conflict]:
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
        own = owners[start : start + _CHUNK, np.newaxis] == owners
        foreign = np.where(own, np.inf, apart).argmin(axis=1)
        own[np.arange(len(chunk)), start + np.arange(len(chunk))] = False
        kin = np.where(own, apart, np.inf).argmin(axis=1)
        for row, sample in enumerate(samples[start : start + _CHUNK]):
            pair = [samples[foreign[row]], samples[kin[row]]]
            to_other, to_own = distances(rows[[foreign[row], kin[row]]], chunk[row], metric).tolist()
            has_own = bool(own[row].any())
            if pair[0].person.id != sample.person.id and to_other < threshold and not (has_own and to_own <= to_other):
                yield Conflict(sample, pair[0], to_other)
            elif has_own and to_own >= FAR * threshold:
                yield Conflict(sample, pair[1], to_own)
