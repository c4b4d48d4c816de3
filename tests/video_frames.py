"""Videos made of photos: faces that move and grow over a gray canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from shared.images import Pixels

WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True)
class Actor:
    """A photo that is seen from ``start`` until before ``end``, in frames.

    Attributes:
        photo: the picture.
        left: of the photo in the first frame, in pixels.
        step: pixels to the right from frame to frame.
        growth: factor from frame to frame.
    """

    photo: Path
    left: float
    step: float = 0
    growth: float = 1
    start: int = 0
    end: int = 1000


def frame_at(actors: Sequence[Actor], number: int, side: int = 200) -> Pixels:
    """A frame of the video.

    Returns:
        (360, 640, 3) uint8 BGR.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for actor in actors:
        if actor.start <= number < actor.end:
            age = number - actor.start
            size = round(side * actor.growth**age)
            picture = cv2.resize(_head(actor.photo), (size, size), interpolation=cv2.INTER_AREA)
            left, top = round(actor.left + actor.step * age), (HEIGHT - size) // 2
            x0, x1 = max(left, 0), min(left + size, WIDTH)
            y0, y1 = max(top, 0), min(top + size, HEIGHT)
            if x0 < x1:
                canvas[y0:y1, x0:x1] = picture[y0 - top : y1 - top, x0 - left : x1 - left]
    return canvas


def encoded(pixels: Pixels, quality: int = 90) -> bytes:
    """As JPEG."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_video(path: Path, frames: Sequence[Pixels], fps: float, codec: str = "MJPG") -> None:
    """In the container that the suffix names; every OpenCV can write Motion JPEG in an AVI file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


_HEADS = {"obama.jpg": (271, 31, 440), "obama2.jpg": (84, 174, 500), "obama3.jpg": (535, 193, 480)}
_HEADS["biden.jpg"] = (320, 125, 500)
"""Left, top and side of the square around the head, in pixels."""


@cache
def _head(photo: Path) -> Pixels:
    left, top, side = _HEADS[photo.name]
    return np.asarray(cv2.imread(str(photo))[top : top + side, left : left + side], np.uint8)
