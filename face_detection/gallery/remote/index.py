"""What an index of vectors outside of the process promises: the part of a search that does not fit one machine.

It holds copies of the prepared vectors of one embedding space (``distances.prepare``), compares them by their Euclidean
distance, which orders all metrics alike, and records up to which change of the database it has them. Nothing in it is
worth a backup: it can be made again from the database.

A gallery has one index for each embedding space that it has been used with. Each is brought up to date by the processes
that use its space; when nobody does any more, the others see to it that nobody who was deleted stays in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.people import Change

GALLERY_DIGITS = 10
"""Digits of an index's name that are the same in all indexes of a gallery."""


def lock_to_apply(name: str) -> str:
    """Name of the lock of whoever brings an index up to date."""
    return f"search-{name}"


def lock_to_rebuild(lock: str) -> str:
    """Name of the lock of whoever makes an index again, by that of the one to bring it up to date."""
    return f"{lock}-rebuild"


@dataclass(frozen=True)
class Candidates:
    """What an index found.

    Attributes:
        keys: for each probe the keys of the samples that seem nearest, the nearest first, each key once. A few more
            or less than asked for may be there.
        exhausted: for each probe whether the index has no others of the tenant, so that asking for more is useless.
        exact: whether every vector of the tenant was considered for every probe.
    """

    keys: Sequence[Sequence[int]]
    exhausted: Sequence[bool]
    exact: bool


@dataclass(frozen=True)
class IndexState:
    """An index of a gallery as it is found.

    Attributes:
        name: hexadecimal digits, of which the first ``GALLERY_DIGITS`` are the gallery's.
        reached: number of the change up to which nothing is in it that was deleted or replaced by then; None when there
            is nothing that could be searched.
        leftovers: whether it has parts that are not published: a rebuild makes them, or a killed one has left them.
    """

    name: str
    reached: int | None
    leftovers: bool


class GalleryIndexes(Protocol):
    """The indexes of one gallery, of all embedding spaces. Blocks; safe between threads and processes.

    Every method raises SearchUnavailable when the place of the indexes cannot be reached or has failed.

    Attributes:
        own: name of the index that this process searches.
    """

    own: str

    def states(self) -> Sequence[IndexState]:
        """All of them."""

    def remove(self, name: str, changes: Sequence[Change], position: int) -> None:
        """Remove the former vectors of all samples that were deleted or replaced, then record the position.

        How far the index is for those who search it stays as it is: they apply the same changes in their turn. The
        caller has the lock of the index (``lock_to_apply``), in which it read them: who has it
        writes nothing that was removed meanwhile.

        Args:
            name: of the index; nothing happens when there is none.
            changes: all after what the index has reached, in the order of their numbers.
            position: number of the last of all changes up to which it is free of what was removed then.
        """

    def drop_leftovers(self, name: str) -> None:
        """Remove what is not published of an index; the caller has the lock to rebuild it (``lock_to_rebuild``)."""

    def drop(self, name: str) -> None:
        """Remove an index; nothing happens when there is none. Who still uses it finds it lost."""


class VectorIndex(Protocol):
    """Vectors of one embedding space. Blocks; safe between threads and processes.

    Every method raises SearchUnavailable when the index cannot be reached or has failed.

    Attributes:
        name: what it is called in metrics and logs.
        settling: seconds after which every search sees a change that was applied.
        indexes: this one and those of other embedding spaces.
    """

    name: str
    settling: float
    indexes: GalleryIndexes

    def position(self) -> int:
        """Number of the change up to which all changes have been applied; 0 when the index is new or was lost."""

    def begin(self, change: int) -> int:
        """Note of a new index that it has nothing that was deleted up to a change, the last one there is by now.

        The caller has its lock.

        Returns:
            Up to which change that is so; another when it is not new, or this was noted before.
        """

    def apply(self, changes: Sequence[Change], since: int, position: int) -> None:
        """Apply all changes after ``since`` and up to ``position``, then record the latter.

        Whatever was applied before may come again, and several processes may apply the same changes at once. A search
        meanwhile sees for each sample the former vector, the new one, or both, but never neither.

        Args:
            changes: in the order of their numbers; those of other spaces remove the sample.
            since: number of the change after which they begin.
            position: number of the last of all changes that are applied by then.

        Raises:
            SearchUnavailable: what was applied up to ``since`` is not there: the index was lost in between.
        """

    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int) -> Candidates:
        """The samples of a tenant that seem nearest to each probe.

        Args:
            tenant: whose samples.
            probes: (m, dimensions) float32, prepared.
            k: how many per probe, at least 1. An index may have a limit of its own, at least 1,000, above which it
                gives fewer.
        """

    def fresh(self) -> Self:
        """A new and empty index for the same vectors, which nobody searches yet."""

    def complete(self) -> None:
        """Make whatever searches of a fresh index need to be fast; it may take hours, and changes can be applied on."""

    def publish(self) -> None:
        """Make this index the one that all processes search, and remove the former one."""

    def drop(self) -> None:
        """Remove this index, which was never published."""

    def close(self) -> None:
        """Close connections."""
