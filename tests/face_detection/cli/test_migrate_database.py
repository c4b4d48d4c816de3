from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from face_detection.cli import main
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import ApiKey, Device, Right, Sector, StoredKey, TenantSettings
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.people import Change
from face_detection.gallery.sql import tables
from face_detection.gallery.sql.tables import TABLES, Row, Table
from shared.errors import StorageError
from tests.contracts.databases import DATABASES
from tests.gallery_samples import OTHER_SPACE, sample, samples, vectors


def fill(gallery: Gallery, people: int = 50) -> None:
    """Something of everything, with gaps."""
    store, directory = gallery.store, gallery.directory
    directory.create_tenant("1042", "Ünï", TenantSettings(8.5, "vote", 7, True, 30))
    directory.update_tenant("default", settings={"min_distance": 0.1})
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    for id, tenant in (("1", "default"), ("2", "1042")):
        rights = frozenset({Right.ADMIN, Right.ENROL})
        directory.add_key(StoredKey(ApiKey(id, tenant, "door", rights, now, 5, None, now), b"\0salt", b"\xffhash"))
    directory.revoke_key("1042", "2")
    directory.put_sector(Sector("1042", 7, "Ground floor"))
    directory.put_device(Device("1042", 31, "Front door", 7))
    directory.put_device(Device("default", 2**63 - 1, "Camera"))
    store.upsert("default", samples(f"person {number}" for number in range(people)))
    store.add(
        "default", [sample("é😀", vector, metadata={"\0": ["\ud800", 1.5]}, action=None) for vector in vectors(3)]
    )
    store.upsert("1042", [sample("person 1", vectors(1, 4)[0], space=OTHER_SPACE)])
    crop = b"\xff\xd8\0"
    here = Occasion("1", 31, -3.7, 0.1 + 0.2)
    gallery.events.append(
        [("default", NewEvent(n, EventKind.RECOGNISED, f"person {n}", n / 3, here, crop)) for n in range(20)]
        + [("1042", NewEvent(2**53 + 1, EventKind.UNKNOWN, None, None, Occasion()))]
    )
    store.add(gallery.collections.create("1042", "visitors").gallery, samples(["guest"]))
    store.delete("default", "person 3")
    store.delete_sample("default", people + 1)
    store.upsert("default", samples(["person 7", "new"], seed=1))


def seen(gallery: Gallery) -> list[object]:
    """All that the parts of a gallery tell."""
    store, directory, events = gallery.store, gallery.directory, gallery.events
    told: list[object] = [store.last_change(), [told_of(change) for change in store.changes(0, 10_000)]]
    for tenant in directory.tenants():
        told += [
            tenant,
            *((one, gallery.collections.contents(one)) for one in gallery.collections.page(tenant.id).collections),
        ]
        told += [
            directory.sectors(tenant.id),
            directory.devices(tenant.id),
            store.feed(tenant.id, 0, 10_000).entries,
        ]
        told += [list(store.page(tenant.id, 1000).people), list(events.page(tenant.id, 1000))]
        told += [events.crop(tenant.id, event.number) for event in events.page(tenant.id, 1000) if event.has_crop]
    return [*told, [directory.find_key(key.id) for key in directory.keys()]]


def told_of(change: Change) -> tuple[object, ...]:
    return (*change[:4], None if change.vector is None else change.vector.tobytes())


def migrate(source: str, target: str) -> Result:
    return CliRunner().invoke(main, ["migrate-database", source, target])


KINDS = ["sqlite file", "postgresql"]


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return DATABASES[request.param](request)


@pytest.fixture
def filled(source: str) -> Iterator[Gallery]:
    gallery = open_gallery(source)
    fill(gallery)
    yield gallery
    gallery.close()


@pytest.fixture
def other(source: str, request: pytest.FixtureRequest) -> str:
    """A new database of the other kind."""
    return DATABASES[KINDS[source.startswith("postgresql") is False]](request)


def test_everything_is_copied_and_life_goes_on(source: str, other: str, filled: Gallery) -> None:
    result = migrate(source, other)
    assert result.exit_code == 0, result.output
    assert "people              53\n" in result.stdout
    assert result.stdout.endswith("Both databases have the same rows.\n")
    copy = open_gallery(other)
    assert seen(copy) == seen(filled)
    for gallery in (filled, copy):  # what is counted up goes on alike, and nothing is used twice
        gallery.store.upsert("default", samples(["person 3", "later", "person 7"], seed=2))
        gallery.store.add("1042", [sample("person 1", vectors(1, 6)[0], space="a further space")])
        gallery.store.delete("default", "person 9")
        gallery.events.append([("1042", NewEvent(9, EventKind.ENROLLED, "person 1", None, Occasion()))])
        gallery.directory.put_device(Device("1042", 32, "Back door", 7))
    ours, copied = (
        [(change.number, change.tenant, change.key) for change in gallery.store.changes(0, 10_000)]
        for gallery in (filled, copy)
    )
    assert ours == copied
    assert [event.number for event in copy.events.page("1042", 9)] == [2, 1]
    copy.close()


def test_and_back_again(source: str, other: str, filled: Gallery, tmp_path: Path) -> None:
    back = str(tmp_path / "back.db")
    assert migrate(source, other).exit_code == 0
    assert migrate(other, back).exit_code == 0
    gallery = open_gallery(back)
    assert seen(gallery) == seen(filled)
    gallery.close()


