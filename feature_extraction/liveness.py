"""Liveness: whether a face is a person before the camera, or a picture of one on paper or on a screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from feature_extraction.engines import Network, parse_devices
from feature_extraction.weights import store
from shared.images import Pixels
from shared.models import MINIFASNET, LivenessCard
from shared.settings import ExtractionSettings

Scores = NDArray[np.float32]

_CLASSES, _REAL = 3, 1
"""Classes that each network tells apart, and which of them is a real face."""


class LivenessCheck:
    """Scores faces with the networks of a card.

    Attributes:
        card: what the networks look at, and from which score on a face counts as real.
        device: where the networks run: cpu, cuda or tensorrt.
        lanes: how many calls of ``runs`` from different threads make good use of the hardware at once.
        runs: what gives the scores, once ``join`` has put together what they give: one call for each network. They may
            be called at the same time.
    """

    def __init__(self, card: LivenessCard, networks: list[Network]) -> None:
        self.card = card
        self.device = networks[0].device
        self.lanes = networks[0].lanes
        self.runs: Sequence[Callable[[Pixels], Scores]] = [
            partial(self._run, network, number) for number, network in enumerate(networks)
        ]

    def score(self, views: Pixels) -> Scores:
        """How real faces look, each independent of the others.

        Args:
            views: (n, networks, size, size, 3) uint8 BGR: what each network of the card looks at; n may be 0.

        Returns:
            (n,) float32 in [0, 1], the mean of the probabilities.

        Raises:
            ValueError: another shape or dtype.
        """
        wanted = (len(self.runs), self.card.size, self.card.size, 3)
        if views.dtype != np.uint8 or views.ndim != 5 or views.shape[1:] != wanted:
            raise ValueError(f"views must be uint8 of shape (n, {', '.join(map(str, wanted))}), not {views.shape}")
        if not len(views):
            return np.empty(0, np.float32)
        return self.join([run(views) for run in self.runs])

    def join(self, outputs: Sequence[Scores]) -> Scores:
        """The scores, (n,) float32, from what each of ``runs`` has given for the same faces."""
        return np.asarray(np.mean(outputs, axis=0), np.float32)

    def _run(self, network: Network, number: int, views: Pixels) -> Scores:
        return network.run(views[:, number].astype(np.float32))[:, _REAL]


def open_liveness(settings: ExtractionSettings, progress: bool = False) -> LivenessCheck:
    """Load the liveness check; its weights are fetched if they are absent.

    ONNX Runtime runs it, whatever runs the model: on the model's devices where it runs that too, else on the CPU.

    Raises:
        SettingsError: EXECUTION_PROVIDERS is malformed.
        WeightsError: the weights are missing or damaged and cannot be fetched.
        EngineUnavailable: ONNX Runtime or the device that was asked for is not there.
    """
    from feature_extraction.engines.onnx import load_network

    devices = parse_devices(settings.execution_providers) if settings.engine == "onnx" else ["cpu"]
    size = (MINIFASNET.size, MINIFASNET.size)
    networks = [
        load_network(f"LIVENESS={settings.liveness}", path, size, _CLASSES, devices, settings)
        for path in store.ensure_liveness(settings.weights, progress)
    ]
    return LivenessCheck(MINIFASNET, networks)
