"""DeepFace's PyTorch models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from feature_extraction.engines import GPU_HINT, Network, missing_package, parse_device
from feature_extraction.weights import deepface_files
from shared.errors import EngineUnavailable, WeightsError
from shared.models import NetworkCard
from shared.settings import MEBIBYTE, ExtractionSettings, available_cores


def load(card: NetworkCard, path: Path, settings: ExtractionSettings) -> Network:
    """Build DeepFace's network for a card and load its weights.

    Raises:
        SettingsError: EXECUTION_PROVIDERS is malformed.
        EngineUnavailable: PyTorch, the model in DeepFace, or the device that was asked for is not there.
        WeightsError: the file is damaged, or is not a network for this card.
    """
    device = parse_device(settings.execution_providers, "pytorch")
    try:
        import torch

        module, name = deepface_files.model_class(card, "pytorch")
    except ImportError as error:
        raise missing_package("pytorch", error, "pip install -r requirements-pytorch.txt") from error
    _configure(torch, device, settings)
    if card.name == "facenet":
        model = module.InceptionResNetV1()
        _load_facenet(torch, model, path)
    else:
        model = _deepface_model(getattr(module, name), path, settings)
    return TorchNetwork(torch, model, device)


def _configure(torch: Any, device: str, settings: ExtractionSettings) -> None:
    torch.set_num_threads(settings.compute_threads or available_cores())
    if device != "cuda":
        return
    if not torch.cuda.is_available():
        raise EngineUnavailable(f"EXECUTION_PROVIDERS asks for cuda, but PyTorch finds no GPU; {GPU_HINT}.")
    if settings.gpu_memory_mib:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, settings.gpu_memory_mib * MEBIBYTE / total))


def _load_facenet(torch: Any, model: Any, path: Path) -> None:
    from feature_extraction.weights import facenet_h5

    state = facenet_h5.torch_state(facenet_h5.read_layers(path))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in state.items()}
    try:
        result = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path} is not a FaceNet weight file: {error}.") from error
    # Counters of batches matter to training only; the file has none.
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise WeightsError(f"{path} is not a FaceNet weight file: {[*missing, *result.unexpected_keys][0]}.")


def _deepface_model(client: Any, path: Path, settings: ExtractionSettings) -> Any:
    try:
        with deepface_files.deepface_home(settings.deepface_home):
            return client().model
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} is damaged or is not a weight file of this model.") from error


class TorchNetwork(Network):
    """A PyTorch module in inference mode."""

    def __init__(self, torch: Any, model: Any, device: str) -> None:
        self.device = device
        self.lanes = 1
        self._torch = torch
        self._model = model.eval().to(device, memory_format=torch.channels_last)

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            # (n, height, width, 3) seen as (n, 3, height, width) is what PyTorch calls channels_last: no copy.
            pixels = self._torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
            return np.asarray(self._model(pixels).cpu().numpy(), np.float32)
