"""Finds what contradicts photos, new ones before they are stored and stored ones page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from face_detection.extraction.client import ServedModel
from face_detection.gallery.people import NewSample, Sample, Vector
from face_detection.gallery.search.distances import distances, prepare
from face_detection.gallery.sql.store import Store
from face_detection.recognition.conflicts import Conflict, Contradicted, Near, judge
from face_detection.recognition.identification import Identifier
from shared.errors import NotCalibrated

Replaced = Callable[[Sample], bool]
"""Whether a stored sample will be gone when the new ones are stored."""

_LOOKED_AT, _MOST_LOOKED_AT, _FACTOR = 16, 1024, 8
"""Samples searched for so that one of somebody else is among those below the threshold: at first, at most, and how many
times more each time."""


@dataclass(frozen=True)
class Examined:
    """A part of what is stored.

    Attributes:
        contradicted: by ascending numbers of samples.
        samples: how many were examined; those of other models are not.
        next: number after which the next part begins, None after the last.
    """

    contradicted: Sequence[Contradicted]
    samples: int
    next: int | None


@dataclass
class _Probe:
    """A photo that is examined.

    Attributes:
        owner: id of its person.
        vector: (dimensions,) float32, its embedding.
        number: of the sample, None when it is not stored yet.
        own, other: the nearest other photo of its person, and of anybody else, as far as is known.
    """

    owner: str
    vector: Vector
    number: int | None = None
    own: Near | None = None
    other: Near | None = None

    def note(self, near: Near) -> None:
        """Take notice of another photo; of equally near ones the first stays."""
        if near.id == self.owner:
            self.own = near if self.own is None or near.distance < self.own.distance else self.own
        else:
            self.other = near if self.other is None or near.distance < self.other.distance else self.other

    def limit(self, threshold: float) -> float:
        """Below which distance somebody else's photo matters."""
        return min([threshold, *(near.distance for near in (self.own, self.other) if near)])


class Examiner:
    """Compares photos with their own person's, and with everybody else's. Blocks; safe to use from several threads.

    Args:
        store: where samples are kept.
        identifier: searches.
    """

    def __init__(self, store: Store, identifier: Identifier) -> None:
        self._store = store
        self._identifier = identifier

    def of_new(
        self, tenant: str, model: ServedModel, photos: Sequence[NewSample], replaced: Replaced
    ) -> list[Conflict | None]:
        """What each of some photos contradicts, among those that are stored and among each other, in order.

        What is stored by others at the same time is not seen.

        Raises:
            NotFound: there is no such tenant.
            StorageError: the database or the index failed.
        """
        probes = [_Probe(photo.id, photo.vector) for photo in photos]
        metric = self._identifier.metric(model)
        rows = prepare(np.stack([photo.vector for photo in photos]), metric)
        for at, probe in enumerate(probes):
            measured = distances(rows, rows[at], metric).tolist()
            for number, (photo, distance) in enumerate(zip(photos, measured, strict=True)):
                if number != at:
                    probe.note(Near(photo.id, photo.name, None, distance))
        return self._examine(tenant, model, probes, replaced)

    def stored(self, tenant: str, model: ServedModel, after: int, limit: int) -> Examined:
        """A part of the tenant's samples: at most ``limit`` with numbers above ``after``, each searched for.

        Raises:
            NotFound: there is no such tenant.
            StorageError: the database or the index failed.
        """
        page = self._store.after_number(tenant, after, limit + 1)
        following = page[limit - 1].number if len(page) > limit else None
        samples = [sample for sample in page[:limit] if sample.space == model.space]
        probes = [_Probe(sample.person.id, sample.vector, sample.number) for sample in samples]
        found = zip(samples, self._examine(tenant, model, probes, lambda sample: False), strict=True)
        contradicted = [Contradicted(sample, conflict) for sample, conflict in found if conflict]
        return Examined(contradicted, len(samples), following)

    def _examine(
        self, tenant: str, model: ServedModel, probes: Sequence[_Probe], replaced: Replaced
    ) -> list[Conflict | None]:
        threshold = self._threshold(tenant, model)
        for owner in {probe.owner for probe in probes}:
            own = [one for one in self._store.samples(tenant, owner) if one.space == model.space and not replaced(one)]
            self._note_own([probe for probe in probes if probe.owner == owner], own, model)
        self._note_others(tenant, model, probes, threshold, replaced)
        return [judge(probe.own, probe.other, threshold) for probe in probes]

    def _note_own(self, probes: Sequence[_Probe], samples: Sequence[Sample], model: ServedModel) -> None:
        if not samples:
            return
        metric = self._identifier.metric(model)
        rows = prepare(np.stack([sample.vector for sample in samples]), metric)
        for probe in probes:
            measured = distances(rows, prepare(probe.vector[np.newaxis], metric)[0], metric).tolist()
            for sample, distance in zip(samples, measured, strict=True):
                if sample.number != probe.number:
                    probe.note(Near.of(sample, distance))

    def _note_others(
        self, tenant: str, model: ServedModel, probes: Sequence[_Probe], threshold: float, replaced: Replaced
    ) -> None:
        """Look among ever more of the nearest, where those before are the person's own or will be replaced."""
        k, waiting = _LOOKED_AT, list(probes)
        while waiting and k <= _MOST_LOOKED_AT:
            limits = [probe.limit(threshold) for probe in waiting]
            near = self._identifier.near(tenant, model, np.stack([probe.vector for probe in waiting]), k, limits)
            unsettled = []
            for probe, (candidates, has_all) in zip(waiting, near, strict=True):
                others = (one for one in candidates if one.sample.person.id != probe.owner and not replaced(one.sample))
                if nearest := next(others, None):
                    probe.note(Near.of(nearest.sample, nearest.distance))
                elif not has_all:
                    unsettled.append(probe)
            waiting, k = unsettled, k * _FACTOR

    def _threshold(self, tenant: str, model: ServedModel) -> float:
        """The tenant's; the model's where that is a rate of which nothing is known, which recognition refuses."""
        try:
            return self._identifier.threshold_of(tenant, model)
        except NotCalibrated:
            return model.card.threshold(self._identifier.metric(model)).distance
