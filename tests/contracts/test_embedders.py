"""What every engine must do, and that all of them give the same embeddings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from feature_extraction.embedder import Embedder, open_embedder
from feature_extraction.weights import deepface_files, store
from feature_extraction.weights.graph import Graph
from shared.errors import EngineUnavailable, SettingsError, WeightsError
from shared.models import CATALOGUE, Combination, ModelCard, find_card, weights_folder
from shared.settings import ExtractionSettings

pytestmark = pytest.mark.slow

COMBINATIONS = [name for name, card in CATALOGUE.items() if isinstance(card, Combination)]
ENGINES = ("onnx", "tensorflow", "pytorch")
COUNT = 24

Crops = NDArray[np.uint8]


def crops_for(card: ModelCard, count: int = COUNT) -> Crops:
    """Crops of a real photo: the face of its person, and what is around it."""
    photo = data.astronaut()[..., ::-1]
    alignment = card.alignment
    corners = np.random.default_rng(7).integers([0, 120], [120, 260], (count, 2))
    found = np.zeros((count, alignment.height, alignment.width, 3), np.uint8)
    for crops in alignment.split(found):
        for crop, (y, x) in zip(crops, corners, strict=True):
            crop[...] = cv2.resize(photo[y : y + 180, x : x + 180], (crop.shape[1], crop.shape[0]))
    return found


def settings(home: Path, **values: Any) -> ExtractionSettings:
    return ExtractionSettings(deepface_home=home, **values)


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / lengths


_opened: dict[tuple[str, str], Embedder] = {}


def opened(model: str, engine: str, home: Path) -> Embedder:
    """Every combination is loaded once in a test run."""
    if (model, engine) not in _opened:
        _opened[model, engine] = open_embedder(settings(home, model=model, engine=engine))
    return _opened[model, engine]


@pytest.fixture(
    params=[
        pytest.param(("facenet", "onnx"), id="facenet-onnx"),
        pytest.param(("facenet", "tensorflow"), id="facenet-tensorflow", marks=pytest.mark.slow),
        pytest.param(("facenet", "pytorch"), id="facenet-pytorch", marks=pytest.mark.slow),
        pytest.param(("sface", "onnx"), id="sface-onnx"),
        pytest.param(("dlib", "onnx"), id="dlib-onnx"),
        *(pytest.param((name, "onnx"), id=f"{name}-onnx") for name in COMBINATIONS),
    ]
)
def embedder(request: pytest.FixtureRequest, deepface_home: Path) -> Iterator[Embedder]:
    model, engine = request.param
    yield opened(model, engine, deepface_home)


def test_says_what_it_is(embedder: Embedder) -> None:
    assert embedder.engine in ENGINES
    assert embedder.device == "cpu"
    sources = [store.PACKAGED[network.name].source for network in embedder.card.networks]
    assert embedder.revision == "+".join(source.sha256[:12] for source in sources)


def test_a_batch_equals_one_by_one(embedder: Embedder) -> None:
    crops = crops_for(embedder.card, 5)
    together = embedder.embed(crops)
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops])
    assert together.shape == (5, embedder.card.dimensions) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert not np.allclose(together[0], together[1], atol=1e-2)


def test_no_crops_give_no_embeddings(embedder: Embedder) -> None:
    found = embedder.embed(crops_for(embedder.card, 1)[:0])
    assert found.shape == (0, embedder.card.dimensions) and found.dtype == np.float32


def test_other_shapes_and_types_are_refused(embedder: Embedder) -> None:
    crops = crops_for(embedder.card, 2)
    for wrong in (crops[0], crops[:, 1:], crops[..., :2], crops.astype(np.float32), crops[:0, 1:]):
        with pytest.raises(ValueError, match="crops must be uint8 of shape"):
            embedder.embed(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
def test_engines_agree_on_facenet(engine: str, deepface_home: Path) -> None:
    crops = crops_for(find_card("facenet"))
    expected = opened("facenet", "onnx", deepface_home).embed(crops)
    found = opened("facenet", engine, deepface_home).embed(crops)
    assert cosines(expected, found).min() >= 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_is_made_of_what_its_networks_give_alone(name: str, deepface_home: Path) -> None:
    embedder = opened(name, "onnx", deepface_home)
    card = embedder.card
    assert isinstance(card, Combination)
    sheets = crops_for(card, 6)
    expected = []
    for part, crops in zip(card.parts, card.alignment.split(sheets), strict=True):
        alone = opened(part.card.name, "onnx", deepface_home)
        unit = _unit(alone.embed(crops))
        if card.mirrored:
            unit = _unit(unit + _unit(alone.embed(np.ascontiguousarray(crops[:, :, ::-1]))))
        expected.append(part.weight * unit)
    found = embedder.embed(sheets)
    np.testing.assert_allclose(found, _unit(np.concatenate(expected, axis=1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_only_a_mirrored_combination_makes_no_difference_between_a_face_and_its_mirror_image(
    deepface_home: Path,
) -> None:
    for name in COMBINATIONS:
        embedder = opened(name, "onnx", deepface_home)
        sheets = crops_for(embedder.card, 3)
        mirrored = np.zeros_like(sheets)
        alignment = embedder.card.alignment
        for one, other in zip(alignment.split(sheets), alignment.split(mirrored), strict=True):
            other[...] = one[:, :, ::-1]
        alike = np.allclose(embedder.embed(sheets), embedder.embed(mirrored), atol=1e-5)
        assert alike is (name == "best")


def test_eight_bits_count_in_a_combination(deepface_home: Path) -> None:
    exact = opened("facenet+sface", "onnx", deepface_home)
    small = open_embedder(settings(deepface_home, model="facenet+sface", precision="int8"))
    assert [part.weights.precision for part in small.parts] == ["int8", "fp32"]
    assert "-int8-" in small.revision and small.revision != exact.revision
    crops = crops_for(exact.card, 4)
    expected, found = exact.embed(crops), small.embed(crops)
    assert 0.99 < cosines(expected, found).min() < 1 - 1e-6
    with pytest.raises(EngineUnavailable, match="PRECISION=int8 does not exist for MODEL=sface.dlib"):
        open_embedder(settings(deepface_home, model="sface+dlib", precision="int8"))


def test_dlib_equals_dlib(deepface_home: Path) -> None:
    dlib = pytest.importorskip("dlib")
    embedder = opened("dlib", "onnx", deepface_home)
    source = weights_folder(deepface_home) / store.PACKAGED["dlib"].source.name
    reference = dlib.face_recognition_model_v1(str(source))
    crops = crops_for(embedder.card, 8)
    expected = np.array([reference.compute_face_descriptor(np.ascontiguousarray(crop[..., ::-1])) for crop in crops])
    np.testing.assert_allclose(embedder.embed(crops), expected, atol=1e-5)


def test_sface_equals_opencv(deepface_home: Path) -> None:
    embedder = opened("sface", "onnx", deepface_home)
    source = weights_folder(deepface_home) / store.PACKAGED["sface"].source.name
    reference = cv2.FaceRecognizerSF.create(str(source), "")
    crops = crops_for(embedder.card, 4)
    expected = np.concatenate([reference.feature(crop) for crop in crops])
    assert cosines(embedder.embed(crops), expected).min() >= 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
@pytest.mark.parametrize("model", ["sface", "dlib", "sface+dlib"])
def test_models_of_onnx_only(model: str, engine: str, deepface_home: Path) -> None:
    message = f"MODEL={model.partition('+')[0]} does not exist for ENGINE={engine}; use ENGINE=onnx"
    with pytest.raises(EngineUnavailable, match=message):
        open_embedder(settings(deepface_home, model=model, engine=engine))


def put_linear_vgg_face(folder: Path) -> NDArray[np.float32]:
    """A stand-in of VGG-Face's shape: the mean colour times a random (3, 4096) matrix, which is returned."""
    matrix = np.random.default_rng(5).normal(size=(3, 4096)).astype(np.float32)
    graph = Graph()
    mean = graph.node("GlobalAveragePool", graph.channels_first("input"))
    output = graph.dense(graph.node("Flatten", mean, axis=1), matrix)
    folder.mkdir(parents=True)
    graph.save(folder / "vgg_face_weights.onnx", "vgg-face", output, (224, 224, 3), 4096)
    return matrix


