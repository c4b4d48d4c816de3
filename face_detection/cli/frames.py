"""Videos and cameras, frame by frame."""

from __future__ import annotations

import os
import threading
import time
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
        self._capture = _opened(path, "It cannot be read as a video.")
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


class Camera:
    """A camera, a stream, or a video at its own pace, of which always the latest frame is wanted.

    Reads in a thread of its own.

    Args:
        source: number of a camera, address of a stream, or path of a video.

    Raises:
        InvalidRequest: it cannot be opened.
    """

    def __init__(self, source: int | str | Path) -> None:
        what = "The camera" if isinstance(source, int) else "The video" if isinstance(source, Path) else "The stream"
        self._capture = _opened(source, f"{what} {source} cannot be opened.")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._period = 1 / rate if isinstance(source, Path) and rate > 0 else 0.0
        self._began = time.monotonic()
        self._latest: Frame | None = None
        self._news = threading.Condition()
        self._closed = False
        self.ended = False
        """Whether no frame will follow."""
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def frames(self, every: float) -> Iterator[Frame]:
        """The latest frame, again and again, at most one in so many seconds."""
        while (frame := self.next()) is not None:
            yield frame
            time.sleep(max(0.0, frame.seconds + every - (time.monotonic() - self._began)))

    def next(self) -> Frame | None:
        """The latest frame, once there is one that was not given yet; None when there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._latest is not None or self.ended)
            frame, self._latest = self._latest, None
            return frame

    def latest(self) -> Frame | None:
        """The latest frame, unless it was given already."""
        with self._news:
            frame, self._latest = self._latest, None
            return frame

    def close(self) -> None:
        """Let go of the camera."""
        self._closed = True
        self._thread.join()
        self._capture.release()

    def _read(self) -> None:
        count = 0
        while not self._closed:
            known, pixels = self._capture.read()
            if not known:
                break
            now = time.monotonic() - self._began
            if now < count * self._period:
                time.sleep(count * self._period - now)
            count += 1
            with self._news:
                self._latest = Frame(time.monotonic() - self._began, np.asarray(pixels, np.uint8))
                self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()


def _opened(source: int | str | Path, refusal: str) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        raise InvalidRequest(refusal)
    return capture
