"""Whether the front can recognise, and how its search index is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from face_detection.extraction.client import ExtractionClient
from face_detection.gallery import GalleryPool
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store
from face_detection.recognition.identification import Identifier
from shared.errors import ServiceError

T = TypeVar("T")

SHARED_SECONDS = 1.0
"""For so long an outcome is everybody's."""


class Shared(Generic[T]):
    """Work that is done for all who want it at the same time, or within ``SHARED_SECONDS`` after its end, at once.

    Whoever gives up waiting does not end it for the others. Lives in one event loop.

    Args:
        work: what is done; its result or its ``ServiceError`` is shared.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T | ServiceError] | None = None
        self._ended = 0.0

    async def get(self) -> T:
        """The result, of now or of a moment ago.

        Raises:
            ServiceError: what ``work`` raised.
        """
        clock = asyncio.get_running_loop().time
        if self._task is None or (self._task.done() and clock() - self._ended > SHARED_SECONDS):
            self._task = asyncio.create_task(self._run())
        outcome = await asyncio.shield(self._task)
        if isinstance(outcome, ServiceError):
            raise outcome.with_traceback(None)  # it is raised many times, and each would add to its traceback
        return outcome

    async def close(self) -> None:
        """End what is being done; whoever waits for it is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> T | ServiceError:
        try:
            return await self._work()
        except ServiceError as error:
            return error
        finally:
            self._ended = asyncio.get_running_loop().time()


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
        self._checked = Shared(self._check)
        self._unseen: dict[str | None, tuple[tuple[str, Position], Mapping[str, int]]] = {}

    async def check(self) -> None:
        """Return when database, index and extraction service are ready; raise what is in the way otherwise.

        They are asked once for all who want to know within a second.

        Raises:
            StorageError, ExtractionError, NotReady, DeadlinePassed: see ``shared.errors``.
        """
        await self._checked.get()

    async def close(self) -> None:
        """End the check that runs."""
        await self._checked.close()

    async def _check(self) -> None:
        await self._pool.run(self._store.last_change)  # not every searcher asks the database when nothing is searched
        await self._extraction.check_ready()
        model = await self._extraction.model()
        await self._pool.run(lambda: self._identifier.refresh(model))

    async def size(self, tenant: str) -> int:
        """Samples of a tenant that searches see.

        Raises:
            StorageError, ExtractionError, DeadlinePassed: see ``shared.errors``.
        """
        model = await self._extraction.model()

        def size() -> int:
            self._identifier.refresh(model)  # the last check may be a moment ago
            return self._identifier.size(tenant)

        return await self._pool.run(size)

    async def unseen(self, tenant: str | None = None) -> Mapping[str, int]:
        """How many people of each tenant, or of one, are not found: they have no sample of the model in use.

        Those of all collections are counted together.

        Raises:
            StorageError, ExtractionError, DeadlinePassed: see ``shared.errors``.
        """
        space = (await self._extraction.model()).space

        def count() -> Mapping[str, int]:
            state = space, self._store.position()
            known, counts = self._unseen.get(tenant, (None, {}))
            if known != state:
                counts = self._store.people_without(space, tenant)
                self._unseen[tenant] = state, counts
            return counts

        return await self._pool.run(count)

    async def lag(self) -> int:
        """Changes that the search index does not have yet.

        Raises:
            StorageError: the database failed.
        """
        return await self._pool.run(self._identifier.lag)
