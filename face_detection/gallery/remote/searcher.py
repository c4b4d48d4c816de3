"""Search in an index outside of the process, with answers as fresh and as exact as the database.

The index has the changes up to some number, and a follower brings it further in the background. What it lacks is
added from the change feed, so that a search sees everything that was committed before it, and nothing that was
deleted. Whatever the index names is measured again with the vectors in the database: an index decides which samples
are looked at, never how near they are.

The order within a search matters. What is pending is taken first: the index has everything before its base. The index
is asked next, then what is pending is brought up to date: whatever the index had by then, it has too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.gallery.coordination import Locks
from face_detection.gallery.people import Sample
from face_detection.gallery.remote.follower import Follower
from face_detection.gallery.remote.index import VectorIndex
from face_detection.gallery.search.distances import compares_directions, distances, prepare
from face_detection.gallery.search.searcher import Nearest, Neighbour, Searcher, check_probes
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store
from shared.errors import SearchUnavailable
from shared.models import Metric

_LEAST_CANDIDATES = 16
"""Asked of the index for each probe: it may compare rounded vectors, and some of its samples may be outdated."""

_MOST_ATTEMPTS = 8
"""Each asks for four times as many candidates."""

_LONG = 0.05
"""Seconds of counting beyond which a count is kept for a while: for 100 times as long."""

_PATIENCE = 100


class RemoteSearcher(Searcher):
    """A ``Searcher`` over a ``VectorIndex``."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        lock: str,
        index: VectorIndex,
        space: str,
        dimensions: int,
        metric: Metric,
        most_pending: int,
    ) -> None:
        """A searcher whose index is brought up to date from now on.

        Args:
            store: the truth.
            locks: of all processes one brings the index up to date.
            lock: its name.
            index: closed with the searcher.
            space: samples of other embedding spaces are ignored.
            dimensions: of the space.
            metric: how embeddings are compared.
            most_pending: changes up to which what the index lacks is kept in memory.
        """
        self.name = index.name
        self._store = store
        self._index = index
        self._space = space
        self._dimensions = dimensions
        self._metric = metric
        self._sizes: dict[str, tuple[int, float]] = {}  # with the time until when each is good
        self._counting = threading.Lock()
        self._follower = Follower(store, locks, lock, index, space, metric, most_pending)

    @property
    @override
    def applied(self) -> int:
        return self._follower.pending().applied

    @property
    @override
    def lag(self) -> int:
        return self._follower.lag

    @override
    def refresh(self) -> None:
        self._follower.pending().refresh()

    @override
    def nearest(
        self, tenant: str, probes: NDArray[np.float32], k: int = 1, position: Position | None = None
    ) -> Nearest:
        """The position is looked up once the index has answered."""
        check_probes(probes, self._dimensions)
        if not len(probes):
            return Nearest([], exact=True)
        pending = self._follower.pending()
        prepared = prepare(probes, self._metric)
        wanted = max(2 * k, _LEAST_CANDIDATES)
        enough = wanted // 2
        for _ in range(_MOST_ATTEMPTS):
            found = self._index.nearest(tenant, prepared, wanted)
            pending.refresh()
            touched = pending.touched(tenant)
            untouched = [[key for key in keys if key not in touched] for keys in found.keys]
            if not all(len(keys) >= enough or done for keys, done in zip(untouched, found.exhausted, strict=True)):
                wanted *= 4  # too much of what is near has changed
                continue
            named = {key for keys in untouched for key in keys}
            samples = self._store.by_keys(tenant, named)
            if gone := named - samples.keys():
                pending.refresh()
                if gone & pending.touched(tenant):
                    continue  # deleted after what is pending was looked at; others may be near
            measured = self._measure(samples, untouched, prepared)
            if not all(len(own) >= enough or done for own, done in zip(measured, found.exhausted, strict=True)):
                wanted *= 4  # the index has yet to let go of too much
                continue
            recent = pending.search(tenant, probes, k)
            return Nearest((_merge(own, others, k) for own, others in zip(measured, recent, strict=True)), found.exact)
        raise SearchUnavailable("Too much has changed for the index; it has yet to catch up.")

    @override
    def size(self, tenant: str) -> int:
        """Counted now and then, which takes long in a large gallery."""
        with self._counting:
            count, until = self._sizes.get(tenant, (0, 0.0))
            if time.monotonic() >= until:
                started = time.monotonic()
                count = self._store.count(tenant, self._space)
                took = time.monotonic() - started
                self._sizes[tenant] = (count, started + (_PATIENCE * took if took > _LONG else 0.0))
            return count

    @override
    def close(self) -> None:
        self._follower.close()
        self._index.close()

    def _measure(
        self, samples: dict[int, Sample], named: Sequence[Sequence[int]], prepared: NDArray[np.float32]
    ) -> list[list[Neighbour]]:
        """Distances to what the index names, as it is now; what is not among the samples is left out."""
        present = [key for key, sample in samples.items() if sample.space == self._space]
        if not present:
            return [[] for _ in named]
        rows = prepare(np.stack([samples[key].vector for key in present]), self._metric)
        place = {key: position for position, key in enumerate(present)}
        measured = []
        for keys, probe in zip(named, prepared, strict=True):
            own = [key for key in keys if key in place]
            if compares_directions(self._metric) and not probe.any():
                own = []  # a zero probe has no direction
            near = distances(rows[[place[key] for key in own]], probe, self._metric)
            measured.append([Neighbour(key, distance) for key, distance in zip(own, near.tolist(), strict=True)])
        return measured


def _merge(own: Sequence[Neighbour], others: Sequence[Neighbour], k: int) -> list[Neighbour]:
    """The k nearest of both, each sample once."""
    by_key = {one.key: one for one in (*own, *others)}
    return sorted(by_key.values(), key=lambda one: (one.distance, one.key))[:k]
