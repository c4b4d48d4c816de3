"""From face crops to embeddings: the numbers that a network was trained on, and what the network makes of them."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from feature_extraction.engines import Network
from feature_extraction.weights import store
from feature_extraction.weights.files import sha256_of
from shared.models import ModelCard, Normalisation, find_card
from shared.settings import ExtractionSettings

# Means of red, green and blue in dlib's input layer (dlib/dnn/input.h).
_DLIB_MEANS = np.array([122.782, 117.001, 104.298], np.float32)


class Embedder:
    """Computes embeddings of one model with a loaded network.

    Attributes:
        card: the model.
        revision: identifies the weights; part of the embedding space.
        engine: onnx, tensorflow or pytorch.
        device: where the network runs: cpu, cuda or tensorrt.
        file: the weight file that the engine has read.
        lanes: how many calls of ``embed`` from different threads make good use of the hardware at once.
    """

    def __init__(self, card: ModelCard, weights: store.Weights, engine: str, network: Network) -> None:
        self.card = card
        self.revision = weights.revision
        self.file = weights.path
        self.engine = engine
        self.device = network.device
        self.lanes = network.lanes
        self.network = network

    @cached_property
    def file_sha256(self) -> str:
        """Of the weight file, in hexadecimal digits; only those who hand the file out ask for it."""
        return sha256_of(self.file)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of crops, each independent of the others.

        Args:
            crops: (n, height, width, 3) uint8 BGR, of the size in the card's alignment; n may be 0.

        Returns:
            (n, dimensions) float32: the network's raw output, or at unit length where ``card.unit_output`` says so.

        Raises:
            ValueError: another shape or dtype.
        """
        wanted = (self.card.alignment.height, self.card.alignment.width, 3)
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != wanted:
            raise ValueError(f"crops must be uint8 of shape (n, {wanted[0]}, {wanted[1]}, 3), not {crops.shape}")
        shape = (len(crops), self.card.dimensions)
        if not len(crops):
            return np.empty(shape, np.float32)
        embeddings = self.network.run(network_input(crops, self.card.normalisation))
        if embeddings.shape != shape:
            raise RuntimeError(f"the network answered with the shape {embeddings.shape} instead of {shape}")
        return _unit_length(embeddings) if self.card.unit_output else embeddings


def _unit_length(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their Euclidean length; a row of zeros stays as it is."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


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


def open_embedder(settings: ExtractionSettings, progress: bool = False) -> Embedder:
    """Load the model of the settings; its weights are fetched if they are absent.

    Args:
        settings: MODEL, ENGINE, PRECISION, EXECUTION_PROVIDERS, COMPUTE_THREADS, GPU_MEMORY_MIB and DEEPFACE_HOME
            count.
        progress: whether a download may show its progress on stderr.

    Raises:
        SettingsError: EXECUTION_PROVIDERS is malformed.
        WeightsError: the weights are missing or damaged and cannot be fetched.
        EngineUnavailable: the runtime, the model in it, the precision or the device that was asked for is not there.
    """
    card = find_card(settings.model)
    weights = store.ensure(card, settings.engine, settings.weights, progress, settings.precision)
    match settings.engine:
        case "onnx":
            from feature_extraction.engines.onnx import load
        case "tensorflow":
            from feature_extraction.engines.tensorflow import load
        case "pytorch":
            from feature_extraction.engines.pytorch import load
    return Embedder(card, weights, settings.engine, load(card, weights.path, settings))
