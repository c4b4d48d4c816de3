"""From a crop's pixels to the numbers that a network was trained on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.models import Normalisation

# Means of red, green and blue in dlib's input layer (dlib/dnn/input.h).
_DLIB_MEANS = np.array([122.782, 117.001, 104.298], np.float32)


def network_input(crops: NDArray[np.uint8], normalisation: Normalisation) -> NDArray[np.float32]:
    """Scale the pixels of crops as a model card demands. The result for a crop does not depend on the others.

    Args:
        crops: (n, height, width, 3) uint8 BGR.
        normalisation: see ``shared.models.Normalisation``, which gives the formulas and their sources.

    Returns:
        (n, height, width, 3) float32, C-contiguous; RGB except for ``BGR_UNIT``.
    """
    if normalisation is Normalisation.BGR_UNIT:
        return np.ascontiguousarray(np.divide(crops, np.float32(255), dtype=np.float32))
    pixels = np.empty(crops.shape, np.float32)
    for crop, target in zip(crops, pixels, strict=True):
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
        if normalisation is Normalisation.PREWHITEN:
            _prewhiten(rgb, target)
        else:
            target[...] = rgb
    if normalisation is Normalisation.DLIB:
        pixels -= _DLIB_MEANS
        pixels *= np.float32(1 / 256)
    return pixels


def _prewhiten(pixels: NDArray[np.uint8], target: NDArray[np.float32]) -> None:
    """Write pixels into ``target``, brought to mean 0 and standard deviation 1.

    A picture of one colour is not blown up: the divisor is at least 1/√N (as in TensorFlow's
    ``image.per_image_standardization``).
    """
    (mean,), (deviation,) = cv2.meanStdDev(pixels.reshape(-1, 1))
    # A table of all 256 values is made in double precision: in single precision the mean's own rounding
    # would show in crops of little contrast.
    values = (np.arange(256) - mean.item()) / max(deviation.item(), 1 / np.sqrt(pixels.size))
    cv2.LUT(pixels, values.astype(np.float32), dst=target)
