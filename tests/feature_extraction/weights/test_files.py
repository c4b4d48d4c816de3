import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pytest

from feature_extraction.weights.files import LOCK_FILE, locked, replacing, scratch_folder, sha256_of
from shared.errors import WeightsError


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"weights").hexdigest()


def test_replacing_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_leaves_nothing_behind_after_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_is_removed_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch_folder(tmp_path) as scratch:
        (scratch / "partial").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_locked_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []

    def work(number: int) -> None:
        with locked(tmp_path / "new"):
            inside.append(number)
            sleep(0.02)
            assert inside == [number]
            inside.clear()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (tmp_path / "new" / LOCK_FILE).exists()


def test_locked_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".fetch-abc" / "archive").mkdir(parents=True)
    (tmp_path / ".net.onnx.xyz.part").write_text("half")
    (tmp_path / "other.part").write_text("not ours")
    with locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {LOCK_FILE, "other.part"}


def test_locked_says_that_a_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "weights"
    with pytest.raises(WeightsError, match="Cannot write to the weights folder"), locked(folder):
        pass
