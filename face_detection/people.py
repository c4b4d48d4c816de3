"""People and their samples as a resource: look at them, change and delete them. No HTTP and no SQL here."""

from __future__ import annotations

from collections.abc import Sequence

from face_detection.gallery.events import Event, EventKind, EventLog
from face_detection.gallery.store import Description, Page, Person, Sample, Store, Tombstone
from face_detection.pool import GalleryPool
from shared.errors import NotFound


class People:
    """The gallery of each tenant, away from the event loop.

    Every method raises what ``Store`` and ``EventLog`` raise.
    """

    def __init__(self, store: Store, events: EventLog, pool: GalleryPool) -> None:
        self._store = store
        self._events = events
        self._pool = pool

    async def page(self, tenant: str, limit: int, after: str | None, text: str | None = None) -> Page:
        """One page of people ordered by id; only those with ``text`` in id or name, if there is one."""
        return await self._pool.run(lambda: self._store.page(tenant, limit, after, text))

    async def get(self, tenant: str, id: str) -> Person:
        """One person.

        Raises:
            NotFound: there is nobody with this id.
        """
        return await self._pool.run(lambda: self._store.get(tenant, id))

    async def samples(self, tenant: str, id: str) -> Sequence[Sample]:
        """The samples of a person; none when there is no such person."""
        return await self._pool.run(lambda: self._store.samples(tenant, id))

    async def sample(self, tenant: str, number: int) -> Sample:
        """One sample.

        Raises:
            NotFound: there is none with this number.
        """
        return await self._pool.run(lambda: self._store.sample(tenant, number))

    async def feed(self, tenant: str, since: int, limit: int) -> Sequence[Sample | Tombstone]:
        """What has changed since a revision; see ``Store.feed``."""
        return await self._pool.run(lambda: self._store.feed(tenant, since, limit))

    async def describe(self, tenant: str, id: str, description: Description) -> None:
        """Give a person another name, metadata and action.

        Raises:
            NotFound: there is nobody with this id.
        """
        await self._pool.run(lambda: self._store.describe(tenant, id, description))

    async def delete(self, tenant: str, id: str) -> None:
        """Delete a person with all samples and events.

        Raises:
            NotFound: there is nobody with this id.
        """
        if not await self._pool.run(lambda: self._store.delete(tenant, id)):
            raise NotFound("There is nobody with this id.")

    async def delete_sample(self, tenant: str, number: int) -> None:
        """Delete one sample, and with the last one the person.

        Raises:
            NotFound: there is none with this number.
        """
        if not await self._pool.run(lambda: self._store.delete_sample(tenant, number)):
            raise NotFound("There is no sample with this number.")

    async def clear(self, tenant: str) -> int:
        """Delete everybody; returns how many samples there were."""
        return await self._pool.run(lambda: self._store.clear(tenant))

    async def count(self, tenant: str) -> int:
        """Number of samples."""
        return await self._pool.run(lambda: self._store.count(tenant))

    async def events(
        self, tenant: str, limit: int, before: int | None, person: str | None, kind: EventKind | None
    ) -> Sequence[Event]:
        """What happened, the latest first; see ``EventLog.page``."""
        return await self._pool.run(lambda: self._events.page(tenant, limit, before, person, kind))

    async def event_crop(self, tenant: str, number: int) -> bytes:
        """The JPEG kept with an event.

        Raises:
            NotFound: there is none.
        """
        return await self._pool.run(lambda: self._events.crop(tenant, number))
