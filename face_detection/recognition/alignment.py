"""Cutting faces out of a picture so that eyes, nose and mouth always fall on the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.geometry import Face, Landmarks
from shared.images import Pixels, Preview
from shared.models import Alignment

Matrix = NDArray[np.float64]


def similarity(landmarks: Landmarks, alignment: Alignment) -> Matrix:
    """The rotation, scaling and shift that takes landmarks nearest to the template in the least-squares sense.

    With points as complex numbers the transform is z → a·z + b, and a has the closed form
    Σ conj(s)·d / Σ |s|² over the centred source and destination points (Umeyama, 1991, without reflection).

    Returns:
        (2, 3) float64, from picture pixels to crop pixels.
    """
    source = np.array([complex(*point) for point in landmarks.points])
    target = np.array([complex(*point) for point in alignment.template])
    centred = source - source.mean()
    spread = float((np.abs(centred) ** 2).sum())
    # All landmarks on one point cannot be scaled to the template; any finite transform will do.
    a = complex((centred.conj() * (target - target.mean())).sum()) / spread if spread else complex(1)
    b = complex(target.mean() - a * source.mean())
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def shrinks(picture: Preview, faces: Sequence[Face], alignment: Alignment) -> bool:
    """Whether all crops have fewer pixels than the faces have in a reduced picture, so that nothing is lost by it."""
    scale = picture.pixels.shape[1] / picture.width
    return all(_magnification(similarity(face.landmarks, alignment)) <= scale for face in faces)


def cut_out(picture: Preview, faces: Sequence[Face], alignment: Alignment) -> Pixels:
    """One aligned crop for each face; what lies beyond the picture is black.

    Args:
        picture: may be reduced.
        faces: their landmarks are in pixels of the picture at full scale.
        alignment: size and template of the crops.

    Returns:
        (len(faces), alignment.height, alignment.width, 3) uint8 BGR.
    """
    crops = np.empty((len(faces), alignment.height, alignment.width, 3), np.uint8)
    # Pixel i of the reduced picture is centred on pixel (i + 1/2) / scale − 1/2 of the full one.
    to_full = _scaling(picture.width / picture.pixels.shape[1], picture.height / picture.pixels.shape[0])
    for crop, face in zip(crops, faces, strict=True):
        _warp(picture.pixels, similarity(face.landmarks, alignment) @ to_full, alignment, crop)
    return picture.to_srgb(crops)


def _magnification(matrix: Matrix) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _scaling(x: float, y: float, left: int = 0, top: int = 0) -> Matrix:
    """(3, 3), from a picture whose pixels are x × y pixels of another, from ``left, top`` on, to that other."""
    return np.array([[x, 0, left + (x - 1) / 2], [0, y, top + (y - 1) / 2], [0, 0, 1]], np.float64)


def _warp(pixels: Pixels, matrix: Matrix, alignment: Alignment, crop: Pixels) -> None:
    """Warp with bilinear sampling, which skips pixels when it shrinks by more than two: average them first."""
    shrink = int(1 / max(_magnification(matrix), 1e-6))
    if shrink >= 2:
        pixels, matrix = _shrunken(pixels, matrix, alignment, shrink)
    cv2.warpAffine(pixels, matrix, (alignment.width, alignment.height), dst=crop, flags=cv2.INTER_LINEAR)


def _shrunken(pixels: Pixels, matrix: Matrix, alignment: Alignment, shrink: int) -> tuple[Pixels, Matrix]:
    """The part of the picture that the crop shows, averaged over shrink x shrink pixels, and its transform."""
    corners = np.array([[0, 0], [alignment.width, 0], [0, alignment.height], [alignment.width, alignment.height]])
    shown = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array([pixels.shape[1], pixels.shape[0]])
    left, top = np.clip(np.floor(shown.min(axis=0)) - shrink, 0, limit - 1).astype(int)
    right, bottom = np.clip(np.ceil(shown.max(axis=0)) + shrink, 1, limit).astype(int)
    width, height = max(1, (right - left) // shrink), max(1, (bottom - top) // shrink)
    part = pixels[top : top + height * shrink, left : left + width * shrink]
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    to_picture = _scaling(part.shape[1] / width, part.shape[0] / height, int(left), int(top))
    return np.asarray(small, np.uint8), matrix @ to_picture