def test_vgg_face(tmp_path: Path) -> None:
    matrix = put_linear_vgg_face(weights_folder(tmp_path))
    embedder = open_embedder(settings(tmp_path, model="vgg-face"))
    crops = crops_for(embedder.card, 3)
    found = embedder.embed(crops)
    raw = (crops.astype(np.float64) / 255).mean(axis=(1, 2)) @ matrix  # BGR in [0, 1]
    assert found.shape == (3, 4096)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_a_network_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path)
    put_linear_vgg_face(folder)
    (folder / "vgg_face_weights.onnx").rename(folder / "arcface_weights.onnx")
    with pytest.raises(WeightsError, match="is not a network for MODEL=arcface"):
        open_embedder(settings(tmp_path, model="arcface"))


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path)
    put_linear_vgg_face(folder)
    path = folder / "vgg_face_weights.onnx"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(WeightsError, match="is damaged"):
        open_embedder(settings(tmp_path, model="vgg-face"))


def put_random_deepid(engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepFace's own (small) DeepID network with random weights: stored in its folder, and returned."""
    folder.mkdir(parents=True)
    card = find_card("deepid")
    module, _ = deepface_files.model_class(card, engine)
    path = folder / deepface_files.file_name(card, engine)
    if engine == "pytorch":
        import torch

        torch.manual_seed(3)
        model = module.DeepIdNet().eval()
        torch.save(model.state_dict(), path)
        return lambda batch: model(torch.from_numpy(batch).permute(0, 3, 1, 2)).detach().numpy()
    with monkeypatch.context() as patch:
        patch.setattr(module.weight_utils, "download_weights_if_necessary", lambda **_: "")
        patch.setattr(module.weight_utils, "load_model_weights", lambda model, weight_file: model)
        model = module.load_model()
    model.save(path)
    return lambda batch: model([batch], training=False).numpy()


# DeepFace writes its Keras layers in a way that Keras 3 advises against, and Keras's HDF5 writer is behind NumPy 2.
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
def test_deepface_own_files(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = put_random_deepid(engine, weights_folder(tmp_path), monkeypatch)
    embedder = open_embedder(settings(tmp_path, model="deepid", engine=engine))
    crops = crops_for(embedder.card, 3)
    assert crops.shape[1:] == (55, 47, 3)
    np.testing.assert_allclose(embedder.embed(crops), reference(crops.astype(np.float32) / 255), atol=1e-5)
    path = weights_folder(tmp_path) / deepface_files.file_name(embedder.card, engine)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="is damaged"):
        open_embedder(settings(tmp_path, model="deepid", engine=engine))


def has_gpu(engine: str) -> bool:
    if engine == "onnx":
        import onnxruntime

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if engine == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    import torch

    return bool(torch.cuda.is_available())


@pytest.mark.parametrize(
    "engine", ["onnx", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("tensorflow", "pytorch"))]
)
def test_a_gpu_that_is_not_there_is_an_error(engine: str, deepface_home: Path) -> None:
    if has_gpu(engine):
        pytest.skip("there is a GPU")
    with pytest.raises(EngineUnavailable, match="EXECUTION_PROVIDERS asks for cuda"):
        open_embedder(settings(deepface_home, engine=engine, execution_providers="cuda,cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
def test_tensorrt_is_for_onnx(engine: str, deepface_home: Path) -> None:
    with pytest.raises(EngineUnavailable, match="does not run on tensorrt"):
        open_embedder(settings(deepface_home, engine=engine, execution_providers="tensorrt"))


@pytest.mark.parametrize("providers", ["npu", ",", "cpu,quantum"])
def test_unknown_devices_are_refused(providers: str, deepface_home: Path) -> None:
    with pytest.raises(SettingsError, match="EXECUTION_PROVIDERS"):
        open_embedder(settings(deepface_home, execution_providers=providers))


@pytest.mark.parametrize(
    ("engine", "package", "command"),
    [
        ("onnx", "onnxruntime", "pip install -r requirements.txt"),
        ("tensorflow", "tensorflow", "pip install -r requirements-tensorflow.txt"),
        ("pytorch", "torch", "pip install -r requirements-pytorch.txt"),
    ],
)
def test_an_absent_package_is_named_with_its_command(
    engine: str, package: str, command: str, deepface_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailable) as caught:
        open_embedder(settings(deepface_home, engine=engine))
    assert package in caught.value.message and command in caught.value.message
