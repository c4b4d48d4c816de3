"""Photos on a display, seen by a camera: what the liveness check is to tell from a face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.liveness import Studio

_LONGER_SIDE = 350


def on_display(photo: Path) -> bytes:
    """PNG of a photo on a display, seen by a camera."""
    pixels = np.asarray(cv2.imread(str(photo)), np.uint8)
    factor = _LONGER_SIDE / max(pixels.shape)
    small = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    return cv2.imencode(".png", Studio(np.random.default_rng(3), []).screen(small, 1.7))[1].tobytes()
