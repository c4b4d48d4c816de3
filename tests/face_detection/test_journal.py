"""The journal on each database: nothing that fails ends it, and what is lost is counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.servers.waiting import wait_until
from face_detection import journal as journal_module
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from shared.errors import StorageError
from tests.face_detection.gallery.test_gallery import locked
from tests.gallery_samples import samples

DAY = 86_400 * 1_000_000
NOBODY = Occasion()


@pytest.fixture
def gallery(shared_database: str) -> Iterator[Gallery]:
    gallery = open_gallery(shared_database)
    for tenant in ("none", "long"):
        gallery.directory.create_tenant(tenant, tenant, TenantSettings())
        gallery.store.upsert(tenant, samples("a"))
    gallery.store.upsert("default", samples("a"))
    gallery.directory.update_tenant("none", settings={"event_days": 0})
    gallery.directory.update_tenant("long", settings={"event_days": 100})
    yield gallery
    gallery.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def journal(gallery: Gallery, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    # What is tried four times is so within two seconds.
    monkeypatch.setattr(journal_module, "_LONGEST_PAUSE", journal_module._INTERVAL)
    journal = Journal(gallery.events, gallery.answers, gallery.directory, 30, metrics)
    yield journal
    journal.close(10)


def count(gallery: Gallery, tenant: str) -> int:
    return len(gallery.events.page(tenant, 1000))


def devices(gallery: Gallery) -> list[int | None]:
    """Those of the events, the latest last."""
    return [event.occasion.device for event in reversed(gallery.events.page("default", 1000))]


def figures(metrics: Metrics) -> dict[str, int]:
    """How many events wait, and how many are lost for which reason."""
    lines = metrics.render().decode().splitlines()
    rows = dict(line.rsplit(" ", 1) for line in lines if line.startswith("front_events_"))
    names = {reason: f'front_events_lost_total{{reason="{reason}"}}' for reason in ("overflow", "refused", "closed")}
    names["waiting"] = "front_events_waiting"
    return {short: int(float(rows[name])) for short, name in names.items()}


def note(journal: Journal, device: int | None = None, person: str | None = None, tenant: str = "default") -> None:
    journal.note(tenant, EventKind.UNKNOWN, person, None, Occasion(device=device))


def test_events_are_written_soon_and_for_whoever_keeps_them(gallery: Gallery, journal: Journal) -> None:
    journal.start()
    for tenant in ("default", "none", "long"):
        journal.note(tenant, EventKind.RECOGNISED, "a", 1.5, Occasion(device=3))
    wait_until(lambda: bool(count(gallery, "long")))
    assert [count(gallery, tenant) for tenant in ("default", "none", "long")] == [1, 0, 1]
    (event,) = gallery.events.page("default", 1)
    assert (event.kind, event.person, event.distance, event.occasion.device) == ("recognised", "a", 1.5, 3)
    assert abs(event.at / 1e6 - time.time()) < 60


def test_old_events_are_purged(gallery: Gallery, journal: Journal) -> None:
    now = time.time_ns() // 1000
    old = [(tenant, NewEvent(now - 40 * DAY, EventKind.RECOGNISED, "a", 1.0, NOBODY)) for tenant in ("default", "long")]
    gallery.events.append(old)
    journal.start()
    wait_until(lambda: not count(gallery, "default"))
    assert count(gallery, "long") == 1


def test_what_waits_for_a_tenant_that_is_deleted_is_dropped_alone(gallery: Gallery, journal: Journal) -> None:
    for tenant in ("long", "default"):
        note(journal, tenant=tenant)
    gallery.store.clear("long")
    gallery.directory.delete_tenant("long")
    journal.close(10)
    gallery.directory.create_tenant("long", "another", TenantSettings())
    assert [count(gallery, tenant) for tenant in ("default", "long")] == [1, 0]


@pytest.mark.parametrize("started", [True, False])
def test_what_waits_is_written_at_the_end(gallery: Gallery, journal: Journal, metrics: Metrics, started: bool) -> None:
    if started:
        journal.start()
    for number in range(1700):
        note(journal, number)
    journal.close(60)
    assert sorted(devices(gallery)) == [*range(700, 1700)]  # a page of the latest
    assert figures(metrics) == {"waiting": 0, "overflow": 0, "refused": 0, "closed": 0}


POISONED = {
    "a number that no database takes": lambda journal: note(journal, 1 << 70),
    "half a character": lambda journal: note(journal, person="\ud800"),
    "what no driver knows": lambda journal: note(journal, object()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("poison", POISONED)
def test_an_event_that_cannot_be_written_is_set_aside_alone(
    gallery: Gallery, journal: Journal, metrics: Metrics, poison: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        if number in (3, 4, 20):
            POISONED[poison](journal)
        note(journal, number)
    journal.start()
    wait_until(lambda: figures(metrics)["refused"] == 3)
    assert devices(gallery) == [*range(30)]
    assert figures(metrics) == {"waiting": 0, "overflow": 0, "refused": 3, "closed": 0}
    assert caplog.text.count("an event that cannot be written is set aside") == 3
    note(journal, 99)
    wait_until(lambda: devices(gallery)[-1] == 99)


def test_what_a_trigger_refuses_is_no_failure_of_the_database(
    gallery: Gallery, journal: Journal, metrics: Metrics, shared_database: str
) -> None:
    with ExitStack() as stack:
        if "://" in shared_database:
            import psycopg

            connection = stack.enter_context(psycopg.connect(shared_database, autocommit=True))
            connection.execute("ALTER TABLE events ADD CONSTRAINT no_seven CHECK (device <> 7)")
        else:
            import sqlite3

            connection = sqlite3.connect(shared_database)
            stack.callback(connection.close)
            connection.execute(
                "CREATE TRIGGER no_seven BEFORE INSERT ON events WHEN new.device = 7 "
                "BEGIN SELECT raise(ABORT, 'no'); END"
            )
            connection.commit()
    for number in range(10):
        note(journal, number)
    journal.start()
    wait_until(lambda: figures(metrics)["refused"] == 1)
    assert devices(gallery) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_an_error_that_passes_loses_nothing(
    gallery: Gallery, journal: Journal, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: here the settings cannot be had for a while."""
    failing = threading.Event()
    failing.set()
    tried = threading.Semaphore(0)
    settings = gallery.directory.settings_of_galleries

    def fail() -> object:
        if failing.is_set():
            tried.release()
            raise RuntimeError("can't start new thread")
        return settings()

    monkeypatch.setattr(gallery.directory, "settings_of_galleries", fail)
    journal.start()
    note(journal, 1)
    assert tried.acquire(timeout=30)
    failing.clear()
    wait_until(lambda: devices(gallery) == [1])
    assert figures(metrics)["refused"] == 0


