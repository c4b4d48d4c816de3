"""FaceNet with 8-bit integer weights and activations, for the CPU.

Weights get one scale for each output channel, activations one for each tensor (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). The activations' ranges were
measured on photos of faces beforehand (``benchmarks/int8_ranges.py``) and are kept beside this module, so no photos are
needed here.
"""

from __future__ import annotations

from pathlib import Path

from feature_extraction.weights.files import scratch_folder

RANGES = Path(__file__).with_name("facenet_int8_ranges.json")
"""The least and the greatest value of each tensor, in the format of ONNX Runtime's calibration cache."""


def convert(source: Path, target: Path) -> None:
    """Write the network as ONNX with 8-bit integers: input (n, 160, 160, 3) float32, output (n, 128) float32.

    Raises:
        WeightsError: the source is damaged or lacks a layer.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    with scratch_folder(target.parent) as scratch:
        network = prepare(source, scratch)
        quantize_static(
            network,
            target,
            calibration_cache_path=RANGES,
            calibrate_method=CalibrationMethod.Percentile,
            # x86 processors multiply unsigned by signed bytes; with signed activations nothing is gained there.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


def prepare(source: Path, folder: Path) -> Path:
    """Write the network in 32 bits into a folder, in the form that ONNX Runtime's quantisation wants; the path.

    Raises:
        WeightsError: the source is damaged or lacks a layer.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from feature_extraction.weights import facenet_h5

    network = folder / "network.onnx"
    facenet_h5.convert(source, network)
    prepared = folder / "prepared.onnx"
    # Optimisation would fuse and rename what the ranges are listed by; symbolic shapes need another package.
    quant_pre_process(network, prepared, skip_optimization=True, skip_symbolic_shape=True)
    return prepared
