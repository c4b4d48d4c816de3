from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from face_detection.gallery import open_gallery
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.people import Person
from face_detection.gallery.sqlite import migrations
from shared.errors import StartupError
from tests.galleries import open_store
from tests.gallery_samples import SPACE, ids_of, samples, vectors


def test_an_old_database_is_migrated_and_keeps_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gallery.db"
    store = open_store(str(path))
    store.upsert("t", samples("a"))
    store.close()

    def add_colour(database: Database) -> None:
        database.execute("ALTER TABLE samples ADD COLUMN colour TEXT")

    def fail(database: Database) -> None:
        database.execute("ALTER TABLE samples ADD COLUMN size TEXT")
        database.execute("SELECT * FROM nowhere")

    def columns() -> set[str]:
        with closing(sqlite3.connect(path)) as connection:
            return {row[1] for row in connection.execute("PRAGMA table_info(samples)").fetchall()}

    with monkeypatch.context() as newer:
        newer.setattr(migrations, "STEPS", (*migrations.STEPS, add_colour, fail))
        with pytest.raises(StartupError, match="nowhere"):
            open_store(str(path))
        assert not columns() & {"colour", "size"}
        newer.setattr(migrations, "STEPS", migrations.STEPS[:-1])
        for _ in range(2):
            store = open_store(str(path))
            assert ids_of(store, "t") == ["a"]
            store.close()
        assert "colour" in columns()

    with pytest.raises(StartupError, match=r"newer release \(it has add_colour\)"):
        open_store(str(path))


def test_a_tombstone_keeps_no_personal_data(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    store = open_store(str(path))
    store.upsert("t", samples("ab"))
    store.delete("t", "a")
    store.clear("t")
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM samples ORDER BY change")]
        assert connection.execute("SELECT * FROM people").fetchall() == []
    assert [row.pop("revision") > 0 for row in rows] == [True, True]
    nothing = dict.fromkeys(("person", "space", "vector"))
    assert rows == [
        {"key": 1, "tenant": "t", "number": 1, "change": 3} | nothing,
        {"key": 2, "tenant": "t", "number": 2, "change": 4} | nothing,
    ]


def test_samples_of_the_first_release_become_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gallery.db"
    with monkeypatch.context() as first_release:
        first_release.setattr(migrations, "STEPS", migrations.STEPS[:1])
        open_gallery(str(path)).close()
    row = "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    vector = vectors(1)[0]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO spaces VALUES (1, ?, 8)", (SPACE,))
        connection.execute(
            row, (1, "default", "a", 4, 1, "Ada", '{"b":1}', "hi", "2026-01-01", "2026-01-02", bytes(vector))
        )
        connection.execute(row, (2, "default", "gone", 2, *[None] * 7))
        connection.execute(row, (3, "u", "a", 3, 1, "Ann", "null", None, "2026-01-01", "2026-01-01", bytes(vector)))
    gallery = open_gallery(str(path))
    (one,), (ann,) = gallery.store.samples("default", "a"), gallery.store.samples("u", "a")
    person = Person("a", "Ada", {"b": 1}, "hi", 1, "2026-01-01", "2026-01-02")
    assert (one.key, one.number, one.change, one.person) == (1, 1, 4, person)
    np.testing.assert_array_equal(one.vector, vector)
    assert (ann.number, ann.person.name, gallery.store.last_change()) == (1, "Ann", 4)
    assert [entry.number for entry in gallery.store.feed("default", 0, 9).entries] == [2, 1]
    assert {tenant.id for tenant in gallery.directory.tenants()} == {"default", "u"}
    gallery.store.upsert("default", samples("b"))
    assert (gallery.store.samples("default", "b")[0].number, gallery.store.last_change()) == (3, 5)
    gallery.close()


def test_numbers_of_events_go_on_after_those_of_a_former_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gallery.db"
    with monkeypatch.context() as former_release:
        steps = migrations.STEPS[: migrations.STEPS.index(migrations.keep_event_numbers)]
        former_release.setattr(migrations, "STEPS", steps)
        open_gallery(str(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO events (tenant, number, at, kind) VALUES ('default', 41, 1, 'unknown')")
    gallery = open_gallery(str(path))
    assert gallery.events.purge("default", 2) == 1
    gallery.events.append([("default", NewEvent(3, EventKind.UNKNOWN, None, None, Occasion()))])
    assert [event.number for event in gallery.events.page("default", 9)] == [42]
    gallery.close()
