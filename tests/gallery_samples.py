"""Samples for tests of the gallery, and the obvious way of searching them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.people import NewSample
from face_detection.gallery.search.distances import distances, prepare
from face_detection.gallery.search.searcher import Neighbour
from face_detection.gallery.sql.store import Store
from shared.models import Metric

SPACE = "facenet/1/test"
OTHER_SPACE = "sface/1/test"


def vectors(count: int, dimensions: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def sample(id: str, vector: NDArray[np.float32] | None = None, **values: Any) -> NewSample:
    fields = {"name": f"name of {id}", "metadata": {"of": id}, "action": f"action of {id}", "space": SPACE} | values
    return NewSample(id=id, vector=vectors(1)[0] if vector is None else vector, **fields)


def samples(ids: Iterable[str], seed: int = 0) -> list[NewSample]:
    ids = list(ids)
    return [sample(id, vector) for id, vector in zip(ids, vectors(len(ids), seed=seed), strict=True)]


def ids_of(store: Store, tenant: str) -> list[str]:
    """All ids of a tenant, page by page."""
    ids: list[str] = []
    page = store.page(tenant, 3)
    ids += (person.id for person in page.people)
    while page.next is not None:
        page = store.page(tenant, 3, page.next)
        ids += (person.id for person in page.people)
    return ids


def key_of(store: Store, tenant: str, id: str, space: str = SPACE) -> int:
    """Key of the only sample that a person has of an embedding space."""
    (found,) = (one for one in store.samples(tenant, id) if one.space == space)
    return found.key


def brute_force(
    rows: Mapping[int, NDArray[np.float32]], probe: NDArray[np.float32], metric: Metric, k: int
) -> list[Neighbour]:
    """The nearest of the rows (by key), measuring every one."""
    if not rows:
        return []
    prepared = prepare(np.stack(list(rows.values())), metric)
    measured = distances(prepared, prepare(probe[np.newaxis], metric)[0], metric)
    pairs = sorted(zip(measured.tolist(), rows, strict=True))[:k]
    return [Neighbour(key, distance) for distance, key in pairs]
