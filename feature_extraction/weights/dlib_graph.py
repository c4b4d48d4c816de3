"""dlib's face recognition network as an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_extraction.weights.dlib_dat import SIZE, DamagedError, Step, Window, read_network
from feature_extraction.weights.graph import INPUT, Graph
from shared.errors import WeightsError

DIMENSIONS = 128


def convert(source: Path, target: Path) -> None:
    """Write the network as ONNX: input (n, 150, 150, 3) float32 normalised as ``Normalisation.DLIB``, output (n, 128).

    Affine layers are folded into the convolutions before them.

    Raises:
        WeightsError: the source is damaged or holds another network.
    """
    try:
        network = _Network(read_network(source.read_bytes()))
    except DamagedError as error:
        raise WeightsError(f"{source} is damaged or is not dlib's face recognition network: {error}.") from error
    network.graph.save(target, "dlib", network.output, (SIZE, SIZE, 3), DIMENSIONS)


@dataclass(frozen=True)
class _Value:
    """A value of the graph and its size without the batch."""

    name: str
    channels: int
    height: int
    width: int


class _Network:
    """Appends each step to a graph, from the input to the embedding."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.graph = Graph()
        value = saved = _Value(self.graph.channels_first(INPUT), 3, SIZE, SIZE)
        remaining = iter(steps)
        for step in remaining:
            match step.kind:
                case "tag":
                    saved = value
                case "swap":
                    value, saved = saved, value
                case "con_4":
                    value = self._convolution(value, step, remaining)
                case "relu_":
                    value = _Value(self.graph.relu(value.name), value.channels, value.height, value.width)
                case "add_prev_":
                    value = self._add(value, saved)
                case "max_pool_2":
                    value = self._pool("MaxPool", value, step)
                case "avg_pool_2":
                    value = self._pool("AveragePool", value, step)
                case "fc_2":
                    value = self._dense(value, step)
                case _:
                    raise DamagedError(f"{step.kind} at an unexpected place")
        if (value.channels, value.height, value.width) != (DIMENSIONS, 1, 1):
            raise DamagedError("its output is not an embedding")
        self.output = value.name

    def _convolution(self, value: _Value, step: Step, following: Iterator[Step]) -> _Value:
        affine = next(following, None)
        if affine is None or affine.kind != "affine_":
            raise DamagedError("a convolution without an affine layer")
        window, parameters = _window(step), _parameters(step)
        channels = step.shape[0]
        split = parameters.size - channels
        if step.shape[1] != value.channels or _parameters(affine).size != 2 * channels:
            raise DamagedError("a convolution that does not fit what comes before")
        factor, offset = np.split(_parameters(affine), 2)
        kernel = parameters[:split].reshape(step.shape) * factor[:, None, None, None]
        bias = parameters[split:] * factor + offset
        name = self.graph.convolution(value.name, kernel, bias, window.stride, window.padding)
        return _Value(name, channels, *window.output(value.height, value.width))

    def _pool(self, kind: str, value: _Value, step: Step) -> _Value:
        window = _window(step)
        if not window.rows:
            name = self.graph.node(f"Global{kind}", value.name)
        elif window.rows == window.columns and window.padding == (0, 0):
            name = self.graph.pool(kind, value.name, window.rows, window.stride)
        else:
            raise DamagedError("an unknown kind of pooling")
        return _Value(name, value.channels, *window.output(value.height, value.width))

    def _add(self, first: _Value, second: _Value) -> _Value:
        """The sum, where each operand is taken as zero beyond its own channels, rows and columns."""
        size = _Value(
            "",
            max(first.channels, second.channels),
            max(first.height, second.height),
            max(first.width, second.width),
        )
        name = self.graph.node("Add", self._padded(first, size), self._padded(second, size))
        return _Value(name, size.channels, size.height, size.width)

    def _padded(self, value: _Value, size: _Value) -> str:
        missing = [size.channels - value.channels, size.height - value.height, size.width - value.width]
        if not any(missing):
            return value.name
        return self.graph.node("Pad", value.name, self.graph.constant(np.array([0] * 5 + missing, np.int64)))

    def _dense(self, value: _Value, step: Step) -> _Value:
        if step.shape[0] != value.channels * value.height * value.width:
            raise DamagedError("a dense layer that does not fit what comes before")
        flat = self.graph.node("Flatten", value.name, axis=1)
        return _Value(self.graph.dense(flat, _parameters(step).reshape(step.shape)), step.shape[1], 1, 1)


def _window(step: Step) -> Window:
    if step.window is None:
        raise DamagedError(f"{step.kind} without a window")
    return step.window


def _parameters(step: Step) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if step.parameters is None:
        raise DamagedError(f"{step.kind} without parameters")
    return step.parameters
