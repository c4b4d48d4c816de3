"""From face crops to embeddings: what the service asks for, whichever runtime does the work."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_extraction.engines import Network
from feature_extraction.preprocessing import network_input
from feature_extraction.weights import store
from feature_extraction.weights.files import sha256_of
from shared.models import ModelCard, find_card
from shared.settings import ExtractionSettings


class Embedder(Protocol):
    """Computes embeddings of one model."""

    @property
    def card(self) -> ModelCard:
        """The model."""
        ...

    @property
    def revision(self) -> str:
        """Identifies the weights; part of the embedding space."""
        ...

    @property
    def engine(self) -> str:
        """onnx, tensorflow or pytorch."""
        ...

    @property
    def device(self) -> str:
        """Where the network runs: cpu, cuda or tensorrt."""
        ...

    @property
    def file(self) -> Path:
        """The weight file that the engine has read."""
        ...

    @property
    def file_sha256(self) -> str:
        """Of that file, in hexadecimal digits."""
        ...

    @property
    def lanes(self) -> int:
        """How many calls of ``embed`` from different threads make good use of the hardware at once."""
        ...

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of crops, each independent of the others.

        Args:
            crops: (n, height, width, 3) uint8 BGR, of the size in the card's alignment; n may be 0.

        Returns:
            (n, dimensions) float32: the network's raw output, or at unit length where ``card.unit_output`` says so.

        Raises:
            ValueError: another shape or dtype.
        """
        ...


class NetworkEmbedder:
    """An ``Embedder`` around a loaded network."""

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
        """See ``Embedder``; only those who hand the file out ask for it."""
        return sha256_of(self.file)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Embedder``."""
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
    return NetworkEmbedder(card, weights, settings.engine, load(card, weights.path, settings))
