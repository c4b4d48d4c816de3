"""DeepFace's Keras models in TensorFlow, run as one compiled graph."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from feature_extraction.engines import GPU_HINT, Network, missing_package, parse_device
from feature_extraction.weights import deepface_files
from shared.errors import EngineUnavailable, WeightsError
from shared.models import NetworkCard
from shared.settings import ExtractionSettings, available_cores

log = logging.getLogger(__name__)


def load(card: NetworkCard, path: Path, settings: ExtractionSettings) -> Network:
    """Build DeepFace's network for a card and load its weights.

    Raises:
        SettingsError: EXECUTION_PROVIDERS is malformed.
        EngineUnavailable: TensorFlow, the model in DeepFace, or the device that was asked for is not there.
        WeightsError: the file is damaged, or is not a network for this card.
    """
    device = parse_device(settings.execution_providers, "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise missing_package("tensorflow", error, "pip install -r requirements-tensorflow.txt") from error
    _configure(tensorflow, device, settings)
    try:
        module, name = deepface_files.model_class(card, "tensorflow")
    except ImportError as error:
        raise missing_package("tensorflow", error, "pip install -r requirements-tensorflow.txt") from error
    with tensorflow.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        if card.name == "facenet":
            model = module.InceptionResNetV1()
            _load_facenet(model, path)
        else:
            model = _deepface_model(getattr(module, name), path, settings)
    return TensorflowNetwork(tensorflow, model, card, device)


def _configure(tensorflow: Any, device: str, settings: ExtractionSettings) -> None:
    gpus = tensorflow.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise EngineUnavailable(f"EXECUTION_PROVIDERS asks for cuda, but TensorFlow finds no GPU; {GPU_HINT}.")
    threads = settings.compute_threads or available_cores()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        if device == "cpu":
            tensorflow.config.set_visible_devices([], "GPU")
        elif settings.gpu_memory_mib:
            limit = tensorflow.config.LogicalDeviceConfiguration(memory_limit=settings.gpu_memory_mib)
            tensorflow.config.set_logical_device_configuration(gpus[0], [limit])
        else:
            tensorflow.config.experimental.set_memory_growth(gpus[0], True)
    except RuntimeError as error:
        # TensorFlow takes these only before its first operation; a process that opens a second network keeps them.
        log.warning("TensorFlow was already running, its threads and GPU memory stay as they are: %s", error)


def _load_facenet(model: Any, path: Path) -> None:
    from feature_extraction.weights import facenet_h5

    layers = {layer.name: layer for layer in model.layers if layer.weights}
    weights = facenet_h5.keras_weights(facenet_h5.read_layers(path), frozenset(layers))
    try:
        for name, layer in layers.items():
            layer.set_weights(weights[name])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} is not a FaceNet weight file: {error}.") from error


def _deepface_model(client: Any, path: Path, settings: ExtractionSettings) -> Any:
    try:
        with deepface_files.deepface_home(settings.deepface_home):
            return client().model
    except ValueError as error:
        if error.__cause__ is None:  # DeepFace refuses this version of TensorFlow
            raise EngineUnavailable(f"{error} Or use ENGINE=onnx.") from error
        raise WeightsError(f"{path} is damaged or is not a weight file of this model.") from error


class TensorflowNetwork(Network):
    """A Keras model as a compiled graph with a dynamic batch."""

    def __init__(self, tensorflow: Any, model: Any, card: NetworkCard, device: str) -> None:
        self.device = device
        self.lanes = 1
        self._constant = tensorflow.constant
        shape = (None, card.alignment.height, card.alignment.width, 3)

        listed = isinstance(model.input, list)  # some of DeepFace's models take a list with one input
        graph = tensorflow.function(lambda batch: model([batch] if listed else batch, training=False))
        self._forward = graph.get_concrete_function(tensorflow.TensorSpec(shape, tensorflow.float32))

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._forward(self._constant(batch)).numpy(), np.float32)
