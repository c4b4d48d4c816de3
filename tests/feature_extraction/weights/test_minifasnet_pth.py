import io
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from feature_extraction.engines.onnx import load_network
from feature_extraction.weights import minifasnet_pth, store
from feature_extraction.weights.minifasnet_pth import DamagedError, read_tensors
from shared.errors import WeightsError
from shared.models import weights_folder
from shared.settings import ExtractionSettings

Tensors = dict[str, torch.Tensor]

CONVOLUTIONS = {"2.7_80x80_MiniFASNetV2": 49, "4_0_0_80x80_MiniFASNetV1SE": 55}
BOTTLENECKS = {"conv_3": 4, "conv_4": 6, "conv_5": 2}


@pytest.fixture(scope="session")
def folder(deepface_home: Path) -> Path:
    folder = weights_folder(deepface_home)
    store.ensure_liveness(folder)
    return folder


@pytest.fixture(params=store.MINIFASNET, ids=lambda packaged: packaged.converted)
def source(request: pytest.FixtureRequest, folder: Path) -> Path:
    path = folder / request.param.source.name
    if not path.exists():
        pytest.skip("only the converted file is there")
    return path


class Reference:
    """The network as its authors describe it, in PyTorch's own operators and on the tensors that PyTorch reads."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        self.convolutions = 0

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            self.tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias)

    def conv(self, x: torch.Tensor, name: str, norm: str, **options: int) -> torch.Tensor:
        self.convolutions += 1
        return self.norm(functional.conv2d(x, self.tensors[f"{name}.weight"], **options), norm)

    def block(self, x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return functional.prelu(
            self.conv(x, f"{name}.conv", f"{name}.bn", **options), self.tensors[f"{name}.prelu.weight"]
        )

    def bottleneck(self, x: torch.Tensor, name: str, stride: int, weighed: bool = False) -> torch.Tensor:
        x = self.block(x, f"{name}.conv")
        x = self.block(x, f"{name}.conv_dw", stride=stride, padding=1, groups=x.shape[1])
        x = self.conv(x, f"{name}.project.conv", f"{name}.project.bn")
        if weighed:
            means = x.mean((2, 3), keepdim=True)
            narrow = torch.relu(self.conv(means, f"{name}.se_module.fc1", f"{name}.se_module.bn1"))
            x = x * torch.sigmoid(self.conv(narrow, f"{name}.se_module.fc2", f"{name}.se_module.bn2"))
        return x

    def __call__(self, x: torch.Tensor, squeeze: bool) -> torch.Tensor:
        x = self.block(x, "conv1", stride=2, padding=1)
        x = self.block(x, "conv2_dw", padding=1, groups=x.shape[1])
        for (group, count), halving in zip(BOTTLENECKS.items(), ("conv_23", "conv_34", "conv_45"), strict=True):
            x = self.bottleneck(x, halving, stride=2)
            for number in range(count):  # the last one of a group weighs its channels
                weighed = squeeze and number == count - 1
                x = x + self.bottleneck(x, f"{group}.model.{number}", stride=1, weighed=weighed)
        x = self.block(x, "conv_6_sep")
        x = self.conv(x, "conv_6_dw.conv", "conv_6_dw.bn", groups=x.shape[1])
        x = self.norm(functional.linear(x.flatten(1), self.tensors["linear.weight"]), "bn")
        return functional.softmax(functional.linear(x, self.tensors["prob.weight"]), dim=1)


def test_equals_the_network_in_pytorch(source: Path, photos: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (3, 80, 80, 3)).astype(np.float32)
    noise = np.stack([cv2.GaussianBlur(one, (0, 0), 2 * number + 1) for number, one in enumerate(noise)])
    photo = cv2.imread(str(photos / "obama.jpg"))
    crops = [photo[80:420, 330:670], photo[:, ::-1], photo[200:260, 400:460], photo // 3]
    batch = np.concatenate([noise, np.stack([cv2.resize(crop, (80, 80)) for crop in crops]).astype(np.float32)])
    reference = Reference(torch.load(source, map_location="cpu", weights_only=True))
    expected = reference(torch.from_numpy(batch).permute(0, 3, 1, 2), squeeze="SE" in source.stem).numpy()
    minifasnet_pth.convert(source, tmp_path / "net.onnx")
    network = load_network("test", tmp_path / "net.onnx", (80, 80), 3, ["cpu"], ExtractionSettings())
    np.testing.assert_allclose(network.run(batch), expected, atol=1e-5)
    assert np.ptp(expected[:, 1]) > 0.5  # they are not all the same to it
    assert reference.convolutions == CONVOLUTIONS[source.stem]


def test_reads_what_pytorch_reads(source: Path) -> None:
    tensors = read_tensors(source.read_bytes())
    expected = torch.load(source, map_location="cpu", weights_only=True)
    assert {f"module.{name}" for name in tensors} == set(expected)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, expected[f"module.{name}"].numpy())


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)


def in_pieces(*pieces: object, tail: bytes = b"") -> bytes:
    return b"".join(pickle.dumps(piece, protocol=2) for piece in pieces) + tail


HEAD = (minifasnet_pth._MAGIC, 1001, {"little_endian": True})


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamagedError, match="it names"):
        read_tensors(in_pieces(*HEAD, Harmful(), []))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a network",
        in_pieces(1, 1001, {"little_endian": True}, {}, []),
        in_pieces(minifasnet_pth._MAGIC, 1002, {"little_endian": True}, {}, []),
        in_pieces(minifasnet_pth._MAGIC, 1001, {"little_endian": False}, {}, []),
        in_pieces(*HEAD, [1, 2], []),
        in_pieces(*HEAD, {"conv1": 3}, []),
        in_pieces(*HEAD, {}, ["1"], tail=struct.pack("<q", 1)),
    ],
    ids=["empty", "text", "magic", "version", "big-endian", "list", "no tensor", "no storage"],
)
def test_what_is_no_such_file(data: bytes) -> None:
    with pytest.raises(DamagedError):
        read_tensors(data)


def saved(tensors: Tensors) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_tensors_that_share_their_numbers() -> None:
    numbers = torch.arange(12, dtype=torch.float32)
    tensors = read_tensors(saved({"all": numbers.reshape(3, 4), "rest": numbers[5:]}))
    np.testing.assert_array_equal(tensors["all"], np.arange(12, dtype=np.float32).reshape(3, 4))
    np.testing.assert_array_equal(tensors["rest"], np.arange(5, 12, dtype=np.float32))
    with pytest.raises(DamagedError, match="in one piece"):
        read_tensors(saved({"turned": numbers.reshape(3, 4).T}))


SMALL = saved({"a": torch.ones(2, 3), "b": torch.zeros(1, dtype=torch.int64)})


@given(position=st.integers(0, len(SMALL) - 1), value=st.integers(0, 255))
def test_a_wrong_byte_is_read_or_refused(position: int, value: int) -> None:
    damaged = bytearray(SMALL)
    damaged[position] = value
    try:
        read_tensors(bytes(damaged))
    except DamagedError:
        pass


@given(st.integers(0, len(SMALL) - 1))
def test_a_file_that_ends_early(length: int) -> None:
    with pytest.raises(DamagedError):
        read_tensors(SMALL[:length])


def test_tensors_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(SMALL)
    with pytest.raises(WeightsError, match="is damaged or is not a MiniFASNet: its tensor conv1"):
        minifasnet_pth.convert(path, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("change", ["a bottleneck is missing", "more classes", "another type"])
def test_a_network_that_lacks_something(
    change: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = read_tensors((folder / store.MINIFASNET[0].source.name).read_bytes())
    if change == "a bottleneck is missing":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("conv_4.model.2.")}
    elif change == "more classes":
        tensors["prob.weight"] = np.zeros((4, 128), np.float32)
    else:
        tensors["linear.weight"] = tensors["linear.weight"].astype(np.float64)
    monkeypatch.setattr(minifasnet_pth, "read_tensors", lambda data: tensors)
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(WeightsError):
        minifasnet_pth.convert(tmp_path / "net.pth", tmp_path / "net.onnx")
