"""The runtimes that execute a network. Each is imported only when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from shared.errors import EngineUnavailable, SettingsError

DEVICES = ("cpu", "cuda", "tensorrt")

GPU_HINT = "install it with `pip install -r requirements-gpu.txt` on a machine with an NVIDIA driver"


class Network(ABC):
    """A loaded network, ready to run. Safe to use from several threads.

    Attributes:
        device: where it runs: cpu, cuda or tensorrt.
        lanes: how many calls of ``run`` from different threads make good use of the hardware at once.
    """

    device: str
    lanes: int

    @abstractmethod
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One forward pass.

        Args:
            batch: (n, height, width, 3) float32, normalised, n > 0.

        Returns:
            (n, dimensions) float32.
        """


def parse_devices(text: str) -> list[str]:
    """The devices of the setting EXECUTION_PROVIDERS in their order, each once.

    Raises:
        SettingsError: an unknown device, or none.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DEVICES]
    if unknown or not names:
        raise SettingsError(f"EXECUTION_PROVIDERS={text} must list some of {', '.join(DEVICES)}.")
    return list(dict.fromkeys(names))


def parse_device(text: str, engine: str) -> str:
    """The device of the setting EXECUTION_PROVIDERS for an engine that runs on the CPU or through CUDA alone.

    Raises:
        SettingsError: an unknown device, or none.
        EngineUnavailable: a device that this engine does not know.
    """
    devices = parse_devices(text)
    if "tensorrt" in devices:
        raise EngineUnavailable(f"ENGINE={engine} does not run on tensorrt; use ENGINE=onnx, or cuda.")
    return devices[0]


def missing_package(engine: str, error: ImportError, command: str) -> EngineUnavailable:
    """The error for an engine whose package cannot be imported."""
    return EngineUnavailable(f"ENGINE={engine} needs a package that is not installed ({error}): `{command}`.")
