"""SFace as OpenCV Zoo publishes it, made fit for batches.

The published graph is fixed at a batch of one, and it lists its weights as inputs, which keeps ONNX Runtime from
folding and fusing them.
"""

from __future__ import annotations

from pathlib import Path

from shared.errors import WeightsError


def convert(source: Path, target: Path) -> None:
    """Write the graph with a dynamic batch: input (n, 3, 112, 112) float32 RGB in [0, 255], output (n, 128).

    Raises:
        WeightsError: the source is damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

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
