"""What finding the nearest samples promises, whatever does it.

A searcher is a projection of a store's change sequence for one embedding space: it catches up by itself, can be
rebuilt from nothing, and is never written to directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.distances import MAX_LENGTH, lengths
from face_detection.gallery.sql.history import Position
from shared.errors import InvalidRequest, SpaceMismatch
from shared.models import Metric


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A sample near a probe.

    Attributes:
        key: of the sample, for ``Store.by_keys``.
        distance: in the unit of the searcher's metric; smaller is nearer.
    """

    key: int
    distance: float


class Nearest(list[list[Neighbour]]):
    """The neighbours of each probe.

    Attributes:
        exact: whether every sample was considered for every probe. Where not, the nearest sample can be missing,
            but what is there has been measured exactly.
    """

    def __init__(self, neighbours: Iterable[list[Neighbour]], exact: bool) -> None:
        super().__init__(neighbours)
        self.exact = exact


class Searcher(Protocol):
    """Finds the samples nearest to a probe. Safe to use from several threads.

    Attributes:
        name: as the setting SEARCH has it.
    """

    name: str

    @property
    def applied(self) -> int:
        """Number of the last change that searches see."""

    @property
    def lag(self) -> int:
        """Changes that an index elsewhere does not have yet, which are searched apart; 0 where there is none."""

    def refresh(self) -> None:
        """Apply what the store has committed before this call.

        Raises:
            StorageError: the database failed; what was applied stays.
        """

    def nearest(
        self, tenant: str, probes: NDArray[np.float32], k: int = 1, position: Position | None = None
    ) -> Nearest:
        """The samples of a tenant nearest to each probe, among all changes committed before the call.

        Args:
            tenant: whose samples.
            probes: (m, dimensions) float32 embeddings as the model gave them.
            k: how many per probe, at least 1.
            position: of the database, if it was read a moment ago; what was committed since then may be missing.

        Returns:
            For each probe up to k neighbours, by ascending distance and, where equal, ascending key. A zero
            probe has no direction and hence no neighbours where the metric compares directions. Whether the search
            was exact is said too; where it was not, deleted samples do not appear either, and those that were stored
            last are considered all.

        Raises:
            SpaceMismatch: the probes have other dimensions than the space.
            InvalidRequest: a probe is not finite, or absurdly long.
            StorageError: the database or the index failed.
        """

    def size(self, tenant: str) -> int:
        """Number of the tenant's samples that searches see."""

    def close(self) -> None:
        """Stop what runs in the background."""


OpenSearcher = Callable[[str, int, Metric], Searcher]
"""Makes a searcher for an embedding space, its dimensions, and a metric."""


def check_probes(probes: NDArray[np.float32], dimensions: int | None) -> None:
    """Refuse probes that cannot be compared.

    Args:
        probes: (m, dimensions) float32.
        dimensions: those of the samples; None if there are none.

    Raises:
        SpaceMismatch, InvalidRequest: see ``Searcher.nearest``.
    """
    if dimensions not in (None, probes.shape[1]):
        raise SpaceMismatch(f"The probe has {probes.shape[1]} dimensions where its space has {dimensions}.")
    if not (lengths(probes) < MAX_LENGTH).all():
        raise InvalidRequest("The probe is too long or not finite.")
