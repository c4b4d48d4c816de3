"""Finding faces and their landmarks: of every size, and whichever way the heads are turned.

A network finds faces of about 10 to 500 pixels that stand upright. So it is shown more than the picture at one scale
where that may miss faces, and looks again, closely, at what it is not sure of; ``docs/models.md`` has the measurements.

1. The picture with a longer side of ``detection_max_side``. A larger face than the network can see in that is found
   with an ``overview``; smaller faces of a large picture, in tiles.
2. Where nothing was found, or in any case if ``thorough``, the same turned by each of ``detection_angles``.
3. What is doubtful is cut out and turned all ways, by eighths too: upside-down heads are found upright, with the mouth
   taken for eyes, and only the score tells. Faces below the least score may turn out to be turned ones, or clear ones
   at this size.
4. Tilted heads are cut out and turned upright for another look: their landmarks fall beside them, where an upright head
   would have them.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.recognition.views import (
    ANGLE,
    INSIDE,
    NO_ROWS,
    SCORE,
    Part,
    Rows,
    Tiles,
    View,
    cut,
    merged,
    scaled,
    whole,
)
from shared.errors import WeightsError
from shared.geometry import Box, Face, Landmarks
from shared.images import Pixels, Preview
from shared.models import YUNET, Effort
from shared.settings import FrontSettings

_LEAST_SIDE = 64

_CANDIDATE = 0.3
"""Least score of what is worth another look."""

_SURE = 0.9
"""Score from which on there is no doubt that it is a face, and upright: turned ones had at most 0.89."""

_RESCUED = 0.86
"""Least score, at the size of a close look, of a face that was below the least score at its own."""

_TURNED = 0.8
"""Least score of the right way round for a face that was found the wrong way round."""

_UNSEEN = 0.8
"""Least score of a face of which nothing is seen at the size of a close look."""

_RESCUES = 8
"""Candidates below the least score that are looked at again, the best ones."""

_LARGEST = 640
"""A picture with a longer side of more pixels may show a face that is too large for the network."""

_OVERVIEW = 192
_TURNED_SIDE = 320
_TILE, _OVERLAP = 768, 96
_SEEN = 19
"""Pixels that a face must have to be found."""

_COARSER = 4
"""How much coarser each scale of tiles is than the next finer one."""

_GAIN = 1.25
"""A scale that is finer by less than this is not worth its time."""

_LOOK, _LOOKS, _CLOSE, _CONTEXT = 64, 4, 192, 1.6
_LEVEL, _LEVELLINGS = 128, 2
_OFF_CENTRE = 0.2

_TILT = 6
"""Degrees of roll from which on landmarks are looked for again: they show about half of what a head is tilted by."""

_HALFWAY = 45
"""Degrees from a quarter to between two that are looked for: heads tilted so get landmarks of ones that are not."""

LOOKS: Mapping[str, float] = MappingProxyType(
    {
        "candidate": _CANDIDATE,
        "sure": _SURE,
        "rescued": _RESCUED,
        "turned": _TURNED,
        "unseen": _UNSEEN,
        "rescues": _RESCUES,
        "largest": _LARGEST,
        "overview": _OVERVIEW,
        "turned_side": _TURNED_SIDE,
        "tile": _TILE,
        "overlap": _OVERLAP,
        "seen": _SEEN,
        "coarser": _COARSER,
        "gain": _GAIN,
        "look": _LOOK,
        "looks": _LOOKS,
        "halfway": _HALFWAY,
        "tilt": _TILT,
        "level": _LEVEL,
        "levellings": _LEVELLINGS,
        "close": _CLOSE,
        "context": _CONTEXT,
        "off_centre": _OFF_CENTRE,
        "inside": INSIDE,
    }
)
"""All of these, for programs elsewhere that look as this one does."""


class Detector(ABC):
    """Finds the faces of a picture. Safe to call from several threads.

    A kind of network is a subclass that gives its ``candidates``.

    Args:
        settings: working size, effort, angles, score, overlap and size limits.
    """

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._angles = settings.detection_turns
        between = [angle + _HALFWAY for angle in self._angles if (angle + 2 * _HALFWAY) % 360 in self._angles]
        self._tilts = [*self._angles, *between]
        self._sure = max(_SURE, settings.detection_score)

    @abstractmethod
    def candidates(self, pixels: Pixels) -> NDArray[np.float64]:
        """What may be upright faces of about 10 to 500 pixels.

        Args:
            pixels: (height, width, 3) uint8 BGR in sRGB.

        Returns:
            (n, 15) float64: the first 15 columns of ``views.Rows``, in these pixels. Scores are at least 0.3, and no
            two boxes overlap by more than the setting ``detection_nms``.
        """

    @property
    def least_side(self) -> int:
        """Longer side of a picture that is enough, in pixels, where ``least_scale`` is, too."""
        return self._settings.detection_max_side

    def least_scale(self, effort: Effort | None = None) -> float:
        """Scale at which a large picture is looked at: more of its pixels are not needed, up to 1."""
        times = 1 if (effort or self._settings.detection) == "thorough" else 2
        return min(1.0, _SEEN / (self._settings.min_face * times))

    def detect(self, picture: Preview, effort: Effort | None = None) -> list[Face]:
        """Find faces.

        Args:
            picture: reduced to no less than ``least_side`` and ``least_scale``.
            effort: how hard to look; as the setting says when None.

        Returns:
            Faces in pixels of the picture at full scale, best score first. Their boxes lie within the picture.
        """
        effort = effort or self._settings.detection
        working = scaled(picture, self._settings.detection_max_side)
        levels = [*self._tiled(picture, effort), self._find(whole(working))]
        if max(working.pixels.shape) > _LARGEST:
            levels.append(self._find(whole(scaled(working, _OVERVIEW))))
        rows = self._merged(levels)
        if effort == "thorough" or not (rows[:, SCORE] >= self._settings.detection_score).any():
            view = whole(working if effort == "thorough" else scaled(working, _TURNED_SIDE))
            rows = self._merged([rows, *(self._find(view.turned(angle)) for angle in self._angles if angle)])
        rows = self._merged([self._looked_at(rows, picture, working)])
        faces = [face for row in rows if (face := self._face(self._levelled(row, picture, working), picture))]
        return faces[: self._settings.max_faces]

    def _tiled(self, picture: Preview, effort: Effort) -> Iterator[Rows]:
        """What is seen at each finer scale than the working one, the finest first."""
        scale = self.least_scale(effort)
        while scale * max(picture.width, picture.height) > _GAIN * self._settings.detection_max_side:
            tiles = Tiles(scale, _TILE, _OVERLAP)
            found = [tiles.whole_faces(view, self._find(view), picture) for view in tiles.views(picture)]
            yield self._merged(found)
            scale /= _COARSER

    def _looked_at(self, rows: Rows, picture: Preview, working: Preview) -> Rows:
        """The rows that are faces, each of them the right way round."""
        least = self._settings.detection_score
        sure = rows[:, SCORE] >= self._sure
        found = ~sure & (rows[:, SCORE] >= least)
        if len(self._angles) == 1:
            sure, found = sure | found, np.zeros_like(found)
        doubtful = np.concatenate([rows[found], rows[~sure & ~found][:_RESCUES]])
        kept = [rows[sure]]
        for start in range(0, len(doubtful), _LOOKS):
            some = doubtful[start : start + _LOOKS]
            for row, scores in zip(some, self._looks(some, picture, working), strict=True):
                # Without confirmation a turned view shows more faces where nobody is than an upright one.
                upright = row[SCORE] >= least and row[ANGLE] == 0
                best = max(self._tilts if row[SCORE] >= least else self._angles, key=lambda angle: scores[angle])
                if upright and row[SCORE] < _UNSEEN and not any(scores[angle] for angle in self._angles):
                    continue
                if upright and (best == 0 or scores[best] < _TURNED):
                    kept.append(row[np.newaxis])
                elif upright or scores[best] >= _RESCUED:
                    view = cut(_source(row, picture, working), Part.around(row, _CONTEXT), (_CLOSE, _CLOSE))
                    close = _central(self._find(view.turned(best)), view.part)
                    if len(close) and close[0, SCORE] >= least:
                        kept.append(close[:1])
                    elif upright:
                        kept.append(row[np.newaxis])
        return np.concatenate(kept)

    def _looks(self, rows: Rows, picture: Preview, working: Preview) -> list[dict[int, float]]:
        """Score of each face at each angle, at a small size, all in one picture: a line of views for each face."""
        views = [
            [view.turned(angle) for angle in self._tilts]
            for view in (
                cut(_source(row, picture, working), Part.around(row, _CONTEXT), (_LOOK, _LOOK)) for row in rows
            )
        ]
        mosaic = np.vstack([np.hstack([view.pixels for view in line]) for line in views])
        seen = self.candidates(mosaic)
        scores = []
        for y in range(len(rows)):
            cells = {}
            for x, angle in enumerate(self._tilts):
                found = _central(seen, Part(x * _LOOK, y * _LOOK, _LOOK, _LOOK))
                cells[angle] = float(found[:, SCORE].max()) if len(found) else 0.0
            scores.append(cells)
        return scores

    def _levelled(self, row: NDArray[np.float64], picture: Preview, working: Preview) -> NDArray[np.float64]:
        """The row with the landmarks that are seen once the head is upright."""
        view: View | None = None
        for _ in range(_LEVELLINGS):
            roll = _landmarks(row).roll
            if abs((roll - row[ANGLE] + 180) % 360 - 180) < _TILT:
                break
            view = view or cut(_source(row, picture, working), Part.around(row, _CONTEXT), (_LEVEL, _LEVEL))
            close = _central(self._find(view.turned(roll)), view.part)
            if not len(close) or close[0, SCORE] < self._settings.detection_score:
                break
            row = np.concatenate([row[:4], close[0, 4:SCORE], row[SCORE:ANGLE], close[0, ANGLE:]])
        return row

    def _find(self, view: View) -> Rows:
        return view.place(self.candidates(view.pixels))

    def _merged(self, levels: Sequence[Rows]) -> Rows:
        return merged(levels, self._sure, self._settings.detection_nms)

    def _face(self, row: NDArray[np.float64], picture: Preview) -> Face | None:
        """The face, if it is one: large enough within the picture, and with landmarks that can be aligned."""
        x, y, right, bottom = row[0], row[1], row[0] + row[2], row[1] + row[3]
        left, top = round(x), round(y)
        box = Box(left, top, round(right) - left, round(bottom) - top).within(picture.width, picture.height)
        landmarks = _landmarks(row)
        if box is None or min(box.width, box.height) < self._settings.min_face or not landmarks.plausible:
            return None
        return Face(box, landmarks, min(1.0, float(row[SCORE])))


class YuNet(Detector):
    """YuNet through OpenCV (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023).

    OpenCV's detector is stateful, so every thread has its own: one for large views and one for small ones, as it
    allocates its memory anew when the size changes much.

    Args:
        settings: weights folder, and as for every detector.

    Raises:
        WeightsError: the weight file is missing or not the expected one.
    """

    def __init__(self, settings: FrontSettings) -> None:
        super().__init__(settings)
        self._file = _checked(settings.weights / YUNET.file)
        self._local = threading.local()

    @override
    def candidates(self, pixels: Pixels) -> NDArray[np.float64]:
        # With a side of 32 pixels or less OpenCV 4.14 gives faces made of uninitialised memory.
        height, width = (max(0, _LEAST_SIDE - side) for side in pixels.shape[:2])
        if height or width:
            pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, height, 0, width, cv2.BORDER_CONSTANT), np.uint8)
        detector = self._detector("small" if pixels.size <= 3 * 512 * 256 else "large")
        detector.setInputSize((pixels.shape[1], pixels.shape[0]))
        # OpenCV's stub leaves out that there may be no rows at all.
        rows: NDArray[Any] | None = detector.detect(pixels)[1]
        return NO_ROWS[:, :15] if rows is None else rows.astype(np.float64)

    def _detector(self, views: str) -> cv2.FaceDetectorYN:
        detector: cv2.FaceDetectorYN | None = getattr(self._local, views, None)
        if detector is None:
            least = min(_CANDIDATE, self._settings.detection_score)
            detector = cv2.FaceDetectorYN.create(str(self._file), "", (320, 320), least, self._settings.detection_nms)
            setattr(self._local, views, detector)
        return detector


def _landmarks(row: NDArray[np.float64]) -> Landmarks:
    return Landmarks(*((float(row[i]), float(row[i + 1])) for i in range(4, 14, 2)))


def _source(row: NDArray[np.float64], picture: Preview, working: Preview) -> Preview:
    """The picture from which a face is cut that is to be looked at again: the smaller one, unless it would grow."""
    scale = working.pixels.shape[1] / working.width
    return working if max(row[2], row[3]) * scale >= _CLOSE / _CONTEXT else picture


def _central(rows: NDArray[np.float64], part: Part) -> NDArray[np.float64]:
    """The rows near to the middle of a part, best score first."""
    x, y = rows[:, 0] + rows[:, 2] / 2 - part.left, rows[:, 1] + rows[:, 3] / 2 - part.top
    off = np.maximum(np.abs(x / part.width - 0.5), np.abs(y / part.height - 0.5))
    near = rows[off <= _OFF_CENTRE]
    return near[np.argsort(-near[:, SCORE])]


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
