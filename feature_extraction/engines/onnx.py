"""ONNX Runtime on the CPU, through CUDA, or through TensorRT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from feature_extraction.engines import GPU_HINT, Network, missing_package, parse_devices
from shared.errors import EngineUnavailable, WeightsError
from shared.models import NetworkCard
from shared.settings import MEBIBYTE, ExtractionSettings, available_cores

log = logging.getLogger(__name__)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_ERRORS_ONLY = 3


def load(card: NetworkCard, path: Path, settings: ExtractionSettings) -> Network:
    """Load the ONNX file of a model's network.

    Raises:
        SettingsError: EXECUTION_PROVIDERS is malformed.
        EngineUnavailable: ONNX Runtime or a device that was asked for is not there, or does not run this precision.
        WeightsError: the file is damaged, or is not a network for this card.
    """
    devices = parse_devices(settings.execution_providers)
    if settings.precision == "int8" and devices != ["cpu"]:
        raise EngineUnavailable("PRECISION=int8 is for the CPU; use EXECUTION_PROVIDERS=cpu, or PRECISION=fp32.")
    size = (card.alignment.height, card.alignment.width)
    return load_network(f"MODEL={card.name}", path, size, card.dimensions, devices, settings)


def load_network(
    name: str, path: Path, size: tuple[int, int], outputs: int, devices: list[str], settings: ExtractionSettings
) -> Network:
    """Load an ONNX file with one picture as its input and one vector as its output.

    Args:
        name: what it is for, in errors.
        path: of the file.
        size: height and width of its input in pixels.
        outputs: length of its output.
        devices: of ``parse_devices``.
        settings: threads and memory count.

    Raises:
        EngineUnavailable: ONNX Runtime or a device is not there.
        WeightsError: the file is damaged, or is not such a network.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise missing_package("onnx", error, "pip install -r requirements.txt") from error
    if devices != ["cpu"] and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds CUDA's libraries when they were installed by pip
    offered = onnxruntime.get_available_providers()
    _demand(devices, offered)
    providers = [(PROVIDERS[device], _provider_options(device, path, settings)) for device in devices]
    try:
        session = onnxruntime.InferenceSession(str(path), _session_options(onnxruntime, settings), providers=providers)
    except (state.InvalidProtobuf, state.InvalidGraph, state.NoModel, state.NoSuchFile) as error:
        raise WeightsError(f"{path} is damaged or is not an ONNX file; remove it to have it fetched again.") from error
    except (state.Fail, state.EPFail, RuntimeError) as error:
        raise EngineUnavailable(f"ONNX Runtime cannot load {path} on {', '.join(devices)}: {error}") from error
    # A provider that fails to start is only logged by ONNX Runtime, which then goes on with the CPU.
    _demand(devices, session.get_providers())
    session.disable_fallback()
    lanes = settings.compute_threads or available_cores() if devices[0] == "cpu" else 1
    shape, dimensions = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[-1]
    channels_first = shape == [3, *size]
    if not (channels_first or shape == [*size, 3]) or dimensions not in (outputs, None):
        raise WeightsError(f"{path} is not a network for {name}: {shape} to {dimensions}.")
    return OnnxNetwork(session, channels_first, devices[0], lanes)


def _demand(devices: list[str], providers: list[str]) -> None:
    absent = [device for device in devices if PROVIDERS[device] not in providers]
    if absent:
        raise EngineUnavailable(
            f"EXECUTION_PROVIDERS asks for {', '.join(absent)}, which ONNX Runtime cannot use here; {GPU_HINT}."
        )


def _session_options(onnxruntime: Any, settings: ExtractionSettings) -> Any:
    options = onnxruntime.SessionOptions()
    # One thread for each run and one run for each core: threads that share a run wait for one another at every layer.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # A memory plan is kept for every batch size that occurs; without plans the arena's chunks are shared by all.
    options.enable_mem_pattern = False
    if settings.precision == "int8" and not _has_vnni():
        # Without VNNI, ONNX Runtime's default adds products of bytes in 16 bits, which overflow.
        log.warning("This CPU has no VNNI: PRECISION=int8 brings little speed here.")
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU is known to multiply and add bytes in 32 bits."""
    try:
        return not {"avx512_vnni", "avx_vnni"}.isdisjoint(cpuinfo.read_text().split())
    except OSError:
        return False


def _provider_options(device: str, path: Path, settings: ExtractionSettings) -> dict[str, str]:
    limit = settings.gpu_memory_mib * MEBIBYTE
    if device == "cuda":
        options = {
            # Batches differ in size; doubling the arena at every growth would waste much of the GPU's memory.
            "arena_extend_strategy": "kSameAsRequested",
            # An exhaustive search is repeated for every batch size, and each takes seconds.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        return options | ({"gpu_mem_limit": str(limit)} if limit else {})
    if device == "tensorrt":
        cache = path.parent / "tensorrt"
        options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
        return options | ({"trt_max_workspace_size": str(limit)} if limit else {})
    return {}


class OnnxNetwork(Network):
    """A session of ONNX Runtime, whose input may have the channels before the rows."""

    def __init__(self, session: Any, channels_first: bool, device: str, lanes: int) -> None:
        self.device = device
        self.lanes = lanes
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name
        self._channels_first = channels_first

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        (embeddings,) = self._session.run([self._output], {self._input: batch})
        return np.asarray(embeddings, np.float32)
