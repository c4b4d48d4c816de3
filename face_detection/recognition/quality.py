"""How well a face can be recognised, measured before any embedding, and what is too bad to carry a name.

Embeddings of spoilt faces gather in one place, whoever they are of: with a blurred photo enrolled, other blurred faces
are nearer to it than the threshold. No distance tells them from the same person's, but their pixels do. The worst are
not named at all, and those between the worst and the clear only by what is nearer, see ``Quality.tolerance``.

All pixels are measured on one crop, whatever the model, so that limits mean the same everywhere: ``REFERENCE``,
112 x 112 at ArcFace's template, in which the eyes are some 36 pixels apart, and in it within the ellipse of the face.

- Sharpness: the energy of gradients (Tenengrad; Krotkov, "Focusing", 1988) against that after another blur (as Crete et
  al., "The blur effect", 2007), which is free of contrast. Both energies are structure tensors (Bigün and Granlund,
  "Optimal orientation detection of linear symmetry", 1987), and their smallest generalised eigenvalue is the ratio in
  the direction where it is worst: motion blurs in one direction only. The energy that white noise would have is taken
  off first.
- Noise: after Immerkær, "Fast noise variance estimation", 1996, with the median for the mean, so that hair and cloth
  do not count.
- Detail: the share of the face that is not as plain as a patch of one colour. What strong compression, pixels made
  coarse, darkness, glare or a black bar have erased is plain (activity; Wang, Sheikh and Bovik, "No-reference
  perceptual quality assessment of JPEG compressed images", 2002).
- Pose: of a rigid face of five points in scaled orthography (DeMenthon and Davis, "Model-based object pose in 25 lines
  of code", 1995).

What limits were chosen by, and what they do, is in docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import LowQuality
from shared.geometry import Face, Landmarks
from shared.images import Pixels
from shared.models import ARCFACE_TEMPLATE, Alignment
from shared.settings import Strictness

REFERENCE = Alignment("arcface-112x112", 112, 112, ARCFACE_TEMPLATE)
"""The crop on which faces are measured."""

_FINE, _COARSE = 1.0, 2.0
"""Standard deviations of the two Gaussians of sharpness, in pixels of the reference."""

_PLAIN = 0.01
"""Gradient below which a pixel is plain, in standard deviations of the face's gray levels."""

_LEAST_DEVIATION, _LEAST_NOISE = 1.0, 0.1
"""Gray levels that count at least: rounding alone has more."""

_MIDDLE, _HALF_AXES = (56, 70), (34, 44)
"""Of the ellipse that shows the face and neither hair nor background, in pixels of the reference."""

_POINTS = ((37.2, 52.6, 0.0), (74.8, 52.6, 0.0), (56.0, 74.0, 16.7), (40.1, 90.2, 1.2), (71.9, 90.2, 1.2))
"""A face that looks into the camera, in pixels of the reference: where YuNet's landmarks fall in it (mean of 100 photos
of LFW, made symmetric), and how far they stand out (of 63 mm between the eyes the nose has 28)."""

_REACH = 1.1
"""Half the side of the square around the landmarks that a face fills, in distances from eyes to mouth."""


_ROWS, _COLUMNS = slice(20, 112), slice(16, 96)
"""The part of the reference that has the ellipse, and as much around it as the Gaussians see."""


def _ellipse() -> NDArray[np.uint8]:
    mask = np.zeros((REFERENCE.height, REFERENCE.width), np.uint8)
    cv2.ellipse(mask, _MIDDLE, _HALF_AXES, 0, 0, 360, 1, cv2.FILLED)
    return np.ascontiguousarray(mask[_ROWS, _COLUMNS])


_FACE = _ellipse()
_WITHIN = _FACE.astype(bool)
_AREA = int(_FACE.sum())

