"""Frames of videos, cameras and streams."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from shared.errors import InvalidRequest
from shared.images import Pixels

_QUALITY = 95

MOMENT = 0.5
"""Seconds after which whoever waits for a frame is told that there is none yet."""

SILENT_SECONDS = 10.0
"""A camera that gives no frame for longer is lost."""

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
_LET_GO_SECONDS = 1.0

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

    Reads in a thread of its own. A camera or stream that breaks off or is silent is opened again and again; a video
    ends.

    Args:
        source: number of a camera, address of a stream, or path of a video.

    Raises:
        InvalidRequest: it cannot be opened.
    """

    def __init__(self, source: int | str | Path) -> None:
        self._source = source
        self._lasts = not isinstance(source, Path)
        self._latest: Frame | None = None
        self._news = threading.Condition()
        self._closed = threading.Event()
        self._broken = False
        self._said_lost = False
        self.ended = False
        """Whether no frame will follow."""
        capture = self._open()
        self._began = time.monotonic()
        self._frame_came = 0.0
        self._thread = threading.Thread(target=self._run, args=(capture,), name="camera", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Time since it was opened."""
        return time.monotonic() - self._began

    @property
    def lost(self) -> bool:
        """Whether it gives no frames: it has broken off, or is silent."""
        return self._lasts and (self._broken or self.seconds - self._frame_came > SILENT_SECONDS)

    def change(self) -> str | None:
        """What has happened since this was last asked: ``camera_lost`` or ``camera_back``, None when neither has."""
        if (lost := self.lost) == self._said_lost:
            return None
        self._said_lost = lost
        return "camera_lost" if lost else "camera_back"

    def frames(self, every: float) -> Iterator[Frame | None]:
        """The latest frame, again and again, at most one in so many seconds; in between None, at least every moment."""
        due = 0.0
        while True:
            frame = None
            if (early := due - self.seconds) > 0:
                time.sleep(min(early, MOMENT))
            elif (frame := self.next(MOMENT)) is not None:
                due = frame.seconds + every
            elif self.ended:
                return
            yield frame

    def next(self, patience: float) -> Frame | None:
        """The latest frame, once there is one that was not given yet; None when none comes within so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self._latest is not None or self.ended, patience)
            frame, self._latest = self._latest, None
            return frame

    def latest(self) -> Frame | None:
        """The latest frame, unless it was given already."""
        return self.next(0)

    def close(self) -> None:
        """Let go of the camera: at once, or when what it is waited for comes or is given up."""
        self._closed.set()
        self._thread.join(_LET_GO_SECONDS)

    def _run(self, capture: cv2.VideoCapture) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                if self._read(capture):
                    pause = _FIRST_PAUSE
                self._broken = True
                while self._lasts and not self._closed.wait(pause):
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    with suppress(InvalidRequest):
                        capture = self._open()
                        break
                else:
                    return
        finally:
            with self._news:
                self.ended = True
                self._news.notify_all()

    def _read(self, capture: cv2.VideoCapture) -> bool:
        """Take frames until there are no more; returns whether there were any."""
        rate = capture.get(cv2.CAP_PROP_FPS)
        period = 1 / rate if not self._lasts and rate > 0 else 0.0
        count = 0
        while not self._closed.is_set():
            known, pixels = capture.read()
            if not known:
                break
            if (early := count * period - self.seconds) > 0:
                time.sleep(early)
            count += 1
            with self._news:
                self._frame_came, self._broken = self.seconds, False
                self._latest = Frame(self._frame_came, np.asarray(pixels, np.uint8))
                self._news.notify_all()
        capture.release()
        return count > 0

    def _open(self) -> cv2.VideoCapture:
        what = "The camera" if isinstance(self._source, int) else "The stream" if self._lasts else "The video"
        return _opened(self._source, f"{what} {self._source} cannot be opened.", SILENT_SECONDS)


def _opened(source: int | str | Path, refusal: str, patience: float = 30.0) -> cv2.VideoCapture:
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
