"""Measures the ranges of FaceNet's activations, from which ``PRECISION=int8`` takes its scales.

The faces of a folder of photos are detected, aligned and run through the network in 32 bits. Of each tensor the range
is kept that holds all but a hundred-thousandth of its values at either end: single outliers would make the steps
between all others coarser. Measure accuracy on other photos than these.

Example:
    python -m benchmarks.int8_ranges --photos ../shared/faces/lfw_unknown
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from benchmarks.accuracy import FACES, crop_of, read_photos
from feature_extraction.embedder import network_input
from feature_extraction.weights import facenet_int8, store
from feature_extraction.weights.graph import INPUT
from shared.models import find_card
from shared.settings import FrontSettings

PERCENTILE = 99.999
BATCH = 8


class Batches(CalibrationDataReader):
    """Hands crops to ONNX Runtime's calibration."""

    def __init__(self, inputs: NDArray[np.float32]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = (
            inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input of the network; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def measure(inputs: NDArray[np.float32], source: Path) -> dict[str, tuple[float, float]]:
    """Tensor → least and greatest value.

    Args:
        inputs: (n, 160, 160, 3) float32, the network's input.
        source: FaceNet's ``.h5``.
    """
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            facenet_int8.prepare(source, Path(folder)),
            augmented_model_path=f"{folder}/augmented.onnx",
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE},
        )
        calibrator.collect_data(Batches(inputs))
        tensors = calibrator.compute_data()
    return {name: (float(data.lowest), float(data.highest)) for name, data in tensors.items()}


def save(ranges: dict[str, tuple[float, float]], file: Path) -> None:
    """Write ranges as ONNX Runtime's calibration cache, one tensor a line."""
    rows = [
        f'  "{name}": {{"lowest": {low:.6g}, "highest": {high:.6g}}}' for name, (low, high) in sorted(ranges.items())
    ]
    method = json.dumps({"CLS": "CalibrationMethod", "value": str(CalibrationMethod.Percentile)})
    file.write_text(f'{{"calibration_method": {method}, "data": {{\n' + ",\n".join(rows) + "\n}}\n")


def main() -> None:
    """Parse the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_unknown", help="folder with .jpg files")
    parser.add_argument("--out", type=Path, default=facenet_int8.RANGES)
    arguments = parser.parse_args()
    settings = FrontSettings.from_environment()
    card = find_card("facenet")
    photos = [photo for photo in read_photos(sorted(arguments.photos.rglob("*.jpg")), settings) if photo.face]
    crops = np.concatenate([crop_of(photo, card.alignment) for photo in photos])
    source = store.ensure(card, "tensorflow", settings.weights).path
    ranges = measure(network_input(crops, card.normalisation), source)
    save(ranges, arguments.out)
    print(f"{len(ranges)} ranges from {len(photos)} faces: {arguments.out}")


if __name__ == "__main__":
    main()