_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""The difference of two Laplacians, to which edges are nearly nothing; white noise comes out six times as strong."""

_FIT = np.linalg.pinv(np.array(_POINTS) - np.mean(_POINTS, axis=0)).tolist()


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of a face.

    Attributes:
        eyes: pixels of the picture between the eyes, as they would be if the face looked into the camera.
        sharpness: from 0; 0.2 where a name can just be told, 0.5 and more in clean photos.
        detail: share of the face that is not plain, 0 to 1.
        noise: gray levels, standard deviation.
        brightness: mean gray level, 0 to 255.
        contrast: standard deviation of the gray levels.
        yaw, pitch: degrees by which the face is turned to the right of the picture, and up.
        roll: degrees by which it is tilted, clockwise, −180 to 180.
        inside: share of the face that the picture shows, 0 to 1; the rest is beyond its border.
        score: the detector's, 0 to 1.
    """

    eyes: float
    sharpness: float
    detail: float
    noise: float
    brightness: float
    contrast: float
    yaw: float
    pitch: float
    roll: float
    inside: float
    score: float

    @property
    def clearness(self) -> float:
        """Contrast by noise, from 0."""
        return self.contrast / max(self.noise, _LEAST_NOISE)

    @property
    def value(self) -> float:
        """All in one, 0 to 1: that of the measure that is worst.

        Each measure is 0 where it makes a face worthless, 1 where a better one would gain nothing, and in between as
        far from both as it is; see ``_SCALES``.
        """
        return min(_scaled(getattr(self, name), *ends) for name, ends in _SCALES.items())

    @property
    def tolerance(self) -> float:
        """Share of the threshold within which somebody must be for this face to have their name.

        1 for a clear face. Spoilt ones are nearer to strangers, so they need a nearer sample: ``LEAST_TOLERANCE`` at
        worst, and in between by the product of what each measure in ``_DOUBTS`` is worth, since flaws add up.
        """
        worth = math.prod(_scaled(getattr(self, name), *ends) for name, ends in _DOUBTS.items())
        return LEAST_TOLERANCE + (1 - LEAST_TOLERANCE) * worth


_SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "eyes": (6, 40),
        "sharpness": (0.1, 0.8),
        "detail": (0.5, 0.98),
        "clearness": (2, 20),
        "contrast": (2, 25),
        "inside": (0.5, 0.95),
        "score": (0.5, 0.9),
    }
)
"""Values at which a measure is worth 0 and 1."""

LEAST_TOLERANCE = 0.85
"""Share of the threshold that is left to the faces that can just be named."""

_DOUBTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "eyes": (6, 20),
        "sharpness": (0.25, 0.6),
        "detail": (0.7, 0.95),
        "clearness": (2.5, 10),
        "contrast": (3, 15),
        "inside": (0.5, 0.95),
        "score": (0.8, 0.9),
    }
)
"""Values at which a measure is worth 0 and 1 to ``Quality.tolerance``; 9 of 10 clean photos reach all of 1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The least of each measure, and the most of the angles, with which a face still serves; see ``Quality``."""

    eyes: float = 0.0
    sharpness: float = 0.0
    detail: float = 0.0
    clearness: float = 0.0
    contrast: float = 0.0
    inside: float = 0.0
    yaw: float = 180.0
    pitch: float = 180.0

    def objections(self, quality: Quality) -> list[str]:
        """What a face is too bad in, as in "too blurred: sharpness 0.11, at least 0.33"; empty when it serves."""
        found = []
        for attribute, fault, name, digits, bound in _FAULTS:
            figure, limit = abs(getattr(quality, attribute)), getattr(self, attribute)
            if figure > limit if bound == "at most" else figure < limit:
                # Rounded away from the limit, so that no figure looks like it.
                away = (math.ceil if bound == "at most" else math.floor)(figure * 10**digits) / 10**digits
                found.append(f"{fault}: {name} {away:.{digits}f}, {bound} {limit:g}")
        return found


