"""What an index elsewhere does not have yet: the samples that the latest changes have touched, exactly, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from face_detection.gallery.people import Change
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql.store import Store
from shared.errors import SearchUnavailable
from shared.models import Metric


class PendingChanges(MemoryIndex):
    """The state of all samples that were changed after one change; whatever an index says of these is outdated."""

    def __init__(self, store: Store, space: str, metric: Metric, base: int, begun: int) -> None:
        """No pending changes yet; ``refresh`` or the first search finds them.

        Args:
            store, space, metric: see ``MemoryIndex``.
            base: number of the last change that the index has.
            begun: number of the change up to which the index has nothing that was deleted.
        """
        super().__init__(store, space, metric)
        self.base = self._applied = self._loaded = base
        self._begun = begun
        self._position = store.position()
        self._touched: defaultdict[str, set[int]] = defaultdict(set)

    def touched(self, tenant: str) -> Set[int]:
        """Keys of a tenant's samples that were changed, deleted ones included."""
        return self._touched.get(tenant, set())

    def _apply(self, changes: Sequence[Change]) -> None:
        super()._apply(changes)
        # Last, so that whoever reads these and then searches never misses a sample.
        for change in changes:
            self._touched[change.tenant].add(change.key)

    def _start_over(self) -> None:  # another takes its place
        raise SearchUnavailable("The search index has yet to catch up with the database.")

    def _capacity(self, tenant: str, least: int) -> int:
        return least
