"""FaceNet (Inception-ResNet v1) from a Keras ``.h5`` file: as an ONNX graph and as weights for DeepFace's networks.

The architecture is that of Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning" (AAAI 2017), in the variant of David Sandberg's facenet: 160 x 160 pixels, 128 dimensions.

Only the weight arrays of the file are read. Its Lambda layers hold marshalled bytecode, which is neither read nor run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.weights.graph import Graph
from shared.errors import WeightsError

Array = NDArray[np.float32]

DIMENSIONS = 128
SIZE = 160
BATCH_NORM_EPSILON = 1e-3

_BATCH_NORM = "_BatchNorm"
_BATCH_NORM_PARTS = ("beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Layer:
    """The arrays of one Keras layer by their names, such as ``kernel``, ``bias``, ``moving_mean``."""

    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


Layers = Mapping[str, Layer]


def read_layers(path: Path) -> Layers:
    """Read every layer that has weights.

    Returns:
        Layer name → arrays, float32. Kernels are (rows, columns, in, out) for convolutions, (in, out) for dense ones.

    Raises:
        WeightsError: not an HDF5 file, or not one with Keras weights.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "model_weights" in file else file
            return MappingProxyType({name: _read_layer(group) for name, group in root.items() if len(group)})
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path} is damaged or is not a Keras weight file ({error}).") from error


def _read_layer(group: Any) -> Layer:
    import h5py

    arrays: dict[str, Array] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name.rpartition("/")[2].partition(":")[0]] = np.asarray(item, np.float32)

    group.visititems(visit)
    return Layer(arrays)


def convert(source: Path, target: Path) -> None:
    """Write the network as ONNX: input (n, 160, 160, 3) float32, output (n, 128) float32.

    Batch normalisation is folded into the convolutions and scales of the residuals into their last convolution.

    Raises:
        WeightsError: the source is damaged or lacks a layer.
    """
    try:
        network = _Network(read_layers(source))
        output = network.build()
    except KeyError as error:
        raise WeightsError(f"{source} is not a FaceNet weight file: it lacks {error}.") from error
    network.graph.save(target, "facenet", output, (SIZE, SIZE, 3), DIMENSIONS)


