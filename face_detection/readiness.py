"""Whether the front can recognise, and how its search index is."""

from __future__ import annotations

from face_detection.extraction import ExtractionClient
from face_detection.gallery.store import Store
from face_detection.identification import Identifier
from face_detection.pool import GalleryPool


class Readiness:
    """Asks all that recognition needs. Lives in one event loop.

    Args:
        store: where samples are kept.
        extraction: gives embeddings.
        identifier: has the search index.
        pool: where the database is asked.
    """

    def __init__(self, store: Store, extraction: ExtractionClient, identifier: Identifier, pool: GalleryPool) -> None:
        self._store = store
        self._extraction = extraction
        self._identifier = identifier
        self._pool = pool

    async def check(self) -> None:
        """Return when database, index and extraction service are ready; raise what is in the way otherwise.

        Raises:
            StorageError, ExtractionError, NotReady, DeadlinePassed: see ``shared.errors``.
        """
        await self._pool.run(self._store.last_change)  # not every searcher asks the database when nothing is searched
        await self._extraction.check_ready()
        model = await self._extraction.model()
        await self._pool.run(lambda: self._identifier.refresh(model))

    async def size(self, tenant: str) -> int:
        """Samples of a tenant that searches see.

        Raises:
            StorageError: the database failed.
        """
        return await self._pool.run(lambda: self._identifier.size(tenant))

    async def lag(self) -> int:
        """Changes that the search index does not have yet.

        Raises:
            StorageError: the database failed.
        """
        return await self._pool.run(self._identifier.lag)
