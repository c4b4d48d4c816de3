from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from feature_extraction.weights import graph, store
from shared.errors import WeightsError
from shared.models import find_card, weights_folder


def test_a_batch_equals_the_published_network_one_by_one(deepface_home: Path) -> None:
    folder = weights_folder(deepface_home)
    converted = store.ensure(find_card("sface"), "onnx", folder).path
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    published = onnxruntime.InferenceSession(str(folder / store.PACKAGED["sface"].source.name), options)
    ours = onnxruntime.InferenceSession(str(converted), options)
    crops = np.random.default_rng(3).uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
    expected = np.concatenate([published.run(None, {"data": crop[None]})[0] for crop in crops])
    np.testing.assert_allclose(ours.run(None, {"data": crops})[0], expected, atol=1e-5)


def test_weights_are_no_inputs(deepface_home: Path) -> None:
    path = store.ensure(find_card("sface"), "onnx", weights_folder(deepface_home)).path
    assert [value.name for value in onnx.load(str(path)).graph.input] == ["data"]


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "sface.onnx").write_bytes(b"not a graph")
    with pytest.raises(WeightsError, match="is damaged"):
        graph.free_batch(tmp_path / "sface.onnx", tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()
