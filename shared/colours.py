"""Colour profiles (ICC.1:2022): from a picture's own colours to sRGB, which everything else here works with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_MOST_BYTES = 4 << 20
"""Of a profile; those of printers have about 2 MiB. A larger one is ignored, like one that is damaged."""

_SAME = 2
"""Steps of 255 by which colours may differ from sRGB before it is worth to convert them."""


@dataclass(frozen=True)
class Colours:
    """Colours of three channels, or of gray, that are not those of sRGB."""

    _transform: ImageCms.ImageCmsTransform
    _gray: bool

    def to_srgb(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same pixels in sRGB.

        Args:
            pixels: (..., width, 3) uint8 BGR; gray has three equal channels.
        """
        if not pixels.size:
            return pixels
        if self._gray:
            ramp = ImageCms.applyTransform(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), self._transform)
            return np.asarray(cv2.LUT(pixels, np.asarray(ramp)[..., ::-1]), np.uint8)
        rows = pixels.reshape(-1, pixels.shape[-2], 3)
        image = Image.fromarray(cv2.cvtColor(rows, cv2.COLOR_BGR2RGB))
        ImageCms.applyTransform(image, self._transform, inPlace=True)
        return np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR), np.uint8).reshape(pixels.shape)


def colours_of(profile: bytes | None) -> Colours | None:
    """The colours that a profile stands for; None for sRGB, and where there is no profile that can be used."""
    for mode in ("RGB", "L"):
        transform = _transform(profile, mode) if profile and len(profile) <= _MOST_BYTES else None
        if transform:
            return Colours(transform, mode == "L")
    return None


def convert(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of CMYK or LAB as sRGB, by its profile, or as it usually is where it has none.

    Args:
        image: of the mode CMYK or LAB.
        profile: that the picture brings.
    """
    transform = _transform(profile, image.mode) if profile and len(profile) <= _MOST_BYTES else None
    if transform is None and image.mode == "LAB":
        transform = _lab_transform()
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@lru_cache(16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None also for one that changes next to nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
        if np.abs(converted.astype(int) - colours).max() <= _SAME:
            return None
    return transform


@lru_cache(1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