class _Network:
    """Builds the graph from the input to the embedding."""

    def __init__(self, layers: Layers) -> None:
        self.graph = Graph()
        self._layers = layers

    def build(self) -> str:
        graph = self.graph
        x = graph.channels_first("input")
        x = self._unit(x, "Conv2d_1a_3x3", stride=2, same=False)
        x = self._unit(x, "Conv2d_2a_3x3", same=False)
        x = self._unit(x, "Conv2d_2b_3x3")
        x = graph.pool("MaxPool", x, 3, 2)
        x = self._unit(x, "Conv2d_3b_1x1")
        x = self._unit(x, "Conv2d_4a_3x3", same=False)
        x = self._unit(x, "Conv2d_4b_3x3", stride=2, same=False)
        for number in range(1, 6):
            x = self._residual(x, f"Block35_{number}", 0.17, self._block35)
        x = self._reduction_a(x)
        for number in range(1, 11):
            x = self._residual(x, f"Block17_{number}", 0.1, self._block17)
        x = self._reduction_b(x)
        for number in range(1, 6):
            x = self._residual(x, f"Block8_{number}", 0.2, self._block8)
        x = self._residual(x, "Block8_6", 1.0, self._block8, relu=False)
        x = graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)
        factor, offset = self._batch_norm("Bottleneck")
        return graph.dense(x, self._layers["Bottleneck"]["kernel"] * factor, offset)

    def _batch_norm(self, name: str) -> tuple[Array, Array]:
        """Factor and offset of the batch normalisation that follows a layer; it has no learnt scale."""
        layer = self._layers[name + _BATCH_NORM]
        factor = 1.0 / np.sqrt(layer["moving_variance"].astype(np.float64) + BATCH_NORM_EPSILON)
        return factor.astype(np.float32), (layer["beta"] - layer["moving_mean"] * factor).astype(np.float32)

    def _unit(self, x: str, name: str, stride: int = 1, same: bool = True) -> str:
        """Convolution, batch normalisation, relu."""
        factor, offset = self._batch_norm(name)
        kernel = self._layers[name]["kernel"] * factor
        padding = (kernel.shape[0] // 2, kernel.shape[1] // 2) if same else (0, 0)
        return self.graph.relu(self.graph.convolution(x, _out_first(kernel), offset, stride, padding))

    def _chain(self, x: str, block: str, *units: str) -> str:
        for unit in units:
            x = self._unit(x, f"{block}_{unit}")
        return x

    def _join(self, *branches: str) -> str:
        return self.graph.node("Concat", *branches, axis=1)

    def _residual(
        self, x: str, block: str, scale: float, branches: Callable[[str, str], str], relu: bool = True
    ) -> str:
        """x + scale · (1 x 1 convolution of the joined branches)."""
        up = self._layers[f"{block}_Conv2d_1x1"]
        delta = self.graph.convolution(branches(x, block), _out_first(up["kernel"] * scale), up["bias"] * scale)
        total = self.graph.node("Add", x, delta)
        return self.graph.relu(total) if relu else total

    def _block35(self, x: str, block: str) -> str:
        return self._join(
            self._chain(x, block, "Branch_0_Conv2d_1x1"),
            self._chain(x, block, "Branch_1_Conv2d_0a_1x1", "Branch_1_Conv2d_0b_3x3"),
            self._chain(x, block, "Branch_2_Conv2d_0a_1x1", "Branch_2_Conv2d_0b_3x3", "Branch_2_Conv2d_0c_3x3"),
        )

    def _block17(self, x: str, block: str) -> str:
        return self._join(
            self._chain(x, block, "Branch_0_Conv2d_1x1"),
            self._chain(x, block, "Branch_1_Conv2d_0a_1x1", "Branch_1_Conv2d_0b_1x7", "Branch_1_Conv2d_0c_7x1"),
        )

    def _block8(self, x: str, block: str) -> str:
        return self._join(
            self._chain(x, block, "Branch_0_Conv2d_1x1"),
            self._chain(x, block, "Branch_1_Conv2d_0a_1x1", "Branch_1_Conv2d_0b_1x3", "Branch_1_Conv2d_0c_3x1"),
        )

    def _reduction_a(self, x: str) -> str:
        branch = self._chain(x, "Mixed_6a", "Branch_1_Conv2d_0a_1x1", "Branch_1_Conv2d_0b_3x3")
        return self._join(
            self._unit(x, "Mixed_6a_Branch_0_Conv2d_1a_3x3", stride=2, same=False),
            self._unit(branch, "Mixed_6a_Branch_1_Conv2d_1a_3x3", stride=2, same=False),
            self.graph.pool("MaxPool", x, 3, 2),
        )

    def _reduction_b(self, x: str) -> str:
        branches = [
            self._chain(x, "Mixed_7a", "Branch_0_Conv2d_0a_1x1"),
            self._chain(x, "Mixed_7a", "Branch_1_Conv2d_0a_1x1"),
            self._chain(x, "Mixed_7a", "Branch_2_Conv2d_0a_1x1", "Branch_2_Conv2d_0b_3x3"),
        ]
        return self._join(
            *(
                self._unit(branch, f"Mixed_7a_Branch_{number}_Conv2d_1a_3x3", stride=2, same=False)
                for number, branch in enumerate(branches)
            ),
            self.graph.pool("MaxPool", x, 3, 2),
        )


def _out_first(kernel: Array) -> Array:
    """(rows, columns, in, out) to (out, in, rows, columns)."""
    return kernel.transpose(3, 2, 0, 1)


# In blocks 2 and up DeepFace's Keras network numbers the second branch like the block: Block17_4_Branch_4_….
_SECOND_BRANCH = re.compile(r"^(Block(?:17|8)_(\d+)_Branch)_1_")


def keras_name(name: str, known: frozenset[str]) -> str:
    """A layer's name in DeepFace's Keras network.

    Args:
        name: the layer's name in the file.
        known: names of that network's layers.

    Raises:
        WeightsError: the network has no such layer.
    """
    for candidate in (name, _SECOND_BRANCH.sub(r"\1_\2_", name)):
        if candidate in known:
            return candidate
    raise WeightsError(f"DeepFace's FaceNet has no layer for {name}.")


def keras_weights(layers: Layers, known: frozenset[str]) -> dict[str, list[Array]]:
    """Arrays for each layer of DeepFace's Keras network, in the order that its ``set_weights`` expects.

    Args:
        layers: see ``read_layers``.
        known: names of that network's layers.

    Raises:
        WeightsError: the network lacks a layer of the file.
    """
    parts = ("kernel", "bias", *_BATCH_NORM_PARTS)
    return {
        keras_name(name, known): [layer[part] for part in parts if part in layer.arrays]
        for name, layer in layers.items()
    }


def torch_state(layers: Layers) -> dict[str, Array]:
    """The state of DeepFace's PyTorch network: parameter name → array in PyTorch's layout."""
    state: dict[str, Array] = {}
    for name, layer in layers.items():
        module = _torch_module(name.removesuffix(_BATCH_NORM))
        if name.endswith(_BATCH_NORM):
            prefix = "bottleneck_bn" if module == "bottleneck" else f"{module}.bn"
            state[f"{prefix}.weight"] = np.ones_like(layer["beta"])
            for ours, theirs in zip(_BATCH_NORM_PARTS, ("bias", "running_mean", "running_var"), strict=True):
                state[f"{prefix}.{theirs}"] = layer[ours]
        elif module == "bottleneck":
            state["bottleneck.weight"] = layer["kernel"].T
        elif "bias" in layer.arrays:
            state[f"{module}.weight"] = _out_first(layer["kernel"])
            state[f"{module}.bias"] = layer["bias"]
        else:
            state[f"{module}.conv.weight"] = _out_first(layer["kernel"])
    return state


_RESIDUAL = re.compile(r"^(Block\d+)_(\d+)_Conv2d_1x1$")
_BRANCH = re.compile(r"^(?:(Block\d+)_(\d+)|(Mixed_\d[a-z]))_Branch_(\d)_Conv2d_(?:(\d)([a-z])_)?\dx\d$")


def _torch_module(name: str) -> str:
    """The module in DeepFace's PyTorch network that holds a convolution of the file."""
    residual = _RESIDUAL.match(name)
    if residual is not None:
        return f"{residual[1].lower()}.{int(residual[2]) - 1}.up"
    branch = _BRANCH.match(name)
    if branch is None:
        return name.lower()
    block, number, mixed, branch_number, stage, letter = branch.groups()
    parent = f"{block.lower()}.{int(number) - 1}" if block else mixed.lower()
    module = f"{parent}.branch_{branch_number}"
    if letter is None or (mixed, branch_number) == ("Mixed_6a", "0"):
        return module  # the branch is one convolution
    # Stage 0 counts its convolutions a, b, c; the strided one of stage 1 comes last.
    before = "abc".index(letter) if stage == "0" else _STAGE_0[mixed, branch_number]
    return f"{module}.{before}"


# How many convolutions precede the strided one in the branches of the reduction blocks.
_STAGE_0 = {("Mixed_6a", "1"): 2, ("Mixed_7a", "0"): 1, ("Mixed_7a", "1"): 1, ("Mixed_7a", "2"): 2}
