"""The real networks, which look at each picture once in a test run: hundreds of tests send the same photos."""

from __future__ import annotations

import time
from hashlib import sha1
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.recognition.detection import YuNet
from feature_extraction.embedder import Embedder
from shared.geometry import Face
from shared.images import Preview
from shared.models import Effort


class RememberedEmbedder:
    """An ``Embedder`` that lets another compute each crop once; those it knows take so many seconds each."""

    def __init__(self, embedder: Embedder, seconds: float = 0) -> None:
        self._embedder = embedder
        self._seconds = seconds
        self._known: dict[bytes, NDArray[np.float32]] = {}
        self.runs = [self.embed]
        self.join = itemgetter(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        keys = [sha1(np.ascontiguousarray(crop)).digest() for crop in crops]
        rows = {key: row for row, key in enumerate(keys) if key not in self._known}
        if rows or not keys:
            self._known |= zip(rows, self._embedder.embed(crops[list(rows.values())]), strict=True)
        time.sleep(self._seconds * (len(keys) - len(rows)))
        embeddings = [self._known[key] for key in keys]
        return np.array(embeddings, np.float32).reshape(len(keys), self._embedder.card.dimensions)


class RememberedYuNet(YuNet):
    """A detector that searches each picture once with the same settings."""

    _known: ClassVar[dict[tuple[object, ...], list[Face]]] = {}

    @override
    def detect(self, picture: Preview, effort: Effort | None = None) -> list[Face]:
        if picture.colours is not None:
            return super().detect(picture, effort)
        pixels = np.ascontiguousarray(picture.pixels)
        limits = self._settings
        key = (sha1(pixels).digest(), pixels.shape, picture.width, picture.height, limits.detection_max_side)
        key += (limits.detection_score, limits.detection_nms, limits.min_face, limits.max_faces)
        key += (effort or limits.detection, limits.detection_angles)
        if key not in self._known:
            self._known[key] = super().detect(picture, effort)
        return list(self._known[key])