def test_a_purge_that_fails_does_not_end_the_journal(
    gallery: Gallery, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def fail() -> None:
        tried.set()
        raise KeyError("unexpected")

    monkeypatch.setattr(gallery.answers, "purge", fail)
    journal.start()
    assert tried.wait(30)
    note(journal, 1)
    wait_until(lambda: devices(gallery) == [1])


def test_events_wait_while_the_database_is_locked(
    gallery: Gallery, journal: Journal, metrics: Metrics, shared_database: str
) -> None:
    journal.start()
    with locked(shared_database):
        for number in range(100):
            note(journal, number)
        assert figures(metrics)["waiting"] == 100
    wait_until(lambda: devices(gallery) == [*range(100)])
    wait_until(lambda: figures(metrics) == {"waiting": 0, "overflow": 0, "refused": 0, "closed": 0})


def test_the_oldest_give_way(
    gallery: Gallery,
    journal: Journal,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also before the database was ever tried, and while a write to it hangs."""
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 3)
    with caplog.at_level(logging.ERROR):
        for number in range(5):
            note(journal, number)
    assert figures(metrics) == {"waiting": 3, "overflow": 2, "refused": 0, "closed": 0}
    assert "1 events are lost" in caplog.text
    journal.close(10)
    assert devices(gallery) == [2, 3, 4]
    assert "1 events are lost" in caplog.text.rpartition("1 events are lost")[0]


def test_the_end_is_bounded_and_says_what_is_lost(
    gallery: Gallery, journal: Journal, metrics: Metrics, shared_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal.start()
    with locked(shared_database):
        for number in range(100):
            note(journal, number)
        started = time.monotonic()
        journal.close(0.5)
        assert time.monotonic() - started < 8  # the database alone makes a writer wait for ten
        assert figures(metrics) == {"waiting": 0, "overflow": 0, "refused": 0, "closed": 100}
        assert "100 events are lost" in caplog.text
        note(journal, 100)
        assert figures(metrics)["closed"] == 101


def test_a_closed_database_loses_what_waits(
    gallery: Gallery, journal: Journal, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    gallery.close()
    with pytest.raises(StorageError):
        gallery.events.append([])
    note(journal, 1)
    journal.close(0.5)
    assert "1 events are lost" in caplog.text and figures(metrics)["closed"] == 1
