"""People and their samples as a resource: look at them, change and delete them. No HTTP and no SQL here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from face_detection.gallery import GalleryPool
from face_detection.gallery.events import ALL_EVENTS, Event, EventFilter, EventLog
from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Cursor, Description, Feed, Page, Person, Sample
from face_detection.gallery.sql.store import Store, known_id
from shared.errors import CursorExpired, NotFound

_REPLACED = (
    "The database is not the one that the cursor is of, or has changed too often since: start over without a cursor, "
    "and drop what does not come again."
)


class People:
    """The gallery of each tenant, away from the event loop. Ids are understood as ``known_id`` does.

    Every method raises what ``Store`` and ``EventLog`` raise.
    """

    def __init__(self, store: Store, events: EventLog, pool: GalleryPool) -> None:
        self._store = store
        self._events = events
        self._pool = pool

    async def page(
        self,
        tenant: str,
        limit: int,
        after: str | None,
        text: str | None = None,
        metadata: Sequence[Condition] = (),
    ) -> Page:
        """One page of people ordered by id; see ``Store.page``."""
        return await self._pool.run(lambda: self._store.page(tenant, limit, after, text, metadata))

    async def get(self, tenant: str, id: str) -> Person:
        """One person.

        Raises:
            NotFound: there is nobody with this id.
        """
        return await self._pool.run(lambda: self._store.get(tenant, self._known(tenant, id)))

    async def samples(self, tenant: str, id: str, after: int = -1, limit: int | None = None) -> Sequence[Sample]:
        """The samples of a person; see ``Store.samples``."""
        return await self._pool.run(lambda: self._store.samples(tenant, self._known(tenant, id), after, limit))

    async def sample(self, tenant: str, number: int) -> Sample:
        """One sample.

        Raises:
            NotFound: there is none with this number.
        """
        return await self._pool.run(lambda: self._store.sample(tenant, number))

    async def feed(self, tenant: str, cursor: Cursor, limit: int) -> tuple[Feed, Cursor]:
        """What has changed since (see ``Store.feed``), and the cursor for what comes next.

        Raises:
            CursorExpired: whoever has this cursor must start over.
        """

        def read() -> tuple[Feed, Cursor]:
            mark = self._store.position().mark  # before the entries: whatever happens in between shows the next time
            if not self._store.has_passed(cursor.mark):
                raise CursorExpired(_REPLACED)
            begun = cursor.begun if cursor.since else self._store.last_revision(tenant)
            feed = self._store.feed(tenant, cursor.since, limit, begun)
            return feed, Cursor(feed.entries[-1].revision if feed.entries else cursor.since, begun, mark)

        return await self._pool.run(read)

    async def describe(self, tenant: str, id: str, description: Description) -> None:
        """Give a person another name, metadata and action, or some of these.

        Raises:
            NotFound: there is nobody with this id.
        """
        await self._pool.write(lambda: self._store.describe(tenant, self._known(tenant, id), description))

    async def delete(self, tenant: str, id: str) -> None:
        """Delete a person with all samples and events.

        Raises:
            NotFound: there is nobody with this id.
        """
        if not await self._pool.write(lambda: self._store.delete(tenant, self._known(tenant, id))):
            raise NotFound("There is nobody with this id.")

    async def delete_sample(self, tenant: str, number: int) -> None:
        """Delete one sample, and with the last one the person.

        Raises:
            NotFound: there is none with this number.
        """
        if not await self._pool.write(lambda: self._store.delete_sample(tenant, number)):
            raise NotFound("There is no sample with this number.")

    async def clear(self, tenant: str) -> int:
        """Delete everybody; returns how many samples there were."""
        return await self._pool.write(lambda: self._store.clear(tenant))

    async def count(self, tenant: str) -> int:
        """Number of samples."""
        return await self._pool.run(lambda: self._store.count(tenant))

    async def events(
        self, tenant: str, limit: int, before: int | None, which: EventFilter = ALL_EVENTS
    ) -> Sequence[Event]:
        """What happened, the latest first; see ``EventLog.page``."""

        def read() -> Sequence[Event]:
            known = None if which.person is None else self._known(tenant, which.person)
            return self._events.page(tenant, limit, before, replace(which, person=known))

        return await self._pool.run(read)

    async def event_crop(self, tenant: str, number: int) -> bytes:
        """The JPEG kept with an event.

        Raises:
            NotFound: there is none.
        """
        return await self._pool.run(lambda: self._events.crop(tenant, number))

    def _known(self, tenant: str, id: str) -> str:
        return known_id(self._store, tenant, id)
