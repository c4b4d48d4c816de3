"""Finding faces and their landmarks."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from shared.errors import WeightsError
from shared.geometry import Box, Face, Landmarks
from shared.images import Preview
from shared.models import YUNET
from shared.settings import FrontSettings

_LEAST_SIDE = 64


class Detector(Protocol):
    """Finds the faces of a picture. Safe to call from several threads."""

    def detect(self, picture: Preview) -> list[Face]:
        """Find faces.

        Returns:
            Faces in pixels of the picture at full scale, best score first. Their boxes lie within the picture.
        """
        ...


class YuNet(Detector):
    """YuNet through OpenCV (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023).

    OpenCV's detector is stateful, so every thread has its own.

    Args:
        settings: weights folder, working size, score, overlap and size limits.

    Raises:
        WeightsError: the weight file is missing or not the expected one.
    """

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._file = _checked(settings.weights / YUNET.file)
        self._local = threading.local()

    @override
    def detect(self, picture: Preview) -> list[Face]:
        pixels = picture.pixels
        height, width = pixels.shape[:2]
        scale = min(1.0, self._settings.detection_max_side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = pixels if scale == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        small = picture.to_srgb(np.asarray(small, np.uint8))
        # With a side of 32 pixels or less OpenCV 4.14 gives faces made of uninitialised memory.
        missing_height, missing_width = max(0, _LEAST_SIDE - size[1]), max(0, _LEAST_SIDE - size[0])
        if missing_height or missing_width:
            small = cv2.copyMakeBorder(small, 0, missing_height, 0, missing_width, cv2.BORDER_CONSTANT)
        detector = self._detector()
        detector.setInputSize((small.shape[1], small.shape[0]))
        # OpenCV's stub leaves out that there may be no rows at all.
        rows: NDArray[Any] | None = detector.detect(small)[1]
        if rows is None:
            return []
        # Each axis has its own factor: the sides were rounded to whole pixels.
        factors = np.array([picture.width / size[0], picture.height / size[1]] * 7)
        faces = []
        for row in np.hstack([rows[:, :14] * factors, rows[:, 14:]]):
            box = _box(row).within(picture.width, picture.height)
            if box and min(box.width, box.height) >= self._settings.min_face:
                faces.append(_face(row, box))
        return sorted(faces, key=lambda face: -face.score)[: self._settings.max_faces]

    def _detector(self) -> cv2.FaceDetectorYN:
        detector: cv2.FaceDetectorYN | None = getattr(self._local, "detector", None)
        if detector is None:
            detector = cv2.FaceDetectorYN.create(
                str(self._file), "", (320, 320), self._settings.detection_score, self._settings.detection_nms
            )
            self._local.detector = detector
        return detector


def _box(row: NDArray[np.float64]) -> Box:
    """Of the columns x, y, width, height; where the picture cuts a face, beyond it."""
    x, y, right, bottom = row[0], row[1], row[0] + row[2], row[1] + row[3]
    left, top = round(x), round(y)
    return Box(left, top, round(right) - left, round(bottom) - top)


def _face(row: NDArray[np.float64], box: Box) -> Face:
    """Columns after the box's four: five landmarks x, y; score."""
    points = [(float(row[i]), float(row[i + 1])) for i in range(4, 14, 2)]
    return Face(box, Landmarks(*points), min(1.0, float(row[14])))


def _checked(file: Path) -> Path:
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(
            f"The detector's weight file {file.name} cannot be read in {file.parent}; "
            "fetch it with: python -m feature_extraction.weights fetch yunet"
        ) from error
    if digest != YUNET.sha256:
        raise WeightsError(
            f"The detector's weight file {file} is damaged (its sha256 is not the expected one); "
            "fetch it again with: python -m feature_extraction.weights fetch yunet"
        )
    return file
