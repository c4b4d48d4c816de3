"""FaceNet with 8-bit integers against the same in 32 bits, on real photos."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import int8_ranges
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from feature_extraction.embedder import Embedder, open_embedder
from feature_extraction.engines import onnx as engine
from feature_extraction.weights import store
from shared.errors import EngineUnavailable, WeightsError
from shared.images import ImageDecoder, Preview
from shared.models import find_card, weights_folder
from shared.settings import ExtractionSettings, FrontSettings
from tests.contracts.test_embedders import cosines

FACENET = find_card("facenet")


@pytest.fixture(scope="module")
def int8(extraction_settings: ExtractionSettings) -> Embedder:
    return open_embedder(extraction_settings.model_copy(update={"precision": "int8"}))


@pytest.fixture(scope="module")
def crops(photos: Path, detector_home: Path) -> NDArray[np.uint8]:
    """Faces of two people, several pictures of the first."""
    settings = FrontSettings(deepface_home=detector_home)
    decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
    detector = YuNet(settings)
    found = []
    for name in ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg"):
        picture = Preview.full(decoder.decode((photos / name).read_bytes()))
        found.append(cut_out(picture, detector.detect(picture)[:1], FACENET.alignment))
    return np.concatenate(found)


def test_embeddings_are_near_those_in_32_bits(int8: Embedder, facenet: Embedder, crops: NDArray[np.uint8]) -> None:
    precise, rounded = facenet.embed(crops), int8.embed(crops)
    found = cosines(precise, rounded)
    assert found.min() >= 0.995
    assert found.max() < 0.99999, "this is the network in 32 bits"
    np.testing.assert_allclose(cosines(rounded[:-1], rounded[1:]), cosines(precise[:-1], precise[1:]), atol=0.02)


def test_a_batch_equals_one_by_one(int8: Embedder, crops: NDArray[np.uint8]) -> None:
    alone = np.concatenate([int8.embed(crop[None]) for crop in crops])
    np.testing.assert_allclose(int8.embed(crops), alone, atol=2e-5)


def test_the_embedding_space_is_another(int8: Embedder, facenet: Embedder) -> None:
    assert int8.revision.startswith(f"{facenet.revision}-int8-")
    assert int8.card.space(int8.revision) != facenet.card.space(facenet.revision)


def test_the_file_is_a_quarter_as_large(int8: Embedder, facenet: Embedder, deepface_home: Path) -> None:
    folder = weights_folder(deepface_home)
    small = store.ensure(FACENET, "onnx", folder, precision="int8").path
    assert small.stat().st_size < 0.27 * store.ensure(FACENET, "onnx", folder).path.stat().st_size


@pytest.mark.slow
def test_a_damaged_file_is_made_again(int8: Embedder, deepface_home: Path, tmp_path: Path) -> None:
    (tmp_path / "facenet_weights.h5").symlink_to(weights_folder(deepface_home) / "facenet_weights.h5")
    path = store.ensure(FACENET, "onnx", tmp_path, precision="int8").path
    intact = path.read_bytes()
    path.write_bytes(intact[:-1])
    assert store.ensure(FACENET, "onnx", tmp_path, precision="int8").path.read_bytes() == intact
    names = {"facenet_weights.h5", path.name, store.origin_file(path).name, ".fetch.lock"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_measured_ranges_are_what_onnx_runtime_reads(tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import CalibrationMethod, load_tensors_data

    int8_ranges.save({"relu_3": (0.0, 2.5), "conv_1": (-1.25, 1e-7)}, tmp_path / "ranges.json")
    ranges = load_tensors_data(tmp_path / "ranges.json")
    assert ranges.calibration_method is CalibrationMethod.Percentile
    assert ranges["conv_1"].range_value == (np.float32(-1.25), np.float32(1e-7))
    assert ranges["relu_3"].range_value == (0, 2.5)


def test_a_source_that_is_no_facenet(tmp_path: Path) -> None:
    (tmp_path / "facenet.h5").write_bytes(b"not HDF5")
    with pytest.raises(WeightsError, match="is damaged"):
        store.INT8["facenet"].convert(tmp_path / "facenet.h5", tmp_path / "facenet.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["facenet.h5"]


@pytest.mark.parametrize(
    ("model", "runtime"), [("sface", "onnx"), ("arcface", "onnx"), ("facenet", "tensorflow"), ("facenet", "pytorch")]
)
def test_other_models_and_engines_are_refused(model: str, runtime: str, tmp_path: Path) -> None:
    settings = ExtractionSettings(deepface_home=tmp_path, model=model, engine=runtime, precision="int8")
    with pytest.raises(EngineUnavailable, match=f"int8 does not exist for MODEL={model} with ENGINE={runtime};"):
        open_embedder(settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("providers", ["cuda", "cpu,cuda", "tensorrt"])
def test_gpus_are_refused(providers: str, extraction_settings: ExtractionSettings) -> None:
    settings = extraction_settings.model_copy(update={"precision": "int8", "execution_providers": providers})
    with pytest.raises(EngineUnavailable, match="PRECISION=int8 is for the CPU"):
        open_embedder(settings)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2 fma", False), ("fpu avx512f avx512_vnni", True), ("fpu avx2 avx_vnni", True), (None, False)],
)
def test_vnni_is_read_from_the_flags_of_the_cpu(flags: str | None, expected: bool, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbogomips\t: 5200.00\n")
    assert engine._has_vnni(cpuinfo) is expected


@pytest.mark.parametrize("vnni", [True, False])
def test_without_vnni_sums_are_exact_and_a_line_says_so(
    vnni: bool,
    extraction_settings: ExtractionSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import onnxruntime

    monkeypatch.setattr(engine, "_has_vnni", lambda: vnni)
    caplog.set_level(logging.WARNING)
    options = engine._session_options(onnxruntime, extraction_settings.model_copy(update={"precision": "int8"}))
    if vnni:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert ("no VNNI" in caplog.text) is not vnni
