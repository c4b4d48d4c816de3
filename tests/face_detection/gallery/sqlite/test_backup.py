"""Copies of an SQLite database: taken in use, verified, put back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from face_detection.cli import main
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.sqlite.backup import back_up, find_damage, restore
from shared.errors import Conflict, StartupError, StorageError
from tests.conftest import ROOT
from tests.gallery_samples import samples


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture
def gallery(database: Path) -> Iterator[Gallery]:
    """An open gallery with three people, whose changes are in the write-ahead log."""
    gallery = open_gallery(str(database))
    gallery.store.upsert("default", samples(["ada", "bob", "cleo"]))
    yield gallery
    gallery.close()


def people(database: Path) -> list[str]:
    gallery = open_gallery(str(database))
    try:
        return [person.id for person in gallery.store.page("default", 1000).people]
    finally:
        gallery.close()


def command(database: str | Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], env={"DATABASE": str(database)})


def test_a_copy_has_what_is_in_the_log_still(gallery: Gallery, database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    result = command(database, "backup", copy)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{copy}: ") and result.stdout.endswith("bytes, verified.\n")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert people(copy) == ["ada", "bob", "cleo"]
    assert not list(tmp_path.glob(".*.part*"))


def test_a_copy_is_of_one_moment_while_others_write(gallery: Gallery, database: Path, tmp_path: Path) -> None:
    done = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        n = 0
        try:
            while not done.is_set():
                gallery.store.upsert("default", samples([f"a{n}", f"b{n}"]))
                n += 1
        except StorageError as error:
            failures.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for n in range(5):
            copy = tmp_path / f"copy{n}.db"
            back_up(database, copy)
            found = set(people(copy))
            assert {id.replace("a", "b") for id in found if id[1:].isdigit() and id[0] == "a"} == {
                id for id in found if id[1:].isdigit() and id[0] == "b"
            }
    finally:
        done.set()
        writing.join()
    assert not failures


def test_a_file_that_is_there_is_overwritten_by_force_only(gallery: Gallery, database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    with pytest.raises(Conflict):
        back_up(database, copy)
    assert copy.read_text() == "precious"
    assert command(database, "backup", "--force", copy).exit_code == 0
    assert people(copy) == ["ada", "bob", "cleo"]


def test_restoring_goes_back_in_time_and_keeps_the_former(gallery: Gallery, database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    back_up(database, copy)
    identity = gallery.store.identity()
    gallery.store.upsert("default", samples(["dora"]))
    gallery.close()
    result = command(database, "restore", copy)
    assert result.exit_code == 0, result.output
    (former,) = tmp_path.glob("gallery.db.before-restore-*")
    assert str(former) in result.stdout
    assert people(database) == ["ada", "bob", "cleo"]
    assert people(former) == ["ada", "bob", "cleo", "dora"]
    restored = open_gallery(str(database))
    assert restored.store.identity() != identity  # what had followed the former one begins anew
    restored.close()


def test_a_stale_log_does_not_meet_the_restored_file(database: Path, tmp_path: Path) -> None:
    damaged_by_hand(database, tmp_path)
    assert restore(tmp_path / "copy.db", database) is not None
    assert find_damage(database, thorough=True) is None
    assert people(database) == ["ada"]


def test_who_has_the_database_open_is_not_robbed_of_it(database: Path, tmp_path: Path) -> None:
    gallery = open_gallery(str(database))
    gallery.store.upsert("default", samples(["ada"]))
    back_up(database, tmp_path / "copy.db")
    try:
        # In a process of its own, since locks of files do not hold against one's own process.
        done = subprocess.run(
            [sys.executable, "-m", "face_detection", "restore", str(tmp_path / "copy.db")],
            env={"DATABASE": str(database), "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    finally:
        gallery.close()
    assert (done.returncode, done.stderr) == (1, f"Error: {database} is in use: stop the service first.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "gallery.db"]


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + bytes(5000)])
def test_what_is_no_backup_is_not_restored(gallery: Gallery, database: Path, tmp_path: Path, content: bytes) -> None:
    gallery.close()
    bad = tmp_path / "bad.db"
    bad.write_bytes(content)
    result = command(database, "restore", bad)
    assert result.exit_code == 1 and str(bad) in result.stderr and "Traceback" not in result.output
    assert people(database) == ["ada", "bob", "cleo"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.db", "gallery.db"]


def test_another_database_is_not_restored(gallery: Gallery, database: Path, tmp_path: Path) -> None:
    gallery.close()
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    result = command(database, "restore", other)
    assert (result.exit_code, result.stderr) == (1, f"Error: {other} is no database of this service.\n")
    assert people(database) == ["ada", "bob", "cleo"]


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_postgresql_has_tools_of_its_own(name: str, tmp_path: Path) -> None:
    result = command("postgresql://faces:secret@db/faces", name, tmp_path / "copy.db")
    assert result.exit_code == 1
    assert "pg_dump --format custom" in result.stderr and "pg_restore" in result.stderr
    assert "secret" not in result.output


def damaged_by_hand(database: Path, folder: Path) -> None:
    """A copy of an earlier moment under the database's name, beside the log of a later one."""
    gallery = open_gallery(str(database))
    gallery.store.upsert("default", samples(["ada"]))
    back_up(database, folder / "copy.db")
    gallery.store.compact()
    gallery.store.upsert("default", samples(f"person {n}" for n in range(300)))
    log = folder / "log"
    shutil.copy(database.with_name("gallery.db-wal"), log)
    gallery.close()
    database.unlink()
    shutil.copy(folder / "copy.db", database)
    log.rename(database.with_name("gallery.db-wal"))


def test_a_copy_beside_a_stale_log_is_found_to_be_damaged(database: Path, tmp_path: Path) -> None:
    damaged_by_hand(database, tmp_path)
    with pytest.raises(StartupError, match="malformed|damaged"):
        open_gallery(str(database))
    result = command(database, "doctor")
    assert result.exit_code == 1
    assert f"database: DATABASE={database} is damaged" in result.stdout
    assert "python -m face_detection restore FILE" in result.stdout


def test_an_index_that_contradicts_its_table_is_found_on_request(gallery: Gallery, database: Path) -> None:
    gallery.close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'IS NOT NULL', 'IS NULL') WHERE name = ?", ("samples_present",)
        )
        connection.commit()
    assert find_damage(database) is None
    assert "samples_present" in (find_damage(database, thorough=True) or "")
    assert f"DATABASE={database} is damaged" in command(database, "doctor", "--integrity").stdout
