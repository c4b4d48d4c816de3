"""Which face of a picture is meant where one is needed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.errors import AmbiguousFace, FaceNotFound, InvalidRequest
from shared.geometry import Box, Face, largest


class Extent(Protocol):
    """A picture's width and height in pixels, upright and at full scale."""

    @property
    def width(self) -> int:
        """From left to right."""

    @property
    def height(self) -> int:
        """From top to bottom."""


Choose = Callable[[Sequence[Face], Extent], Sequence[Face]]
"""Picks of the faces of a picture those that are meant. Raises ServiceError when it cannot."""

_ACROSS, _DOWN = 4.0, 1.0
"""How much less a face counts away from the middle, see ``_place``: heads are often above it, and seldom beside it."""

_LIKE_SIZE, _LIKE_PLACE = 0.8, 0.45
"""Ratios of areas and of places from which on two faces differ too little to tell which one is meant."""

_MOST_SHOWN = 5
"""Boxes in a message; programs get them all."""

_POINT = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*,\s*(\d{1,6}(?:\.\d{1,6})?)\s*", re.ASCII)


def all_faces(faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
    """Every face."""
    return faces


def main_face(faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
    """The face that is the largest and nearest to the middle: a passer-by in front is larger than who is portrayed.

    The FaceNet authors (davidsandberg/facenet, src/align/align_dataset_mtcnn.py) subtract twice the square of the
    distance from the area, in pixels, so that away from the middle of a large picture any smaller face wins that is
    nearer. Here the area is weighted with a Gaussian of the distance in halves of the picture's sides, which keeps
    passers-by out as well, and chooses right where the portrayed stand elsewhere too (benchmarks/choice.py).

    Raises:
        FaceNotFound: there is none.
    """
    return [_ranked(faces, picture)[0]]


def clear_face(faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
    """The main face, unless another one is of about the same size and as near to the middle.

    Raises:
        FaceNotFound: there is none.
        AmbiguousFace: several are meant alike.
    """
    main, *others = _ranked(faces, picture)
    if alike := [face for face in others if _alike(main, face, picture)]:
        boxes = [str(face.box) for face in (main, *alike)]
        raise AmbiguousFace(
            f"Several faces are equally good, at {' and at '.join(boxes[:_MOST_SHOWN])}: say which one is meant "
            "(face: largest, or x,y of a point in it).",
            boxes,
        )
    return [main]


def largest_face(faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
    """The face with the largest box, wherever it is.

    Raises:
        FaceNotFound: there is none.
    """
    _ranked(faces, picture)
    return [largest(faces)]


@dataclass(frozen=True)
class FaceAt:
    """The face around a point, in pixels of the upright picture; of several that with the nearest middle."""

    x: float
    y: float

    def __call__(self, faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
        """The face.

        Raises:
            FaceNotFound: there is none around the point.
        """
        around = [face for face in faces if _has(face.box, self.x, self.y)]
        if not around:
            raise FaceNotFound(f"There is no face at {self.x:g},{self.y:g} in the image.")
        return [min(around, key=lambda face: math.dist(_middle(face.box), (self.x, self.y)))]


def parse_choice(text: str) -> Choose:
    """What a request says of the face that is meant: ``largest``, or ``x,y`` of a point in it.

    Raises:
        InvalidRequest: it is neither.
    """
    if text == "largest":
        return largest_face
    if point := _POINT.fullmatch(text):
        return FaceAt(float(point[1]), float(point[2]))
    raise InvalidRequest("must be largest, or x,y of a point in the face, in pixels")


def remark(faces: int, box: str) -> str:
    """What is said of a picture that shows several faces."""
    return f"The image shows {faces} faces; that at {box} was enrolled."


def _ranked(faces: Sequence[Face], picture: Extent) -> list[Face]:
    """The faces, the most likely one first.

    Raises:
        FaceNotFound: there is none.
    """
    if not faces:
        raise FaceNotFound("There is no face in the image.")
    return sorted(faces, key=lambda face: -face.box.area * _place(face.box, picture))


def _alike(one: Face, other: Face, picture: Extent) -> bool:
    sizes = sorted(face.box.area for face in (one, other))
    places = sorted(_place(face.box, picture) for face in (one, other))
    return sizes[0] >= _LIKE_SIZE * sizes[1] and places[0] >= _LIKE_PLACE * places[1]


def _place(box: Box, picture: Extent) -> float:
    """How near to the picture's middle a face is: 1 in it, exp(−_ACROSS) at a side, exp(−_DOWN) at top and bottom."""
    x, y = _middle(box)
    across, down = 2 * x / picture.width - 1, 2 * y / picture.height - 1
    return math.exp(-_ACROSS * across**2 - _DOWN * down**2)


def _middle(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _has(box: Box, x: float, y: float) -> bool:
    return box.x <= x < box.x + box.width and box.y <= y < box.y + box.height
