import os
from pathlib import Path
from typing import Any

import pytest
from deepface.commons import weight_utils

from feature_extraction.weights import deepface_files, store
from shared.errors import EngineUnavailable, WeightsError
from shared.models import CATALOGUE, find_card

NETWORKS = [network for card in CATALOGUE.values() for network in card.networks]
VGG_FACE = find_card("vgg-face")


def test_names_are_those_of_deepface() -> None:
    for card in NETWORKS:
        if card.name in store.PACKAGED:
            continue
        module, _ = deepface_files.model_class(card, "onnx")
        source = Path(str(module.__file__)).read_text()
        assert f'file_name="{deepface_files.file_name(card, "onnx")}"' in source


def test_every_model_of_the_catalogue_has_a_source() -> None:
    for card in NETWORKS:
        assert card.name in store.PACKAGED or deepface_files.file_name(card, "onnx")
    with pytest.raises(EngineUnavailable, match="MODEL=dlib does not exist for ENGINE=tensorflow"):
        deepface_files.file_name(find_card("dlib"), "tensorflow")


def test_a_file_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "vgg_face_weights.onnx").write_bytes(b"weights")
    weights = store.ensure(VGG_FACE, "onnx", tmp_path)
    assert weights.path == tmp_path / "vgg_face_weights.onnx"
    assert len(weights.revision) == 12


def test_a_download_ends_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, output: str, quiet: bool) -> None:
        assert url.endswith("/vgg_face_weights.onnx")
        Path(output).write_bytes(b"weights")

    monkeypatch.setattr(weight_utils, "ensure_source_is_reachable", lambda url: None)
    monkeypatch.setattr(weight_utils.gdown, "download", download)
    monkeypatch.setenv("DEEPFACE_HOME", "elsewhere")
    weights = store.ensure(VGG_FACE, "onnx", tmp_path / "new")
    assert weights.path.read_bytes() == b"weights"
    assert {path.name for path in weights.path.parent.iterdir()} == {"vgg_face_weights.onnx", ".fetch.lock"}
    assert os.environ["DEEPFACE_HOME"] == "elsewhere"


def test_no_network_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(url: str, output: str, **_: Any) -> None:
        Path(f"{output}abc.part").write_bytes(b"half")
        raise OSError("connection reset")

    monkeypatch.setattr(weight_utils, "ensure_source_is_reachable", lambda url: None)
    monkeypatch.setattr(weight_utils.gdown, "download", download)
    with pytest.raises(WeightsError) as caught:
        store.ensure(VGG_FACE, "onnx", tmp_path)
    message = caught.value.message
    assert "\n" not in message and "vgg_face_weights.onnx" in message and str(tmp_path) in message
    assert [path.name for path in tmp_path.iterdir()] == [".fetch.lock"]
    assert capsys.readouterr() == ("", "")
