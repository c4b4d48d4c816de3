"""Boxes, landmarks and faces, in pixels of the upright picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]

Angle = Literal[0, 90, 180, 270]
_ANGLES: tuple[Angle, ...] = (0, 90, 180, 270)


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle; ``x, y`` is its top left corner.

    The unit is pixels.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Area in square pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.x}, {self.y}, {self.width}, {self.height}"

    def within(self, width: int, height: int) -> Box | None:
        """The part of the box that lies in a picture of this size, None when there is none."""
        left, top = max(0, self.x), max(0, self.y)
        right, bottom = min(width, self.x + self.width), min(height, self.y + self.height)
        return Box(left, top, right - left, bottom - top) if left < right and top < bottom else None

    def iou(self, other: Box) -> float:
        """Intersection over union with another box, in [0, 1] (Jaccard, 1901)."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        intersection = width * height
        return intersection / (self.area + other.area - intersection)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Five points of a face. Right and left are the person's own, so the right eye is on the picture's left."""

    right_eye: Point
    left_eye: Point
    nose: Point
    right_mouth: Point
    left_mouth: Point

    @property
    def points(self) -> tuple[Point, Point, Point, Point, Point]:
        """The points in the order of the fields, which is YuNet's order."""
        return (self.right_eye, self.left_eye, self.nose, self.right_mouth, self.left_mouth)

    @property
    def roll(self) -> float:
        """Degrees clockwise by which the head is turned in the picture, in [0, 360), from the eyes to the mouth."""
        x, y = _vector(_between(self.right_eye, self.left_eye), _between(self.right_mouth, self.left_mouth))
        return math.degrees(math.atan2(-x, y)) % 360

    @property
    def plausible(self) -> bool:
        """Whether a face can look like this: mirrored, folded or scattered points cannot be aligned to a template.

        In units of the way from the middle of the eyes to that of the mouth, YuNet's landmarks of real faces, profiles
        included, were within: eyes 0.08 to 1.23 apart across that way, corners of the mouth 0 to 1.05, neither more
        than 0.40 along it; nose 0.40 to 0.70 down it and at most 0.48 beside it. The limits are wider.
        """
        middle = _between(self.right_eye, self.left_eye)
        down = _vector(middle, _between(self.right_mouth, self.left_mouth))
        length = math.hypot(*down)
        if length == 0:
            return False

        def seen(start: Point, end: Point) -> Point:
            """From one point to another: across the face, towards its left, and down it."""
            x, y = _vector(start, end)
            return (x * down[1] - y * down[0]) / length**2, (x * down[0] + y * down[1]) / length**2

        eyes, mouth = seen(self.right_eye, self.left_eye), seen(self.right_mouth, self.left_mouth)
        aside, height = seen(middle, self.nose)
        return (
            all(-0.1 <= across <= 1.6 and abs(along) <= 0.6 for across, along in (eyes, mouth))
            and abs(aside) <= 0.8
            and 0.2 <= height <= 0.9
        )


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face: its box within the picture, five landmarks and the detector's score in [0, 1].

    Where the picture's edge cuts the face, landmarks may lie beyond it.
    """

    box: Box
    landmarks: Landmarks
    score: float

    @property
    def angle(self) -> Angle:
        """Degrees clockwise by which the head is turned in the picture, to the next quarter."""
        return _ANGLES[round(self.landmarks.roll / 90) % 4]


def largest(faces: Sequence[Face]) -> Face:
    """The face with the largest box. ``faces`` must not be empty."""
    return max(faces, key=lambda face: face.box.area)


def in_reading_order(faces: Sequence[Face]) -> list[Face]:
    """Sort faces as text is read: line by line from the top, each line from the left.

    A face belongs to the current line while its top lies above the vertical middle of the line's first face.
    """
    lines: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: (face.box.y, face.box.x)):
        if lines and face.box.y < lines[-1][0].box.y + lines[-1][0].box.height / 2:
            lines[-1].append(face)
        else:
            lines.append([face])
    return [face for line in lines for face in sorted(line, key=lambda face: face.box.x)]


def _between(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def _vector(start: Point, end: Point) -> Point:
    return end[0] - start[0], end[1] - start[1]
