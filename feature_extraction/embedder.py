"""From face crops to embeddings: the numbers that a network was trained on, what it makes of them, and how the
embeddings of several networks become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from feature_extraction.engines import Network
from feature_extraction.weights import store
from feature_extraction.weights.files import sha256_of
from shared.models import Combination, ModelCard, NetworkCard, Normalisation, find_card
from shared.settings import ExtractionSettings

# Means of red, green and blue in dlib's input layer (dlib/dnn/input.h).
_DLIB_MEANS = np.array([122.782, 117.001, 104.298], np.float32)


Crops = NDArray[np.uint8]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """A loaded network, its card and its weights."""

    card: NetworkCard
    weights: store.Weights
    network: Network

    def embed(self, crops: Crops) -> Embeddings:
        """Embeddings of crops, each independent of the others.

        Args:
            crops: (n, height, width, 3) uint8 BGR, of the size in the card's alignment, n > 0.

        Returns:
            (n, dimensions) float32: the network's raw output, or at unit length where ``card.unit_output`` says so.
        """
        embeddings = self.network.run(network_input(crops, self.card.normalisation))
        if embeddings.shape != (len(crops), self.card.dimensions):
            raise RuntimeError(f"the network of {self.card.name} answered with the shape {embeddings.shape}")
        return _unit_length(embeddings) if self.card.unit_output else embeddings


class Embedder:
    """Computes embeddings of one model with its loaded networks.

    Attributes:
        card: the model.
        engine: onnx, tensorflow or pytorch.
        parts: the networks, in the order of the card's.
        revision: identifies the weights; part of the embedding space.
        device: where the networks run: cpu, cuda or tensorrt.
        lanes: how many calls of ``runs`` from different threads make good use of the hardware at once.
        runs: what gives the embeddings, once ``join`` has put together what they give: one call for each network, and
            for its mirrored crops where the card says so. They may be called at the same time.
    """

    def __init__(self, card: ModelCard, engine: str, parts: Sequence[Part]) -> None:
        self.card = card
        self.engine = engine
        self.parts = parts
        self.revision = "+".join(part.weights.revision for part in parts)
        self.device = parts[0].network.device
        self.lanes = parts[0].network.lanes
        sides = (False, True) if isinstance(card, Combination) and card.mirrored else (False,)
        self.runs: Sequence[Callable[[Crops], Embeddings]] = [
            partial(self._run, number, mirrored) for number in range(len(parts)) for mirrored in sides
        ]

    @property
    def files(self) -> Sequence[Path]:
        """The weight file that each network's engine has read."""
        return [part.weights.path for part in self.parts]

    def embed(self, crops: Crops) -> Embeddings:
        """Embeddings of crops, each independent of the others.

        Args:
            crops: (n, height, width, 3) uint8 BGR, of the size in the card's alignment; n may be 0.

        Returns:
            (n, dimensions) float32: of one network see ``Part.embed``, of several see ``shared.models.Combination``.

        Raises:
            ValueError: another shape or dtype.
        """
        wanted = (self.card.alignment.height, self.card.alignment.width, 3)
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != wanted:
            raise ValueError(f"crops must be uint8 of shape (n, {wanted[0]}, {wanted[1]}, 3), not {crops.shape}")
        if not len(crops):
            return np.empty((0, self.card.dimensions), np.float32)
        return self.join([run(crops) for run in self.runs])

    def join(self, outputs: Sequence[Embeddings]) -> Embeddings:
        """The embeddings, (n, dimensions) float32, from what each of ``runs`` has given for the same crops."""
        if not isinstance(self.card, Combination):
            return outputs[0]
        sides = len(self.runs) // len(self.parts)
        weighted = []
        for number, part in enumerate(self.card.parts):
            units = [_unit_length(output) for output in outputs[number * sides : (number + 1) * sides]]
            weighted.append(np.float32(part.weight) * _unit_length(np.sum(units, axis=0)))
        return _unit_length(np.concatenate(weighted, axis=1))

    def _run(self, number: int, mirrored: bool, sheets: Crops) -> Embeddings:
        crops = self.card.alignment.split(sheets)[number]
        return self.parts[number].embed(crops[:, :, ::-1] if mirrored else crops)


@cache
def file_sha256(file: Path) -> str:
    """Of a weight file that is in use, in hexadecimal digits; only those who hand it out ask for it."""
    return sha256_of(file)


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
    files = store.ensure_networks(card, settings.engine, settings.weights, progress, settings.precision)
    if settings.gpu_memory_mib:  # the networks share it
        settings = settings.model_copy(update={"gpu_memory_mib": -(-settings.gpu_memory_mib // len(files))})
    parts = [
        Part(network, weights, _load(network, weights, settings))
        for network, weights in zip(card.networks, files, strict=True)
    ]
    return Embedder(card, settings.engine, parts)


def _load(card: NetworkCard, weights: store.Weights, settings: ExtractionSettings) -> Network:
    settings = settings.model_copy(update={"precision": weights.precision})
    match settings.engine:
        case "onnx":
            from feature_extraction.engines.onnx import load
        case "tensorflow":
            from feature_extraction.engines.tensorflow import load
        case "pytorch":
            from feature_extraction.engines.pytorch import load
    return load(card, weights.path, settings)
