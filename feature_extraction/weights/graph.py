"""ONNX graphs of convolutional networks: built for pictures as (n, height, width, 3), or made fit for batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.errors import WeightsError

INPUT = "input"
OUTPUT = "embedding"

# Old enough for every ONNX Runtime since 1.14.
_OPSET = 17
_IR_VERSION = 8

Array = NDArray[np.float32]


class Graph:
    """Collects nodes and weights. Values are named by strings; each method returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator with one output."""
        output = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """Append a constant tensor."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def channels_first(self, value: str) -> str:
        """(n, height, width, channels) to (n, channels, height, width)."""
        return self.node("Transpose", value, perm=[0, 3, 1, 2])

    def convolution(
        self,
        value: str,
        kernel: Array,
        bias: Array,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
    ) -> str:
        """A 2-D convolution.

        Args:
            value: (n, in, height, width).
            kernel: (out, in / groups, rows, columns).
            bias: (out,).
            stride: in both directions.
            padding: zeros added on both sides, (vertical, horizontal).
            groups: of channels, each of which is convolved alone.
        """
        return self.node(
            "Conv",
            value,
            self.constant(kernel.astype(np.float32)),
            self.constant(bias.astype(np.float32)),
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=[*padding, *padding],
            group=groups,
        )

    def relu(self, value: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", value)

    def pool(self, kind: str, value: str, window: int, stride: int) -> str:
        """``MaxPool`` or ``AveragePool`` without padding."""
        return self.node(kind, value, kernel_shape=[window, window], strides=[stride, stride])

    def dense(self, value: str, matrix: Array, bias: Array | None = None) -> str:
        """x @ matrix + bias. ``matrix`` is (in, out), ``bias`` (out,)."""
        parts = [value, self.constant(matrix.astype(np.float32))]
        if bias is not None:
            parts.append(self.constant(bias.astype(np.float32)))
        return self.node("Gemm", *parts)

    def save(
        self,
        path: Path,
        name: str,
        output: str,
        input_shape: Sequence[int],
        dimensions: int,
        output_name: str = OUTPUT,
    ) -> None:
        """Write the graph with a dynamic batch.

        Args:
            path: where to.
            name: of the graph.
            output: the value that leaves the graph, (n, dimensions).
            input_shape: height, width, channels.
            dimensions: length of an embedding.
            output_name: what that value is called outside.
        """
        self._nodes.append(helper.make_node("Identity", [output], [output_name]))
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *input_shape])],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["n", dimensions])],
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name=__name__
        )
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString(deterministic=True))


def free_batch(source: Path, target: Path) -> None:
    """Write a published graph, which is fixed at a batch of one, with a dynamic batch.

    It may list its weights as inputs, as OpenCV Zoo's SFace does, which keeps ONNX Runtime from folding and fusing
    them; the result does not.

    Raises:
        WeightsError: the source is damaged.
    """
    try:
        model = onnx.load(str(source))
    except DecodeError as error:
        raise WeightsError(f"{source} is damaged or is not an ONNX file.") from error
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
