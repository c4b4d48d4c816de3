"""Samples for tests of the index in Milvus, and what it has of them."""

from __future__ import annotations

from collections.abc import Callable

from face_detection.gallery.people import Change
from face_detection.gallery.remote.milvus.index import MilvusIndex
from tests.gallery_samples import SPACE, vectors

OpenMilvus = Callable[..., MilvusIndex]


def stored(count: int, tenant: str = "t", first: int = 1, dimensions: int = 8) -> list[Change]:
    """Samples that were stored one after the other, with keys that are the numbers of their changes."""
    rows = vectors(count, dimensions, seed=first)
    return [Change(number, tenant, number, SPACE, row) for number, row in enumerate(rows, first)]


def keys_in(index: MilvusIndex, tenant: str = "t") -> list[int]:
    """Keys of a tenant's samples."""
    return sorted(index.nearest(tenant, vectors(1, seed=99), 1000).keys[0])
