"""What the liveness check looks at, and what its scores say."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from shared.geometry import Box, Face
from shared.images import Pixels, Preview
from shared.models import MINIFASNET, LivenessCard


def is_live(score: float) -> bool:
    """Whether a score is that of a person before the camera, and not of a picture of one."""
    return score >= MINIFASNET.threshold


def surroundings(box: Box, scale: float, width: int, height: int) -> Box:
    """The part of a picture around a face's box that a network looks at, as its authors cut it.

    Sides of the box times ``scale``, less where the picture is smaller; moved into the picture where it goes beyond
    (Minivision, Silent-Face-Anti-Spoofing, src/generate_patches.py).

    Args:
        box: within the picture.
        scale: at least 1.
        width, height: of the picture in pixels, at least 2.
    """
    scale = min(scale, (height - 1) / box.height, (width - 1) / box.width)
    wide, high = box.width * scale, box.height * scale
    left = min(max(box.x + (box.width - wide) / 2, 0), width - 1 - wide)
    top = min(max(box.y + (box.height - high) / 2, 0), height - 1 - high)
    right, bottom = int(left + wide), int(top + high)
    return Box(int(left), int(top), right - int(left) + 1, bottom - int(top) + 1)


def views(picture: Preview, faces: Sequence[Face], card: LivenessCard) -> Pixels:
    """What each network looks at of each face.

    The networks have learnt from pictures that were shrunk without averaging, in which the texture of paper and screens
    shows: so are these, and no reduced picture may take the place of the whole one.

    Args:
        picture: at full scale.
        faces: in pixels of the picture.
        card: sizes and scales.

    Returns:
        (len(faces), networks, size, size, 3) uint8 BGR.
    """
    found = np.empty((len(faces), len(card.networks), card.size, card.size, 3), np.uint8)
    for face, crops in zip(faces, found, strict=True):
        for network, crop in zip(card.networks, crops, strict=True):
            part = surroundings(face.box, network.scale, picture.width, picture.height)
            pixels = picture.pixels[part.y : part.y + part.height, part.x : part.x + part.width]
            small = cv2.resize(pixels, (card.size, card.size), interpolation=cv2.INTER_LINEAR)
            crop[...] = np.rot90(small, face.angle // 90)  # against the clock: the head is upright then
    return picture.to_srgb(found)
