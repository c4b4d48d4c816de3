from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from face_detection import journal as journal_module
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.journal import Journal
from face_detection.pool import GalleryPool
from shared.errors import StorageError
from tests.gallery_samples import samples

DAY = 86_400 * 1_000_000


@pytest_asyncio.fixture
async def gallery() -> AsyncIterator[Gallery]:
    gallery = open_gallery(":memory:")
    for tenant in ("none", "long"):
        gallery.directory.create_tenant(tenant, tenant, TenantSettings())
        gallery.store.upsert(tenant, samples("a"))
    gallery.store.upsert("default", samples("a"))
    gallery.directory.update_tenant("none", settings={"event_days": 0})
    gallery.directory.update_tenant("long", settings={"event_days": 100})
    yield gallery
    gallery.close()


@pytest_asyncio.fixture
async def journal(gallery: Gallery) -> AsyncIterator[Journal]:
    pool = GalleryPool()
    yield Journal(gallery.events, gallery.directory, pool, days=30)
    pool.close()


def count(gallery: Gallery, tenant: str) -> int:
    return len(gallery.events.page(tenant, 100))


async def test_events_are_written_soon_and_for_whoever_keeps_them(gallery: Gallery, journal: Journal) -> None:
    running = asyncio.create_task(journal.run())
    for tenant in ("default", "none", "long"):
        journal.note(tenant, EventKind.RECOGNISED, "a", 1.5, Occasion(device=3))
    async with asyncio.timeout(10):
        while not count(gallery, "long"):
            await asyncio.sleep(0.02)
    running.cancel()
    assert [count(gallery, tenant) for tenant in ("default", "none", "long")] == [1, 0, 1]
    (event,) = gallery.events.page("default", 1)
    assert (event.kind, event.person, event.distance, event.occasion.device) == ("recognised", "a", 1.5, 3)
    assert abs(event.at / 1e6 - time.time()) < 60


async def test_old_events_are_purged(gallery: Gallery, journal: Journal) -> None:
    now = time.time_ns() // 1000
    old = [
        (tenant, NewEvent(now - 40 * DAY, EventKind.RECOGNISED, "a", 1.0, Occasion())) for tenant in ("default", "long")
    ]
    gallery.events.append(old)
    running = asyncio.create_task(journal.run())
    async with asyncio.timeout(10):
        while count(gallery, "default"):
            await asyncio.sleep(0.02)
    running.cancel()
    assert count(gallery, "long") == 1


async def test_what_waits_for_a_tenant_that_is_deleted_is_dropped_alone(gallery: Gallery, journal: Journal) -> None:
    for tenant in ("long", "default"):
        journal.note(tenant, EventKind.UNKNOWN, None, None, Occasion(), b"jpeg")
    gallery.store.clear("long")
    gallery.directory.delete_tenant("long")
    await journal.flush()
    gallery.directory.create_tenant("long", "another", TenantSettings())
    assert [count(gallery, tenant) for tenant in ("default", "long")] == [1, 0]


async def test_what_waits_is_written_at_the_end(gallery: Gallery, journal: Journal) -> None:
    journal.note("default", EventKind.UNKNOWN, None, None, Occasion())
    await journal.close()
    assert count(gallery, "default") == 1


async def test_events_wait_while_the_database_fails_and_the_oldest_give_way(
    gallery: Gallery, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 3)
    gallery.close()
    for distance in range(5):
        journal.note("default", EventKind.UNKNOWN, None, distance, Occasion())
    with caplog.at_level(logging.ERROR), pytest.raises(StorageError):
        await journal.flush()
    assert "2 events are lost" in caplog.text
    await journal.close()
    assert "3 events are lost" in caplog.text
