from pathlib import Path

import numpy as np
import pytest

from feature_extraction.weights import dlib_graph
from feature_extraction.weights.dlib_dat import Step, Window
from shared.errors import WeightsError


def convolution(channels_in: int, channels_out: int, size: int, stride: int) -> list[Step]:
    shape = (channels_out, channels_in, size, size)
    parameters = np.zeros(int(np.prod(shape)) + channels_out, np.float32)
    affine = Step("affine_", np.ones(2 * channels_out, np.float32), (1, channels_out, 1, 1))
    return [Step("con_4", parameters, shape, Window(size, size, stride, (0, 0))), affine]


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match="is damaged or is not dlib's face recognition network"):
        dlib_graph.convert(path, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(
    "steps",
    [
        [],
        convolution(3, 128, 7, 2),
        convolution(4, 8, 3, 1),
        convolution(3, 8, 3, 1)[:1],
        convolution(3, 8, 3, 1)[1:],
        [Step("fc_2", np.zeros(256, np.float32), (2, 128))],
        [Step("max_pool_2", window=Window(3, 3, 2, (1, 1)))],
        [Step("max_pool_2")],
    ],
    ids=["empty", "no embedding", "other channels", "no affine", "only affine", "other inputs", "padded", "no window"],
)
def test_steps_that_make_no_network(steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.dat").write_bytes(b"")
    monkeypatch.setattr(dlib_graph, "read_network", lambda _: steps)
    with pytest.raises(WeightsError):
        dlib_graph.convert(tmp_path / "net.dat", tmp_path / "net.onnx")
