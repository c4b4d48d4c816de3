from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from face_detection.cli import main
from face_detection.gallery import open_gallery
from face_detection.gallery.sqlite import migrations
from face_detection.gallery.sqlite.migrations import STEPS
from tests.contracts.databases import DATABASES
from tests.gallery_samples import samples


def test_compacting_leaves_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    gallery = open_gallery(str(path))
    gallery.store.upsert("default", samples(f"person {i}" for i in range(200)))
    gallery.store.clear("default")
    result = CliRunner().invoke(main, ["compact"], env={"DATABASE": str(path)})
    assert (result.exit_code, result.output) == (0, "")
    assert b"person 1" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    gallery.close()


@pytest.mark.parametrize("database", [":memory:", "{folder}/no.db/gallery.db"])
def test_a_database_that_cannot_be_opened(tmp_path: Path, database: str) -> None:
    (tmp_path / "no.db").touch()
    result = CliRunner().invoke(main, ["compact"], env={"DATABASE": database.format(folder=tmp_path)})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: DATABASE=") and "Traceback" not in result.output


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
def test_migrating_makes_the_schema_of_this_release(kind: str, request: pytest.FixtureRequest) -> None:
    database = DATABASES[kind](request)
    results = [CliRunner().invoke(main, ["migrate"], env={"DATABASE": database}) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout
    assert f"{len(STEPS)} migrations, last {STEPS[-1].__name__}." in results[0].stdout
    gallery = open_gallery(database)
    gallery.store.upsert("default", samples(["somebody"]))
    gallery.close()


def test_migrating_brings_an_older_database_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "gallery.db")
    with monkeypatch.context() as former_release:
        former_release.setattr(migrations, "STEPS", STEPS[:-2])
        open_gallery(path).close()
    assert applied(path) == [step.__name__ for step in STEPS[:-2]]
    assert CliRunner().invoke(main, ["migrate"], env={"DATABASE": path}).exit_code == 0
    assert applied(path) == [step.__name__ for step in STEPS]


def test_migrating_refuses_a_database_of_a_newer_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "gallery.db")
    open_gallery(path).close()
    monkeypatch.setattr(migrations, "STEPS", STEPS[:-1])
    result = CliRunner().invoke(main, ["migrate"], env={"DATABASE": path})
    assert (result.exit_code, "newer release" in result.stderr, result.stdout) == (1, True, "")


def applied(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY rowid")]
