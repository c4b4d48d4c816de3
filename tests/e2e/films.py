"""Films for the camera of a test's browser: a .mjpeg is nothing but JPEGs, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = (640, 480)
_FRAMES = 60


def sway_photos(photos: Sequence[Path], film: Path) -> None:
    """Photos side by side, cut at the bottom or at both sides so that they fill the frame, swaying."""
    width = _SIZE[0] // len(photos)
    still = np.hstack([_fit(photo, width) for photo in photos])
    with film.open("wb") as file:
        for turn in np.linspace(0, 2 * np.pi, _FRAMES, endpoint=False):
            moved = np.array([[1, 0, 12 * np.sin(turn)], [0, 1, 6 * np.cos(turn)]])
            file.write(_jpeg(cv2.warpAffine(still, moved, _SIZE)))


def copy_clip(clip: Path, film: Path, seconds: float) -> None:
    """The beginning of a clip, in the size of the camera."""
    reader = cv2.VideoCapture(str(clip))
    frames = round(reader.get(cv2.CAP_PROP_FPS) * seconds)
    with film.open("wb") as file:
        for _ in range(frames):
            good, frame = reader.read()
            if not good:
                break
            file.write(_jpeg(cv2.resize(frame, _SIZE)))
    reader.release()


def _fit(photo: Path, width: int) -> NDArray[np.uint8]:
    picture = cv2.imread(str(photo))
    assert picture is not None
    tall, wide = picture.shape[:2]
    used = min(wide, tall * width // _SIZE[1])
    left = (wide - used) // 2
    picture = picture[: used * _SIZE[1] // width, left : left + used]
    return cv2.resize(picture, (width, _SIZE[1]), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _jpeg(picture: NDArray[Any]) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()