def test_a_finished_copy_is_recognised(source: str, other: str, filled: Gallery) -> None:
    first, second = migrate(source, other), migrate(source, other)
    assert (second.exit_code, second.stdout) == (0, first.stdout)


@pytest.mark.parametrize("failing_at", range(1, 12))
def test_an_interrupted_copy_is_continued(
    source: str, other: str, filled: Gallery, monkeypatch: pytest.MonkeyPatch, failing_at: int
) -> None:
    monkeypatch.setattr(tables, "PAGE", 20)
    calls = 0
    target_class = type(open_and_close(other).tables)
    insert: Callable[[object, Table, list[Row]], None] = target_class.insert

    def failing(self: object, table: Table, rows: list[Row]) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_at:
            raise StorageError("The disk that holds the database is full.")
        insert(self, table, rows)

    with monkeypatch.context() as failure:
        failure.setattr(target_class, "insert", failing)
        result = migrate(source, other)
        assert (result.exit_code, result.stderr) == (1, "Error: The disk that holds the database is full.\n")
    result = migrate(source, other)
    assert result.exit_code == 0, result.output
    copy = open_gallery(other)
    assert seen(copy) == seen(filled)
    copy.close()


def open_and_close(database: str) -> Gallery:
    gallery = open_gallery(database)
    gallery.close()
    return gallery


def test_a_target_with_other_data_is_refused_and_left_alone(source: str, other: str, filled: Gallery) -> None:
    def enrol(gallery: Gallery) -> None:
        gallery.store.upsert("default", samples("a"))

    def configure(gallery: Gallery) -> None:
        gallery.directory.update_tenant("default", settings={"neighbours": 9})

    for make_its_own in (configure, enrol):
        target = open_gallery(other)
        make_its_own(target)
        before = seen(target)
        result = migrate(source, other)
        assert (result.exit_code, "other data in it" in result.stderr) == (1, True)
        assert seen(target) == before
        target.close()


def test_a_copy_that_went_its_own_way_is_refused(source: str, other: str, filled: Gallery) -> None:
    assert migrate(source, other).exit_code == 0
    copy = open_gallery(other)
    copy.store.delete("default", "person 5")
    before = seen(copy)
    result = migrate(source, other)
    assert (result.exit_code, "other data in it" in result.stderr) == (1, True)
    assert seen(copy) == before
    copy.close()


def rename(gallery: Gallery) -> None:
    gallery.directory.put_sector(Sector("1042", 7, "renamed"))


def enrol_late(gallery: Gallery) -> None:
    gallery.store.upsert("default", samples(["too late"]))


@pytest.mark.parametrize(
    ("meddle", "message"), [(enrol_late, "source was changed meanwhile"), (rename, "copies of sectors differ")]
)
def test_a_change_meanwhile_is_noticed(
    source: str,
    other: str,
    filled: Gallery,
    monkeypatch: pytest.MonkeyPatch,
    meddle: Callable[[Gallery], None],
    message: str,
) -> None:
    meddled_with = filled if meddle is enrol_late else open_gallery(other)
    target_class = type(open_and_close(other).tables)
    insert: Callable[[object, Table, list[Row]], None] = target_class.insert

    def meddling(self: object, table: Table, rows: list[Row]) -> None:
        insert(self, table, rows)
        if table.name == "events":
            meddle(meddled_with)

    monkeypatch.setattr(target_class, "insert", meddling)
    result = migrate(source, other)
    assert (result.exit_code, message in result.stderr) == (1, True), result.output
    meddled_with.close()


def test_what_postgresql_cannot_hold_is_said(tmp_path: Path, postgres_url: str) -> None:
    path = tmp_path / "gallery.db"
    gallery = open_gallery(str(path))
    fill(gallery)
    gallery.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE people SET name = 'a' || char(0) WHERE id = 'person 1'")
    result = migrate(str(path), postgres_url)
    assert (result.exit_code, "NUL character" in result.stderr) == (1, True)


def test_databases_that_cannot_be_opened(tmp_path: Path, postgres_url: str) -> None:
    missing = tmp_path / "missing.db"
    for source, target, message in (
        (str(missing), postgres_url, "There is no database"),
        (":memory:", postgres_url, "in memory"),
        ("mysql://user:s3cret@host/name", postgres_url, "FROM is not a database"),
        (postgres_url, "postgresql://user:s3cret@127.0.0.1:1/name", "Connection refused"),
    ):
        result = migrate(source, target)
        assert (result.exit_code, message in result.stderr) == (1, True), result.output
        assert "s3cret" not in result.output
    assert not missing.exists()


def test_all_tables_and_columns_are_copied(source: str) -> None:
    gallery = open_gallery(source)
    gallery.close()
    if source.startswith("postgresql"):
        with psycopg.connect(source) as connection:
            statement = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            found = {(str(table), str(column)) for table, column in connection.execute(statement).fetchall()}
        found -= {("counter", "one"), ("counter", "change"), ("migrations", "name"), ("migrations", "applied_at")}
        found = {column for column in found if column[0] != "recent_requests"}  # of the last minute
    else:
        with closing(sqlite3.connect(source)) as connection:
            statement = (
                "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
            )
            found = {row for row in connection.execute(statement).fetchall() if not row[0].startswith("_sqlite")}
    found.remove(("gallery", "id"))  # the copy is another gallery
    assert found == {(table.name, column) for table in TABLES for column in table.columns}
