"""A full disk, places that cannot be written, and damage, each made for real: what is said, and what is advised."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.prove.faults import small_disk
from face_detection.cli import main
from face_detection.cli.doctor import Finding, State, _database
from shared.errors import StartupError, StorageError
from tests.galleries import open_store
from tests.gallery_samples import samples

FULL = "The disk that holds the database is full"
READ_ONLY = "The database is read-only"
MAKE_ROOM, ALLOW, RESTORE = "Make room", "must be allowed to write", "restore FILE"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a file system of 6 MiB."""
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("needs root, to mount a file system")
        yield tmp_path / "disk"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user of the system reaches."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with without_root():
            if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
                pytest.skip("the folder for temporary files is root's alone")
        yield Path(folder)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 12)):
                pass
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def without_root() -> Iterator[None]:
    """As nobody where this is root's process, whom no right binds."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def enrolled(database: Path) -> Path:
    with closing(open_store(str(database))) as store:
        store.upsert("t", samples(map(str, range(300))))
    return database


def examined(database: Path) -> Finding:
    return _database(str(database), integrity=False)


def assert_same_advice(database: Path, found: str, advice: str) -> None:
    """Of ``doctor`` and of the start."""
    finding = examined(database)
    assert finding.state is State.BROKEN and found.lower() in finding.found.lower() and advice in finding.advice
    with pytest.raises(StartupError) as refused:
        open_store(str(database)).close()
    assert refused.value.text.startswith(f"DATABASE={database} cannot be opened: ")
    assert found.lower() in refused.value.text.lower() and "\n" not in refused.value.text
    assert refused.value.advice == finding.advice and refused.value.explained.endswith(finding.advice)


def test_a_full_disk_and_room_on_it_again(disk: Path) -> None:
    database = enrolled(disk / "gallery.db")
    with full(disk):
        assert_same_advice(database, FULL, MAKE_ROOM)
        for new in (disk / "new.db", disk / "new" / "gallery.db"):
            assert_same_advice(new, FULL, MAKE_ROOM)
            new.unlink(missing_ok=True)  # SQLite leaves an empty file
    with closing(open_store(str(database))) as store:
        assert store.count("t") == 300
        with full(disk):
            finding = examined(database)
            assert finding.state is State.BROKEN and FULL in finding.found and MAKE_ROOM in finding.advice
            with pytest.raises(StorageError, match=FULL) as refused:
                store.upsert("t", samples(map(str, range(300, 5_000))))
            assert refused.value.advice == finding.advice
            assert store.count("t") == 300
        store.upsert("t", samples(["new"]))
    assert examined(database).state is State.WELL


def test_doctor_with_a_full_disk(disk: Path) -> None:
    database = enrolled(disk / "gallery.db")
    with full(disk):
        settings = {"DATABASE": str(database), "DEEPFACE_HOME": str(disk)}
        result = CliRunner().invoke(main, ["doctor", "--json"], env=settings)
    assert result.exit_code == 1
    found = {one["what"]: one for one in json.loads(result.stdout)}
    assert FULL in found["database"]["found"] and MAKE_ROOM in found["database"]["advice"]
    weights = found["the model's weights"]
    assert "No space left on device" in weights["found"] and weights["advice"].startswith("Make room")
    assert all("restore" not in one["advice"].lower() for one in found.values())


def test_a_file_system_that_is_mounted_read_only(disk: Path) -> None:
    database = enrolled(disk / "gallery.db")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for file in (database, disk / "new.db"):
        assert_same_advice(file, READ_ONLY, ALLOW)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert examined(database).state is State.WELL


def test_a_file_a_folder_and_a_log_that_may_not_be_written(place: Path) -> None:
    database = enrolled(place / "data" / "gallery.db")
    log = database.with_name(f"{database.name}-wal")
    log.touch()
    rights: list[tuple[Path, int]] = [(database, 0o444), (database.parent, 0o555), (log, 0o400)]
    if not os.geteuid():
        for file, _ in rights:
            os.chown(file, 65534, -1)
    for file, mode in rights:
        former = file.stat().st_mode
        file.chmod(mode)
        with without_root():
            assert_same_advice(database, READ_ONLY, ALLOW)
            if file == database.parent:
                assert_same_advice(file / "new.db", READ_ONLY, ALLOW)
        file.chmod(former)
    for file in database.parent.iterdir():  # SQLite gives those beside a database its rights
        file.chmod(0o600)
    with without_root():
        assert examined(database).state is State.WELL


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the first bytes": lambda file: overwrite(file, 0),
    "the first page": lambda file: overwrite(file, 100),
    "all but the first page": lambda file: overwrite(file, 4096),
    "a cut": lambda file: os.truncate(file, file.stat().st_size // 2),
}


def overwrite(file: Path, start: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(b"\xa5" * (4096 if start < 4096 else file.stat().st_size - start))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database(tmp_path: Path, damage: str) -> None:
    database = enrolled(tmp_path / "gallery.db")
    DAMAGES[damage](database)
    assert_same_advice(database, "is damaged", RESTORE)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for database in (tmp_path / "folder", tmp_path / "file" / "gallery.db", tmp_path / ("x" * 300)):
        assert_same_advice(database, "not a file that can be opened", "Let DATABASE name a file")


def test_no_further_file_may_be_opened(tmp_path: Path) -> None:
    """SQLite says of it what it says of a folder that is away."""
    database = enrolled(tmp_path / "gallery.db")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
        try:
            assert_same_advice(database, "may not open more files", "ulimit -n")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert examined(database).state is State.WELL
