"""What a detector is shown of a picture, parts of it scaled and turned, and where in the picture its findings are.

Findings are rows of (n, 16) float64: the box as x, y, width and height; x and y of the five landmarks in the order of
``geometry.Landmarks``; the score; the angle, in degrees clockwise, of the heads that were looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.images import Pixels, Preview

Rows = NDArray[np.float64]

SCORE, ANGLE = 14, 15
NO_ROWS: Rows = np.zeros((0, 16))

ANGLES = (0, 90, 180, 270)
_UPRIGHT = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}

INSIDE = 0.7
"""Of two faces that were found at different scales, the one that lies in the other by more than this is a part of it,
or it is the other that is none."""


@dataclass(frozen=True)
class Part:
    """A rectangle of a picture, in pixels of it at full scale; may go beyond it."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def around(cls, row: NDArray[np.float64], context: float) -> Part:
        """The square around a found face, ``context`` times its longer side."""
        side = max(row[2], row[3]) * context
        return cls(row[0] + row[2] / 2 - side / 2, row[1] + row[3] / 2 - side / 2, side, side)


@dataclass(frozen=True)
class View:
    """Pixels that a detector is shown.

    Attributes:
        pixels: (height, width, 3) uint8 BGR in sRGB.
        part: what they show.
        angle: heads that are turned clockwise by so many degrees in the picture are upright here.
    """

    pixels: Pixels
    part: Part
    angle: float = 0

    def turned(self, angle: float) -> View:
        """The same for heads that are turned by ``angle`` here.

        Other angles than quarters are for square views; their corners are lost.
        """
        if not angle:
            return self
        if angle in _UPRIGHT:
            pixels = cv2.rotate(self.pixels, _UPRIGHT[int(angle)])
        else:
            side = self.pixels.shape[0]
            upright = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1)
            pixels = cv2.warpAffine(self.pixels, upright, (side, side))
        return View(np.asarray(pixels, np.uint8), self.part, self.angle + angle)

    def place(self, rows: NDArray[np.float64]) -> Rows:
        """Rows of 15 columns, in pixels of the view, as rows in those of the picture.

        Boxes stay upright: turned about their middle, with sides between both where they are not turned by quarters.
        """
        height, width = self.pixels.shape[:2]
        middles = rows[:, :2] + rows[:, 2:4] / 2
        points = np.hstack([middles, rows[:, 4:14]]).reshape(len(rows), 6, 2) / (width, height)
        points = _unturned(points, self.angle) * (self.part.width, self.part.height) + (self.part.left, self.part.top)
        across, along = abs(math.cos(math.radians(self.angle))), abs(math.sin(math.radians(self.angle)))
        shares = rows[:, 2:4] / (width, height)
        shares = (shares * across + shares[:, ::-1] * along) / (across + along)
        sides = shares * (self.part.width, self.part.height)
        angles = np.full((len(rows), 1), self.angle)
        left_top = points[:, 0] - sides / 2
        return np.hstack([left_top, sides, points[:, 1:].reshape(len(rows), 10), rows[:, 14:15], angles])


def scaled(picture: Preview, side: int) -> Preview:
    """The picture with a longer side of at most so many pixels, in sRGB."""
    height, width = picture.pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = picture.pixels if scale == 1.0 else cv2.resize(picture.pixels, size, interpolation=cv2.INTER_AREA)
    return Preview(picture.to_srgb(np.asarray(small, np.uint8)), picture.width, picture.height)


def whole(picture: Preview) -> View:
    """All of a picture that is in sRGB, as it is."""
    return View(picture.pixels, Part(0, 0, picture.width, picture.height))


def cut(picture: Preview, part: Part, size: tuple[int, int]) -> View:
    """A part of a picture, scaled to a size (width, height); black beyond the picture."""
    height, width = picture.pixels.shape[:2]
    x_scale, y_scale = width / picture.width, height / picture.height
    left, top = math.floor(part.left * x_scale), math.floor(part.top * y_scale)
    right = max(left + 1, math.ceil((part.left + part.width) * x_scale))
    bottom = max(top + 1, math.ceil((part.top + part.height) * y_scale))
    pixels = picture.pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    shown = Part(left / x_scale, top / y_scale, (right - left) / x_scale, (bottom - top) / y_scale)
    if not pixels.size:  # what a network takes for a face can lie wholly beyond the picture
        return View(np.zeros((size[1], size[0], 3), np.uint8), shown)
    beyond = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(beyond):
        pixels = np.asarray(cv2.copyMakeBorder(pixels, *beyond, cv2.BORDER_CONSTANT), np.uint8)
    shrinks = size[0] <= pixels.shape[1]
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return View(picture.to_srgb(np.asarray(resized, np.uint8)), shown)


