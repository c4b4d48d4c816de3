from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_extraction.weights import facenet_h5, store
from shared.errors import WeightsError
from shared.models import find_card, weights_folder


@pytest.fixture(scope="session")
def source(deepface_home: Path) -> Path:
    return store.ensure(find_card("facenet"), "tensorflow", weights_folder(deepface_home)).path


def test_read_layers(source: Path) -> None:
    layers = facenet_h5.read_layers(source)
    assert len(layers) == 245
    assert layers["Conv2d_1a_3x3"]["kernel"].shape == (3, 3, 3, 32)
    assert set(layers["Bottleneck_BatchNorm"].arrays) == {"beta", "moving_mean", "moving_variance"}


def test_keras_names() -> None:
    known = frozenset({"Block17_4_Branch_4_Conv2d_0a_1x1", "Block17_1_Branch_1_Conv2d_0a_1x1", "Bottleneck"})
    assert facenet_h5.keras_name("Block17_4_Branch_1_Conv2d_0a_1x1", known) == "Block17_4_Branch_4_Conv2d_0a_1x1"
    assert facenet_h5.keras_name("Block17_1_Branch_1_Conv2d_0a_1x1", known) == "Block17_1_Branch_1_Conv2d_0a_1x1"
    assert facenet_h5.keras_name("Bottleneck", known) == "Bottleneck"
    with pytest.raises(WeightsError, match="no layer for Logits"):
        facenet_h5.keras_name("Logits", known)


def test_torch_state_has_every_array(source: Path) -> None:
    layers = facenet_h5.read_layers(source)
    state = facenet_h5.torch_state(layers)
    arrays = sum(len(layer.arrays) for layer in layers.values())
    normalisations = sum(name.endswith("_BatchNorm") for name in layers)
    assert len(state) == arrays + normalisations  # PyTorch wants a scale, which is 1
    assert state["block17.3.branch_1.2.conv.weight"].shape == (128, 128, 7, 1)
    assert state["mixed_7a.branch_2.2.conv.weight"].shape == (256, 256, 3, 3)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "facenet.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        facenet_h5.convert(path, tmp_path / "facenet.onnx")


def test_a_truncated_file(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "facenet.h5"
    path.write_bytes(source.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match="is damaged"):
        facenet_h5.convert(path, tmp_path / "facenet.onnx")


def test_a_file_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "facenet.h5"
    with h5py.File(path, "w") as file:
        file["model_weights/dense/dense/kernel:0"] = np.zeros((2, 2), np.float32)
    with pytest.raises(WeightsError, match="is not a FaceNet weight file"):
        facenet_h5.convert(path, tmp_path / "facenet.onnx")
    assert not (tmp_path / "facenet.onnx").exists()