_FAULTS = (
    ("eyes", "too small", "pixels between the eyes", 1, "at least"),
    ("inside", "cut by the border", "share in the picture", 2, "at least"),
    ("contrast", "of too little contrast", "contrast", 1, "at least"),
    ("clearness", "too noisy", "contrast by noise", 1, "at least"),
    ("sharpness", "too blurred", "sharpness", 2, "at least"),
    ("detail", "too plain (compressed, dark, glaring or covered)", "detail", 2, "at least"),
    ("yaw", "turned too far aside", "degrees", 0, "at most"),
    ("pitch", "turned too far up or down", "degrees", 0, "at most"),
)
"""Measure, fault, what the figure is called and how many decimals it has, and of which kind the limit is."""

NAMING = Limits(eyes=6, sharpness=0.18, detail=0.45, clearness=2.5, contrast=3, inside=0.5)
"""What a face must have to be named."""

ENROLMENT: Mapping[Strictness, Limits] = MappingProxyType(
    {
        "none": Limits(),
        "auto": Limits(eyes=14, sharpness=0.33, detail=0.82, clearness=7, contrast=6, inside=0.7),
        "strict": Limits(eyes=30, sharpness=0.5, detail=0.95, clearness=10, contrast=15, inside=0.95, yaw=30, pitch=25),
    }
)
"""What a face must have to be enrolled."""


def check(face: Face, quality: Quality, strictness: Strictness) -> None:
    """Refuse a face that cannot serve as a sample.

    Raises:
        LowQuality: with every reason, its figure and its limit.
    """
    if objections := ENROLMENT[strictness].objections(quality):
        raise LowQuality(f"The face is {'; '.join(objections)}.", str(face.box))


def measure(face: Face, crop: Pixels, width: int, height: int) -> Quality:
    """Measure a face.

    Args:
        face: where it is.
        crop: (112, 112, 3) uint8 BGR, aligned as ``REFERENCE`` says; what lies beyond the picture repeats its edge,
            since black would be a sharp edge where there is none.
        width, height: of the picture at full scale, in pixels.
    """
    levels = np.ascontiguousarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)[_ROWS, _COLUMNS], np.uint8)
    (brightness,), (contrast,) = (part.ravel().tolist() for part in cv2.meanStdDev(levels, mask=_FACE))
    noise = _noise(levels)
    yaw, pitch, roll, scale = _pose(face.landmarks)
    return Quality(
        eyes=scale * math.dist(*_POINTS[:2]),
        sharpness=_sharpness(levels, noise),
        detail=_detail(levels, contrast),
        noise=noise,
        brightness=brightness,
        contrast=contrast,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        inside=_inside(face.landmarks, width, height),
        score=face.score,
    )


def _noise(levels: Pixels) -> float:
    """Standard deviation in gray levels, up to 63: whatever has more is not recognised."""
    grain = cv2.convertScaleAbs(cv2.filter2D(levels, cv2.CV_16S, _LAPLACIANS))
    counts = cv2.calcHist([grain], [0], _FACE, [256], [0, 256]).ravel()
    return float(np.searchsorted(np.cumsum(counts), _AREA / 2)) / (6 * 0.6745)


def _detail(levels: Pixels, contrast: float) -> float:
    """Share of the pixels whose gradient, which a Sobel of size 1 doubles, is not plain."""
    across, down = (cv2.Sobel(levels, cv2.CV_32F, *axis, ksize=1) for axis in ((1, 0), (0, 1)))
    least = 2 * _PLAIN * max(contrast, _LEAST_DEVIATION)
    return int(np.count_nonzero(_WITHIN & (cv2.magnitude(across, down) >= least))) / _AREA


def _sharpness(levels: Pixels, noise: float) -> float:
    """By how much the first Gaussian leaves more energy than the second, in the worst direction; at least 0."""
    white = noise**2 / (8 * math.pi * _FINE**4)  # energy of the gradient of white noise after a Gaussian
    fine = np.asarray(cv2.GaussianBlur(levels.astype(np.float32), (0, 0), _FINE), np.float32)
    # One Gaussian after another is a wider one.
    coarse = np.asarray(cv2.GaussianBlur(fine, (0, 0), math.sqrt(_COARSE**2 - _FINE**2)), np.float32)
    a, b, c = _structure(fine, -white)
    d, e, f = _structure(coarse, 1e-6)
    # The lesser root of det(fine − λ · coarse), with both as [[a, b], [b, c]].
    half, product = (a * f + c * d) / 2 - b * e, (a * c - b * b) * (d * f - e * e)
    return max(0.0, (half - math.sqrt(max(0.0, half * half - product))) / (d * f - e * e) - 1)


