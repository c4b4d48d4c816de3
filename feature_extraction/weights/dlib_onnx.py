"""dlib's face recognition network: read from its ``.dat`` file, and written as an ONNX graph.

The network is a ResNet with 29 convolutions by Davis King (dlib's ``dnn_face_recognition_ex``); 150 x 150 pixels, 128
dimensions. dlib's serialisation (``dlib/serialize.h``, ``dlib/dnn/core.h``, ``dlib/dnn/layers.h``) writes, from the
output to the input, one version number for each layer, tag and skip, then the input layer, and then the layers' own
contents from the input to the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feature_extraction.weights.graph import INPUT, Graph
from shared.errors import WeightsError

Array = NDArray[np.float32]

SIZE = 150
DIMENSIONS = 128

# What the version numbers say about the entries of the list of layers.
_TAG_OR_SKIP, _LAYER, _LAYER_AFTER_INPUT = 1, 2, 3

_TENSOR_VERSION = 2
_ALIAS_VERSION = 1
_MOST_LAYERS = 1000


class DamagedError(ValueError):
    """The bytes are not what dlib writes for this network."""


class Reader:
    """Reads dlib's serialised values one after another.

    Every method raises ``DamagedError`` when the bytes end early or make no sense.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    def end(self) -> None:
        """Make sure that everything has been read."""
        if self._position != len(self._data):
            raise DamagedError("something follows its end")

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise DamagedError("it ends early")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def integer(self) -> int:
        """A variable-length integer.

        The low four bits of the first byte give the number of little-endian bytes that follow, its top bit the sign.
        """
        control = self.take(1)[0]
        length = control & 0x0F
        if not 1 <= length <= 8 or control & 0x70:
            raise DamagedError("a malformed integer")
        magnitude = int.from_bytes(self.take(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def number(self) -> float:
        """A floating point number: an integer mantissa and a power of two."""
        mantissa, exponent = self.integer(), self.integer()
        if not -2000 < exponent < 2000:
            raise DamagedError("a malformed number")
        try:
            return float(np.ldexp(float(mantissa), exponent))
        except OverflowError:
            raise DamagedError("a malformed number") from None

    def text(self) -> str:
        """A string: its length, then its bytes."""
        return bytes(self.take(self._count(255))).decode("ascii", "replace")

    def flags(self, count: int) -> None:
        """Skip booleans, each written as the digit 0 or 1."""
        if any(flag not in b"01" for flag in self.take(count)):
            raise DamagedError("a malformed flag")

    def expect(self, value: int, what: str) -> None:
        """Read an integer that can only have one value."""
        found = self.integer()
        if found != value:
            raise DamagedError(f"{what} is {found} instead of {value}")

    def tensor(self) -> Array:
        """A float32 tensor of four dimensions."""
        self.expect(_TENSOR_VERSION, "the version of a tensor")
        shape = self._shape()
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self.take(4 * count), "<f4").reshape(shape)

    def alias(self) -> tuple[int, ...]:
        """The shape of a view into a layer's tensor."""
        self.expect(_ALIAS_VERSION, "the version of an alias tensor")
        return self._shape()

    def _shape(self) -> tuple[int, ...]:
        return tuple(self._count(1 << 20) for _ in range(4))

    def _count(self, most: int) -> int:
        value = self.integer()
        if not 0 <= value <= most:
            raise DamagedError(f"a count of {value}")
        return value

    def window(self) -> Window:
        """Rows, columns, strides and paddings of a convolution or a pooling."""
        rows, columns, stride, stride_x, vertical, horizontal = (self._count(1024) for _ in range(6))
        if stride != stride_x or not stride:
            raise DamagedError("unequal strides")
        return Window(rows, columns, stride, (vertical, horizontal))


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling; 0 rows and columns mean the whole picture."""

    rows: int
    columns: int
    stride: int
    padding: tuple[int, int]

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Size of the result for a picture of the given size."""
        if not self.rows:
            return 1, 1
        return (
            1 + (height + 2 * self.padding[0] - self.rows) // self.stride,
            1 + (width + 2 * self.padding[1] - self.columns) // self.stride,
        )


@dataclass(frozen=True)
class Step:
    """One step of the network.

    Attributes:
        kind: dlib's name of the layer; or ``tag``, which saves the value for the residual behind it; or ``swap`` (a tag
            and a skip), which exchanges the value with the saved one.
        parameters: the layer's own numbers, flat.
        shape: of the parameters, for a dense layer (in, out) and for a convolution (out, in, rows, columns).
        window: for convolutions and poolings.
    """

    kind: str
    parameters: Array | None = None
    shape: tuple[int, ...] = ()
    window: Window | None = None


def read_network(data: bytes) -> list[Step]:
    """Parse a ``.dat`` file into its steps from the input to the output.

    Raises:
        DamagedError: the bytes are not a network of the known layers.
    """
    reader = Reader(data)
    reader.expect(1, "the version of the file")
    if reader.text() != "loss_metric_2":
        raise DamagedError("it does not end in a metric loss")
    reader.number()  # margin
    reader.number()  # distance threshold
    entries: list[int] = []
    while not entries or entries[-1] != _LAYER_AFTER_INPUT:
        entries.append(reader.integer())
        if entries[-1] not in (_TAG_OR_SKIP, _LAYER, _LAYER_AFTER_INPUT) or len(entries) > _MOST_LAYERS:
            raise DamagedError("its list of layers makes no sense")
    _read_input(reader)
    steps: list[Step] = []
    for entry, run in groupby(reversed(entries)):
        length = len(list(run))
        if entry == _TAG_OR_SKIP:
            if length > 2:
                raise DamagedError("tags in a row")
            steps.append(Step("tag" if length == 1 else "swap"))
        else:
            steps.extend(_read_layer(reader, first=entry == _LAYER_AFTER_INPUT) for _ in range(length))
    reader.end()
    return steps


def _read_input(reader: Reader) -> None:
    if reader.text() != "input_rgb_image_sized":
        raise DamagedError("its input is not an RGB picture of fixed size")
    for _ in range(3):
        reader.number()  # mean of a colour
    reader.expect(SIZE, "the height of the picture")
    reader.expect(SIZE, "the width of the picture")


def _read_layer(reader: Reader, first: bool) -> Step:
    """Read one layer's contents, and the state that dlib keeps about every layer."""
    kind = reader.text()
    step = Step(kind)
    if kind == "con_4":
        parameters = reader.tensor()
        reader.integer()  # number of filters, also in the shape below
        window = reader.window()
        shape = reader.alias()
        reader.alias()  # shape of the bias
        _skip_numbers(reader)
        if shape[2:] != (window.rows, window.columns) or parameters.size != np.prod(shape) + shape[0]:
            raise DamagedError("a convolution's shape")
        step = Step(kind, parameters.ravel(), shape, window)
    elif kind == "affine_":
        parameters = reader.tensor()
        shape = reader.alias()
        reader.alias()  # shape of the offset
        reader.expect(0, "the mode of an affine layer")
        if parameters.size != 2 * np.prod(shape):
            raise DamagedError("an affine layer's shape")
        step = Step(kind, parameters.ravel(), shape)
    elif kind in ("max_pool_2", "avg_pool_2"):
        step = Step(kind, window=reader.window())
    elif kind == "fc_2":
        outputs, inputs = reader.integer(), reader.integer()
        parameters = reader.tensor()
        reader.alias()  # shape of the matrix
        reader.alias()  # shape of the bias
        reader.expect(1, "the bias mode of a dense layer")
        _skip_numbers(reader)
        if parameters.size != inputs * outputs:
            raise DamagedError("a dense layer's shape")
        step = Step(kind, parameters.ravel(), (inputs, outputs))
    elif kind not in ("relu_", "add_prev_"):
        raise DamagedError(f"an unknown layer {kind!r}")
    reader.flags(3)
    for _ in range(3):
        reader.tensor()  # gradients and cached output, empty in a published network
    if first:
        reader.expect(1, "the sample expansion factor")
    return step


def _skip_numbers(reader: Reader) -> None:
    """Learning rate and weight decay multipliers of weights and bias."""
    for _ in range(4):
        reader.number()


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
