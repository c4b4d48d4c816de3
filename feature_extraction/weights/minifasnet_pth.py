"""MiniFASNet, a liveness network: read from its authors' ``.pth`` file, and written as an ONNX graph.

The networks are MobileFaceNets of narrow bottlenecks by Minivision (Silent-Face-Anti-Spoofing, 2020) for pictures of
80 x 80 pixels. How many bottlenecks there are, how wide they are, and which of them weigh their channels
("squeeze-and-excitation", Hu et al., CVPR 2018) is told by the tensors.

PyTorch's first file format is a row of pickles (a magic number, the format's version, the machine that wrote it, the
tensors, the keys of their storages) and then the storages' numbers. Nothing else than tensors is ever unpickled.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from feature_extraction.weights.graph import INPUT, Array, Graph
from shared.errors import WeightsError
from shared.models import MINIFASNET

CLASSES = 3
"""Of which the second is a real face."""

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001

_EPSILON = 1e-5
"""Of PyTorch's batch normalisation."""

Tensors = dict[str, NDArray[Any]]


class DamagedError(ValueError):
    """The bytes are not what PyTorch writes for this network."""


@dataclass(frozen=True)
class _Storage:
    """Numbers that follow behind the pickles."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor: all the numbers of a shape from a place in a storage on."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        count = int(np.prod(self.shape, dtype=np.int64))
        if not 0 <= self.offset <= len(numbers) - count:
            raise DamagedError("a tensor beyond its numbers")
        return numbers[self.offset : self.offset + count].reshape(self.shape)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _View:
    """What ``torch._utils._rebuild_tensor_v2`` stands for."""
    if not isinstance(storage, _Storage) or not all(isinstance(one, int) and 0 <= one < 1 << 24 for one in shape):
        raise DamagedError("a malformed tensor")
    steps = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    if list(strides) != steps or not isinstance(offset, int):
        raise DamagedError("a tensor that does not lie in one piece")
    return _View(storage, offset, tuple(shape))


class _Unpickler(pickle.Unpickler):
    """Reads tensors, numbers, strings and what holds them; everything else is refused."""

    _KNOWN = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _view,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise DamagedError(f"it names {module}.{name}")
        return self._KNOWN[module, name]

    @override
    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(count, int) or view is not None:
            raise DamagedError("a malformed storage")
        return _Storage(str(key), dtype, count)


def read_tensors(data: bytes) -> Tensors:
    """The tensors of a ``.pth`` file by their names.

    Raises:
        DamagedError: it is no such file, or holds something else than tensors.
    """
    stream = io.BytesIO(data)
    try:
        if [_load(stream), _load(stream)] != [_MAGIC, _VERSION] or not _load(stream)["little_endian"]:
            raise DamagedError("it is not in PyTorch's first format")
        views, keys = _load(stream), _load(stream)
        storages = {view.storage.key: view.storage for view in views.values()}
        numbers = {key: _numbers(stream, storages[key]) for key in keys}
        return {name.removeprefix("module."): view.of(numbers[view.storage.key]) for name, view in views.items()}
    except DamagedError:
        raise
    except Exception as error:  # what a pickle makes of wrong bytes is any of a dozen kinds
        raise DamagedError(f"it cannot be read ({type(error).__name__})") from error


def _load(stream: io.BytesIO) -> Any:
    return _Unpickler(stream).load()


def _numbers(stream: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    (count,) = struct.unpack("<q", stream.read(8))
    data = stream.read(storage.dtype.itemsize * storage.count)
    if count != storage.count or len(data) != storage.dtype.itemsize * count:
        raise DamagedError("it ends early")
    return np.frombuffer(data, storage.dtype)


def convert(source: Path, target: Path) -> None:
    """Write a network as ONNX.

    Input: (n, 80, 80, 3) float32 BGR, 0 to 255. Output: (n, 3), the probabilities of ``CLASSES``. Batch normalisation
    is folded into the convolutions, and the layers behind the last one into a single matrix.

    Raises:
        WeightsError: the source is damaged or holds another network.
    """
    try:
        network = _Network(read_tensors(source.read_bytes()))
    except DamagedError as error:
        raise WeightsError(f"{source} is damaged or is not a MiniFASNet: {error}.") from error
    size = (MINIFASNET.size, MINIFASNET.size, 3)
    network.graph.save(target, "minifasnet", network.output, size, CLASSES, output_name="probabilities")


class _Network:
    """Appends the layers to a graph, from the input to the probabilities."""

    def __init__(self, tensors: Tensors) -> None:
        self.graph = Graph()
        self._tensors = tensors
        value = self._activated(self.graph.channels_first(INPUT), "conv1", stride=2)
        value = self._activated(value, "conv2_dw")
        for halving, group in (("conv_23", "conv_3"), ("conv_34", "conv_4"), ("conv_45", "conv_5")):
            value = self._bottleneck(value, halving, stride=2)
            for block in self._blocks(group):
                value = self.graph.node("Add", value, self._bottleneck(value, block))
        value = self._activated(value, "conv_6_sep")
        # As large as what is left of the picture: one number for each channel.
        value = self._normalised(value, "conv_6_dw.conv", "conv_6_dw.bn", padding=0)
        self.output = self.graph.node("Softmax", self._classes(self.graph.node("Flatten", value)), axis=1)

    def _blocks(self, group: str) -> list[str]:
        """The names of a group's bottlenecks, in order."""
        names = [name.split(".") for name in self._tensors if name.startswith(f"{group}.model.")]
        numbers = {int(parts[2]) for parts in names if parts[2].isdigit()}
        if not numbers or numbers != {*range(len(numbers))}:
            raise DamagedError(f"the bottlenecks of {group}")
        return [f"{group}.model.{number}" for number in sorted(numbers)]

    def _bottleneck(self, value: str, name: str, stride: int = 1) -> str:
        """More channels, each convolved alone, and fewer channels; perhaps weighed."""
        value = self._activated(value, f"{name}.conv")
        value = self._activated(value, f"{name}.conv_dw", stride)
        value = self._normalised(value, f"{name}.project.conv", f"{name}.project.bn")
        module = f"{name}.se_module"
        if f"{module}.fc1.weight" not in self._tensors:
            return value
        means = self.graph.node("GlobalAveragePool", value)
        narrow = self.graph.relu(self._normalised(means, f"{module}.fc1", f"{module}.bn1"))
        weights = self.graph.node("Sigmoid", self._normalised(narrow, f"{module}.fc2", f"{module}.bn2"))
        return self.graph.node("Mul", value, weights)

    def _activated(self, value: str, name: str, stride: int = 1) -> str:
        """A convolution and a PReLU, which has a slope for each channel."""
        value = self._normalised(value, f"{name}.conv", f"{name}.bn", stride)
        slope = self._tensor(f"{name}.prelu.weight", 1).reshape(-1, 1, 1)
        return self.graph.node("PRelu", value, self.graph.constant(slope))

    def _normalised(self, value: str, name: str, norm: str, stride: int = 1, padding: int | None = None) -> str:
        """A convolution with its batch normalisation.

        Without ``padding`` the picture's size stays, but for the stride. A kernel of depth 1 has its own channel.
        """
        kernel = self._tensor(f"{name}.weight", 4)
        factor, offset = self._norm(norm)
        around = kernel.shape[2] // 2 if padding is None else padding
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        kernel = kernel * factor[:, None, None, None]
        return self.graph.convolution(value, kernel, offset, stride, (around, around), groups)

    def _norm(self, name: str) -> tuple[Array, Array]:
        """A batch normalisation as a factor and an offset."""
        scale, shift, mean, variance = (
            self._tensor(f"{name}.{part}", 1).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + _EPSILON)
        return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)

    def _classes(self, value: str) -> str:
        """An embedding, normalised, and the classes of it."""
        factor, offset = self._norm("bn")
        classes = self._tensor("prob.weight", 2)
        matrix = classes @ (factor[:, None] * self._tensor("linear.weight", 2))
        if matrix.shape[0] != CLASSES:
            raise DamagedError(f"{matrix.shape[0]} classes")
        return self.graph.dense(value, matrix.T, classes @ offset)

    def _tensor(self, name: str, axes: int) -> Array:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.ndim != axes or tensor.dtype != np.float32:
            raise DamagedError(f"its tensor {name}")
        return tensor
