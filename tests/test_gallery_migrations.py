from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from face_detection.gallery import migrations, open_store
from shared.errors import StartupError
from tests.gallery_samples import ids_of, samples


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
    nothing = dict.fromkeys(("space", "name", "metadata", "action", "created_at", "updated_at", "vector"))
    assert rows == [
        {"key": 1, "tenant": "t", "id": "a", "change": 3} | nothing,
        {"key": 2, "tenant": "t", "id": "b", "change": 4} | nothing,
    ]