@dataclass(frozen=True)
class Tiles:
    """A picture at a scale, in tiles that overlap.

    Every face of at most ``overlap`` pixels at that scale is wholly in one of them.

    Attributes:
        scale: of the picture's full size.
        side: longest side of a tile, in pixels.
        overlap: of neighbours, in pixels.
    """

    scale: float
    side: int
    overlap: int

    def views(self, picture: Preview) -> Iterator[View]:
        """The tiles, line by line; one at a time is in memory."""
        height, width = (max(1, round(side * self.scale)) for side in (picture.height, picture.width))
        size = (min(self.side, width), min(self.side, height))
        for top in self._starts(height):
            for left in self._starts(width):
                part = Part(*(value / self.scale for value in (left, top, *size)))
                yield cut(picture, part, size)

    def whole_faces(self, view: View, rows: Rows, picture: Preview) -> Rows:
        """Of what was found in a tile, what is wholly in it; other tiles and scales have the rest."""
        part, margin = view.part, 1 / self.scale
        right, bottom = rows[:, 0] + rows[:, 2], rows[:, 1] + rows[:, 3]
        keep = np.maximum(rows[:, 2], rows[:, 3]) <= self.overlap / self.scale
        keep &= (rows[:, 0] >= part.left + margin) | (part.left <= margin)
        keep &= (rows[:, 1] >= part.top + margin) | (part.top <= margin)
        keep &= (right <= part.left + part.width - margin) | (part.left + part.width >= picture.width - margin)
        keep &= (bottom <= part.top + part.height - margin) | (part.top + part.height >= picture.height - margin)
        return rows[keep]

    def _starts(self, length: int) -> list[int]:
        count = max(1, math.ceil((length - self.overlap) / (self.side - self.overlap)))
        return [round(i * (length - self.side) / max(1, count - 1)) for i in range(count)]


def merged(levels: Sequence[Rows], sure: float, nms: float) -> Rows:
    """Each face of several levels once, the best first.

    Of rows that overlap (IoU above ``nms``) the one from the first level counts whose score is ``sure``, or the best
    score of all where none is.
    """
    rows = np.concatenate([NO_ROWS, *levels])
    level = np.repeat(np.arange(len(levels)), [len(each) for each in levels])
    unsure = rows[:, SCORE] < sure
    order = np.lexsort((-rows[:, SCORE], np.where(unsure, len(levels), level)))
    kept: list[int] = []
    for index in order:
        if not kept or _shared(rows[index], rows[kept])[0].max() <= nms:
            kept.append(int(index))
    kept.sort(key=lambda index: -rows[index, SCORE])
    whole_ones: list[int] = []
    for index in kept:
        others = [other for other in whole_ones if level[other] != level[index]]
        if not others or _shared(rows[index], rows[others])[1].max() <= INSIDE:
            whole_ones.append(index)
    return rows[whole_ones]


def _shared(row: NDArray[np.float64], rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a box has in common with others: as a share of both together (IoU), and of the smaller one."""
    width = np.minimum(row[0] + row[2], rows[:, 0] + rows[:, 2]) - np.maximum(row[0], rows[:, 0])
    height = np.minimum(row[1] + row[3], rows[:, 1] + rows[:, 3]) - np.maximum(row[1], rows[:, 1])
    both = np.clip(width, 0, None) * np.clip(height, 0, None)
    area, areas = row[2] * row[3], rows[:, 2] * rows[:, 3]
    return both / np.maximum(area + areas - both, 1e-9), both / np.maximum(np.minimum(area, areas), 1e-9)


def _unturned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Points of a view in shares of its sides (..., 2), as shares of what it shows."""
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1) + 0.5
