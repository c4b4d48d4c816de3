"""What every directory must do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from deploy.servers.waiting import wait_until
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import MAX_INTEGER, ApiKey, Device, Right, Sector, StoredKey, TenantSettings
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.sql.directory import Directory
from shared.errors import Conflict, InvalidRequest, NotFound, StorageError
from tests.contracts.databases import DATABASES
from tests.gallery_samples import sample

HOSTILE = "'; DROP TABLE tenants--"

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture
def gallery(database: str) -> Iterator[Gallery]:
    with closing(open_gallery(database)) as gallery:
        yield gallery


@pytest.fixture
def directory(gallery: Gallery) -> Directory:
    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    return gallery.directory


def key(id: str = "0123456789abcdef", tenant: str = "1042", **changes: Any) -> StoredKey:
    return StoredKey(
        ApiKey(id, tenant, changes.pop("name", "door"), frozenset({Right.RECOGNISE}), NOW, **changes), b"salt", b"hash"
    )


def ids(directory: Directory) -> list[str]:
    return [tenant.id for tenant in directory.tenants()]


def test_a_new_directory_has_the_default_tenant_alone(gallery: Gallery) -> None:
    assert ids(gallery.directory) == ["default"]
    assert gallery.directory.tenant("default").settings == TenantSettings()
    assert not gallery.directory.any_key()
    assert not gallery.directory.any_key("default") and not gallery.directory.any_key("nobody")
    assert (
        gallery.directory.keys() == gallery.directory.sectors("default") == gallery.directory.devices("default") == []
    )


def test_settings_come_with_how_far_the_database_is(gallery: Gallery, directory: Directory) -> None:
    assert directory.settings_and_position("1042") == (TenantSettings(), gallery.store.position())
    for id in "ab":
        gallery.store.upsert("default", [sample(id)])
        directory.update_tenant("1042", settings={"neighbours": ord(id)})
        settings, position = directory.settings_and_position("1042")
        assert (settings.neighbours, position) == (ord(id), gallery.store.position())
    assert position.change == 2
    with pytest.raises(NotFound):
        directory.settings_and_position("nobody")


def test_a_tenant_comes_back_as_it_was_created(gallery: Gallery) -> None:
    settings = TenantSettings(8.5, "vote", 7, True, 0)
    before = datetime.now(UTC)
    created = gallery.directory.create_tenant("77", f"Ünï {HOSTILE}", settings)
    assert gallery.directory.tenant("77") == created
    assert (created.name, created.settings) == (f"Ünï {HOSTILE}", settings)
    assert before <= created.created_at <= datetime.now(UTC)
    assert ids(gallery.directory) == ["77", "default"]


def test_a_tenant_is_created_once(directory: Directory) -> None:
    with pytest.raises(Conflict):
        directory.create_tenant("1042", "Other", TenantSettings())
    assert directory.tenant("1042").name == "Acme"


@pytest.mark.parametrize("id", ["", "a" * 65, ".", "..", "-a", "a/b", "a b", "ä", "a\n", HOSTILE])
def test_ids_that_no_tenant_may_have(directory: Directory, id: str) -> None:
    with pytest.raises(InvalidRequest):
        directory.create_tenant(id, "name", TenantSettings())


@pytest.mark.parametrize("name", ["", "a" * 513, "a\0b", "\ud800"])
def test_names_that_nothing_may_have(directory: Directory, name: str) -> None:
    with pytest.raises(InvalidRequest):
        directory.create_tenant("1", name, TenantSettings())
    with pytest.raises(InvalidRequest):
        directory.update_tenant("1042", name)
    for build in (lambda: Sector("1042", 1, name), lambda: Device("1042", 1, name), lambda: key(name=name)):
        with pytest.raises(InvalidRequest):
            build()


@pytest.mark.parametrize(
    "values",
    [
        {"min_distance": -0.1},
        {"min_distance": float("nan")},
        {"min_distance": float("inf")},
        {"rule": "best"},
        {"neighbours": 0},
        {"neighbours": 101},
        {"event_days": -1},
        {"event_days": 36_501},
        {"liveness": "always"},
    ],
)
def test_settings_that_are_refused(directory: Directory, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        TenantSettings(**values)
    with pytest.raises(InvalidRequest):
        directory.update_tenant("1042", "New", values)
    assert (directory.tenant("1042").name, directory.tenant("1042").settings) == ("Acme", TenantSettings())


def test_updating_keeps_what_is_not_named(directory: Directory) -> None:
    assert directory.update_tenant("1042", settings={"min_distance": 8.0, "neighbours": 3}).name == "Acme"
    changed = directory.update_tenant("1042", "New", {"min_distance": None})
    assert changed == directory.tenant("1042")
    assert (changed.name, changed.settings) == ("New", TenantSettings(neighbours=3))


def test_concurrent_updates_are_all_kept(directory: Directory) -> None:
    changes = [{"min_distance": 1.0}, {"rule": "vote"}, {"neighbours": 9}, {"keep_crops": True}, {"event_days": 3}]
    barrier = threading.Barrier(len(changes))

    def change(values: dict[str, Any]) -> None:
        barrier.wait()
        directory.update_tenant("1042", settings=values)

    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(change, changes))
    assert directory.tenant("1042").settings == TenantSettings(1.0, "vote", 9, True, 3)


def test_a_tenant_with_people_is_not_deleted(gallery: Gallery, directory: Directory) -> None:
    gallery.store.upsert("1042", [sample("a", np.array([1, 2], np.float32))])
    with pytest.raises(Conflict):
        directory.delete_tenant("1042")
    gallery.store.clear("1042")
    directory.delete_tenant("1042")
    assert ids(directory) == ["default"]


def test_deleting_a_tenant_takes_what_it_has_and_nothing_else(gallery: Gallery, directory: Directory) -> None:
    event = NewEvent(1, EventKind.UNKNOWN, None, 1.0, Occasion())
    directory.create_tenant("77", "Other", TenantSettings())
    for tenant in ("1042", "77"):
        directory.add_key(key(f"key of {tenant}", tenant))
        directory.put_sector(Sector(tenant, 7, "Hall"))
        directory.put_device(Device(tenant, 31, "Door", 7))
        gallery.events.append([(tenant, event)])
    directory.delete_tenant("1042")
    assert directory.find_key("key of 1042") is None
    assert [one.id for one in directory.keys()] == ["key of 77"]
    assert len(directory.sectors("77")) == len(directory.devices("77")) == len(gallery.events.page("77", 9)) == 1
    directory.create_tenant("1042", "Again", TenantSettings())
    assert directory.sectors("1042") == directory.devices("1042") == directory.keys("1042") == []
    assert not gallery.events.page("1042", 9)


def test_the_default_tenant_and_the_last_keys_stay(directory: Directory) -> None:
    with pytest.raises(Conflict):
        directory.delete_tenant("default")
    directory.add_key(key())
    directory.revoke_key("1042", key().key.id)
    with pytest.raises(Conflict):
        directory.delete_tenant("1042")
    assert directory.any_key() and directory.any_key("1042") and not directory.any_key("default")
    directory.add_key(key("other", "default"))
    directory.delete_tenant("1042")
    assert directory.any_key()


def test_a_key_comes_back_as_it_was_added(directory: Directory) -> None:
    expiry = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    stored = key(name=HOSTILE, requests_per_minute=60, max_samples=MAX_INTEGER, expires_at=expiry)
    directory.add_key(stored)
    directory.add_key(replace(key("older"), key=replace(key("older").key, created_at=NOW - timedelta(seconds=1))))
    assert directory.find_key(stored.key.id) == stored
    assert [one.id for one in directory.keys()] == ["older", stored.key.id]
    assert directory.keys("1042") == directory.keys() and directory.keys("default") == []
    assert directory.find_key("unknown") is None


def test_nothing_shows_a_hash_by_accident() -> None:
    assert "salt" not in repr(key()) and "hash" not in repr(key())


@pytest.mark.parametrize(
    "values",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": 100_001},
        {"max_samples": -1},
        {"max_samples": 2**63},
        {"expires_at": datetime(2030, 1, 1)},
        {"expires_at": datetime.max.replace(tzinfo=UTC)},
    ],
)
def test_keys_that_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        key(**values)


def test_a_key_needs_a_right() -> None:
    with pytest.raises(InvalidRequest):
        replace(key().key, rights=frozenset())


def test_revoking_and_replacing_the_secret_of_a_key(directory: Directory) -> None:
    id = key().key.id
    directory.add_key(key())
    assert directory.replace_secret("1042", id, b"new salt", b"new hash") == key().key
    assert directory.find_key(id) == StoredKey(key().key, b"new salt", b"new hash")
    revoked = directory.revoke_key("1042", id)
    assert revoked.revoked_at is not None and directory.keys("1042") == [revoked]
    assert directory.revoke_key("1042", id) == revoked
    with pytest.raises(Conflict):
        directory.replace_secret("1042", id, b"", b"")


def test_keys_are_found_in_their_tenant_only(directory: Directory) -> None:
    directory.add_key(key())
    for tenant, id in (("default", key().key.id), ("1042", "unknown"), ("nobody", key().key.id)):
        with pytest.raises(NotFound):
            directory.revoke_key(tenant, id)
        with pytest.raises(NotFound):
            directory.replace_secret(tenant, id, b"", b"")
    assert directory.find_key(key().key.id) == key()


def test_sectors(directory: Directory) -> None:
    directory.put_sector(Sector("1042", MAX_INTEGER, "Last"))
    directory.put_sector(Sector("1042", 0, HOSTILE))
    directory.put_sector(Sector("default", 0, "Other"))
    directory.put_sector(Sector("1042", MAX_INTEGER, "Renamed"))
    assert directory.sectors("1042") == [Sector("1042", 0, HOSTILE), Sector("1042", MAX_INTEGER, "Renamed")]
    assert directory.sector("1042", 0).name == HOSTILE
    directory.delete_sector("1042", 0)
    assert [sector.code for sector in directory.sectors("1042")] == [MAX_INTEGER]
    assert directory.sector("default", 0).name == "Other"


def test_devices_stand_in_sectors_of_their_tenant(directory: Directory) -> None:
    directory.put_sector(Sector("1042", 7, "Hall"))
    directory.put_device(Device("1042", 2, "Clock"))
    directory.put_device(Device("1042", 1, "Door", 7))
    assert directory.devices("1042") == [Device("1042", 1, "Door", 7), Device("1042", 2, "Clock")]
    with pytest.raises(NotFound):
        directory.put_device(Device("1042", 2, "Clock", 8))
    with pytest.raises(NotFound):
        directory.put_device(Device("default", 2, "Clock", 7))
    with pytest.raises(Conflict):
        directory.delete_sector("1042", 7)
    directory.put_device(Device("1042", 1, "Door"))
    directory.delete_sector("1042", 7)
    assert directory.device("1042", 1) == Device("1042", 1, "Door")
    directory.delete_device("1042", 1)
    assert directory.devices("1042") == [Device("1042", 2, "Clock")]


@pytest.mark.parametrize("code", [-1, 2**63])
def test_codes_that_nothing_may_have(directory: Directory, code: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Sector("1042", code, "a"),
        lambda: Device("1042", code, "a"),
        lambda: Device("1042", 1, "a", code),
        lambda: directory.sector("1042", code),
        lambda: directory.device("1042", code),
        lambda: directory.delete_sector("1042", code),
        lambda: directory.delete_device("1042", code),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            call()


@pytest.mark.parametrize("tenant", ["nobody", "", HOSTILE])
def test_what_does_not_exist(directory: Directory, tenant: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: directory.tenant(tenant),
        lambda: directory.update_tenant(tenant, "a"),
        lambda: directory.delete_tenant(tenant),
        lambda: directory.keys(tenant),
        lambda: directory.add_key(key(tenant=tenant)),
        lambda: directory.sectors(tenant),
        lambda: directory.put_sector(Sector(tenant, 1, "a")),
        lambda: directory.devices(tenant),
        lambda: directory.put_device(Device(tenant, 1, "a")),
        lambda: directory.sector("1042", 1),
        lambda: directory.delete_sector("1042", 1),
        lambda: directory.device("1042", 1),
        lambda: directory.delete_device("1042", 1),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()


def test_a_tenant_cannot_have_any_number_of_things(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("face_detection.gallery.sql.directory.MAX_ENTRIES", 2)
    for number in (1, 2):
        directory.add_key(key(str(number)))
        directory.put_sector(Sector("1042", number, "a"))
        directory.put_device(Device("1042", number, "a"))
    for call in (
        lambda: directory.add_key(key("3")),
        lambda: directory.put_sector(Sector("1042", 3, "a")),
        lambda: directory.put_device(Device("1042", 3, "a")),
    ):
        with pytest.raises(Conflict):
            call()
    directory.put_sector(Sector("1042", 2, "renamed"))
    directory.put_device(Device("default", 1, "of another"))
    assert len(directory.keys()) == len(directory.sectors("1042")) == len(directory.devices("1042")) == 2


class Writer(threading.Thread):
    """Writes for a tenant again and again, whether it exists or not, and counts what becomes of it.

    It pauses for several times as long as it writes, so that whoever deletes the tenant gets a turn.
    """

    def __init__(self, write: Callable[[], object], stop: threading.Event) -> None:
        super().__init__()
        self._write = write
        self._stop_now = stop
        self.stored = self.refused = 0

    def run(self) -> None:
        took = 0.0
        while not self._stop_now.wait(random.uniform(0, 12) * took):
            started = time.monotonic()
            try:
                self._write()
                self.stored += 1
            except NotFound:
                self.refused += 1
            took = time.monotonic() - started


def wait_for_calls(writers: Sequence[Writer], calls: int, count: Callable[[Writer], int]) -> None:
    """Wait until each writer counts so many more."""
    wanted = [count(writer) + calls for writer in writers]
    wait_until(lambda: all(count(writer) >= least for writer, least in zip(writers, wanted, strict=True)))


def delete_whoever_is_there(gallery: Gallery, tenant: str) -> None:
    """Delete a tenant that is being written to."""
    while True:
        gallery.store.clear(tenant)
        with suppress(Conflict):  # somebody was stored since
            return gallery.directory.delete_tenant(tenant)


@pytest.mark.parametrize("kind", DATABASES)
def test_nothing_is_left_of_deleted_tenants_that_others_write_to(kind: str, request: pytest.FixtureRequest) -> None:
    """What was let in before the deletion is stored before it, or not at all."""
    database = DATABASES[kind](request)
    gallery = open_gallery(database)
    others = [gallery if database == ":memory:" else open_gallery(database) for _ in range(2)]
    events = [("7", NewEvent(1, EventKind.RECOGNISED, person, None, Occasion(), b"jpeg")) for person in (None, "a")]
    stop = threading.Event()
    writers = [
        Writer(lambda: others[0].store.upsert("7", [sample("a")]), stop),
        Writer(lambda: others[1].store.add("7", [sample("a"), sample("b")]), stop),
        Writer(lambda: others[0].events.append(events), stop),
        Writer(lambda: others[1].events.append(events), stop),
    ]
    for writer in writers:
        writer.start()
    try:
        for _ in range(10):
            gallery.directory.create_tenant("7", "Seven", TenantSettings())
            wait_for_calls(writers, 2, lambda writer: writer.stored)
            assert gallery.store.count("7") > 0 and len(gallery.events.page("7", 1)) == 1
            delete_whoever_is_there(gallery, "7")
            # The first call may have been done before the deletion; the second one was not.
            wait_for_calls(writers, 2, lambda writer: writer.stored + writer.refused)
            assert list(gallery.store.page("7", 1).people) == list(gallery.events.page("7", 1)) == []
            assert gallery.store.count("7") == 0
    finally:
        stop.set()
        for writer in writers:
            writer.join()
        for one in {*others, gallery}:
            one.close()
    assert [writer.refused > 0 for writer in writers] == [True, True, False, False]


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
def test_what_one_process_changes_the_other_sees(kind: str, request: pytest.FixtureRequest) -> None:
    database = DATABASES[kind](request)
    one, other = (open_gallery(database) for _ in range(2))
    one.directory.add_key(key(tenant="default"))
    assert other.directory.find_key(key().key.id) == key(tenant="default")
    other.directory.revoke_key("default", key().key.id)
    found = one.directory.find_key(key().key.id)
    assert found is not None and found.key.revoked_at is not None
    one.store.close()
    other.store.close()
    with pytest.raises(StorageError):
        one.directory.tenants()