def _structure(smooth: NDArray[np.float32], more: float) -> tuple[float, float, float]:
    """Means over the face of dx · dx + more, dx · dy and dy · dy + more of the gradient."""
    across, down = (
        cv2.copyTo(cv2.Sobel(smooth, -1, *axis, ksize=3, scale=1 / 8), _FACE).ravel() for axis in ((1, 0), (0, 1))
    )
    return float(across @ across) / _AREA + more, float(across @ down) / _AREA, float(down @ down) / _AREA + more


def _pose(landmarks: Landmarks) -> tuple[float, float, float, float]:
    """Yaw, pitch and roll in degrees, and how many pixels of the picture one of the reference is."""
    # Seen from the nose: what is added to all points changes nothing.
    first, second = (
        [math.fsum(weight * (value - values[2]) for weight, value in zip(row, values, strict=True)) for row in _FIT]
        for values in zip(*landmarks.points, strict=True)
    )
    lengths = math.hypot(*first), math.hypot(*second)
    if not min(lengths):  # landmarks on one line
        return 0.0, 0.0, 0.0, max(lengths)
    yaw, pitch = math.asin(first[2] / lengths[0]), -math.asin(second[2] / lengths[1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(math.atan2(second[0], first[0])), max(lengths)


def _inside(landmarks: Landmarks, width: int, height: int) -> float:
    """Share of the square around the landmarks that lies in the picture."""
    (ax, ay), (bx, by), _, (cx, cy), (dx, dy) = landmarks.points
    reach = _REACH * math.dist(((ax + bx) / 2, (ay + by) / 2), ((cx + dx) / 2, (cy + dy) / 2))
    if not reach:
        return 1.0
    share = 1.0
    for middle, limit in (((ax + bx + cx + dx) / 4, width), ((ay + by + cy + dy) / 4, height)):
        share *= (min(max(middle + reach, 0), limit) - min(max(middle - reach, 0), limit)) / (2 * reach)
    return share


def _scaled(value: float, worthless: float, best: float) -> float:
    return min(1.0, max(0.0, (value - worthless) / (best - worthless)))


def terms() -> dict[str, Any]:
    """All that a program elsewhere needs to measure as ``measure`` does, and what it must not name; as JSON has it.

    ``face`` has for each of ``rows`` the first column of the face and the one after its last, ``[0, 0]`` for none.
    ``pose`` is what landmarks less their mean are multiplied with for the axes of a face whose eyes are ``eyes_apart``
    pixels apart.
    """
    lines = [(np.flatnonzero(row) + _COLUMNS.start).tolist() for row in _FACE]
    spans = [[line[0], line[-1] + 1] if line else [0, 0] for line in lines]
    limits = [(*fault, getattr(NAMING, fault[0])) for fault in _FAULTS]
    members = ("measure", "fault", "figure", "digits", "bound", "limit")
    return {
        "width": REFERENCE.width,
        "height": REFERENCE.height,
        "template": list(REFERENCE.template),
        "rows": (_ROWS.start, _ROWS.stop),
        "columns": (_COLUMNS.start, _COLUMNS.stop),
        "face": spans,
        "fine": _FINE,
        "coarse": _COARSE,
        "plain": _PLAIN,
        "least_deviation": _LEAST_DEVIATION,
        "least_noise": _LEAST_NOISE,
        "pose": _FIT,
        "eyes_apart": math.dist(*_POINTS[:2]),
        "reach": _REACH,
        "least_tolerance": LEAST_TOLERANCE,
        "doubts": dict(_DOUBTS),
        "limits": [dict(zip(members, limit, strict=True)) for limit in limits],
    }
