from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from face_detection.gallery.sqlite import connections
from face_detection.gallery.sqlite.connections import Connections
from shared.errors import SettingsError, StartupError, StorageError, StorageUnavailable
from tests.galleries import open_store
from tests.gallery_samples import ids_of, samples


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "gallery ü?#.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Connections]:
    opened = Connections(str(path))
    yield opened
    opened.close()


def test_settings_of_every_connection(opened: Connections) -> None:
    for context in (opened.reading, opened.writing):
        with context() as connection:
            values = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "secure_delete", "temp_store", "busy_timeout")
            ]
        assert values == ["wal", 2, 1, 2, 10_000]


def test_files_are_readable_by_their_owner_only(path: Path) -> None:
    path.parent.mkdir(parents=True)
    for _ in range(2):
        opened = Connections(str(path))
        with opened.writing() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS x (y)")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert modes == {path.name: 0o600, f"{path.name}-wal": 0o600, f"{path.name}-shm": 0o600}
        opened.close()
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        path.chmod(0o644)  # as a copy may be


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_replaced_or_removed(path: Path, tmp_path: Path, replaced: bool) -> None:
    other = tmp_path / "other.db"
    open_store(str(other)).close()
    store = open_store(str(path))
    store.upsert("t", samples("ab"))
    aside = path.rename(tmp_path / "aside.db")
    if replaced:
        other.rename(path)
    for call in (lambda: store.upsert("t", samples("c")), store.last_change, store.compact):
        with pytest.raises(StorageError, match="replaced or removed"):
            call()
    if replaced:
        path.rename(other)
    aside.rename(path)
    store.upsert("t", samples("c"))
    assert ids_of(store, "t") == ["a", "b", "c"]
    store.close()


def test_readers_are_reused_and_do_not_wait_for_the_writer(opened: Connections) -> None:
    with opened.writing() as writer:
        writer.execute("CREATE TABLE x (y)")
        with opened.reading() as first, opened.reading() as second:
            assert len({id(writer), id(first), id(second)}) == 3
            assert first.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'x'").fetchall() == [(0,)]
    with opened.reading() as again:
        assert again in (first, second)


def test_a_failed_transaction_is_rolled_back(opened: Connections) -> None:
    with pytest.raises(ZeroDivisionError), opened.writing() as connection:
        connection.execute("CREATE TABLE x (y)")
        raise ZeroDivisionError
    with opened.writing() as connection:
        connection.execute("CREATE TABLE x (y)")


def test_a_reader_in_use_is_closed_when_it_comes_back(opened: Connections) -> None:
    with opened.reading() as connection:
        opened.close()
        connection.execute("SELECT 1").fetchall()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_a_busy_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.05)
    store = open_store(str(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="busy"):
            store.upsert("t", samples("a"))
        with pytest.raises(StartupError, match="locked"):
            open_store(str(path))
        assert store.count("t") == 0
        other.execute("ROLLBACK")
        store.upsert("t", samples("a"))
        other.execute("BEGIN")
        other.execute("SELECT * FROM samples").fetchall()
        with pytest.raises(StorageError, match="busy"):
            store.compact()
        other.execute("COMMIT")
        store.compact()
    store.close()


def test_a_full_disk(path: Path, opened: Connections) -> None:
    store = open_store(str(path))
    store.upsert("t", samples("a"))
    with pytest.raises(StorageError, match="full") as raised, opened.writing() as connection:
        connection.execute("PRAGMA max_page_count = 20")
        connection.execute("CREATE TABLE x AS SELECT zeroblob(1000000)")
    assert raised.type is StorageError  # and not one that a repetition helps
    assert ids_of(store, "t") == ["a"]
    store.upsert("t", samples("b"))
    store.close()


def test_a_file_that_is_damaged_while_in_use(path: Path) -> None:
    store = open_store(str(path))
    store.upsert("t", samples(map(str, range(500))))
    store.compact()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    fresh = None
    with pytest.raises(StorageError, match="damaged"):
        fresh = sqlite3.connect(path)
        store.page("t", 1000)
        store.changes(0, 1000)
    assert fresh is not None
    fresh.close()
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StartupError, match=r"^DATABASE=.*gallery.* cannot be opened: [^\n]+\.$"):
        open_store(str(path))
    assert path.read_bytes() == content


def test_places_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for database in (str(tmp_path), str(tmp_path / "file" / "gallery.db"), "null\x00byte"):
        with pytest.raises(StartupError, match="cannot be opened"):
            open_store(database)
    with pytest.raises(SettingsError):
        open_store("mysql://localhost/gallery")
