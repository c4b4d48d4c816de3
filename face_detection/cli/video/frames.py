"""Videos, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from shared.errors import InvalidRequest
from shared.images import Pixels

_QUALITY = 95

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what a broken video has to say is said here, in one line


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        seconds: since the beginning.
        pixels: (height, width, 3) uint8 BGR.
    """

    seconds: float
    pixels: Pixels

    def jpeg(self) -> bytes:
        """As a JPEG file."""
        _, encoded = cv2.imencode(".jpg", self.pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return encoded.tobytes()


class Video:
    """A file that is read as fast as it is worked on.

    Raises:
        InvalidRequest: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._capture = opened(path, "It cannot be read as a video.")
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.duration = frames / self._rate if self._rate > 0 and frames > 0 else None
        """Seconds, as the file says; None when it does not."""

    def frames(self, every: float) -> Iterator[Frame]:
        """A frame for each period of so many seconds, the first one at 0."""
        due, count = 0.0, 0
        try:
            while self._capture.grab():
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if seconds <= 0 and self._rate > 0:  # some files have no times
                    seconds = count / self._rate
                count += 1
                # Half a millisecond of patience for times that are rounded.
                if seconds + 0.0005 < due:
                    continue
                due = max(due + every, seconds)
                known, pixels = self._capture.retrieve()
                if known:
                    yield Frame(seconds, np.asarray(pixels, np.uint8))
        finally:
            self._capture.release()


def opened(source: int | str | Path, refusal: str, patience: float = 30.0) -> cv2.VideoCapture:
    """Something that gives pictures.

    Args:
        source: number or device of a camera, address of a stream, or path of a file.
        refusal: what to say when it cannot be opened.
        patience: seconds in which a stream must open, and in which it must give each of its pictures.

    Raises:
        InvalidRequest: it cannot be opened.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    if isinstance(source, str) and "://" in source:
        limit = round(1000 * patience)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    else:  # other backends refuse limits that they do not know
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        raise InvalidRequest(refusal)
    return capture
