"""Pictures as a viewer shows them, where OpenCV does not: GIF, TIFF, HEIC, AVIF, a few of the others; and colours.

Colour profiles (ICC.1:2022) lead from a picture's own colours to sRGB, which everything else here works with.

Their libraries read a file's header when they open it and its pixels when they are asked for them; in between the size
is checked. What is heavy to import is imported for the first picture of its kind.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from shared.errors import ImageError, UndecodableImage, UnsupportedImage
from shared.formats import Format

Pixels = NDArray[np.uint8]
CheckSize = Callable[[int, int], None]
"""Told width and height before the pixels are read; raises when they are too many."""

_ORIENTATION = 0x0112
_ROWS = 256
_TILE_WIDTH, _TILE_LENGTH = 322, 323

_PLUGINS = {
    Format.JPEG: ("PIL.JpegImagePlugin", "JpegImageFile"),
    Format.PNG: ("PIL.PngImagePlugin", "PngImageFile"),
    Format.GIF: ("PIL.GifImagePlugin", "GifImageFile"),
    Format.TIFF: ("PIL.TiffImagePlugin", "TiffImageFile"),
    Format.AVIF: ("PIL.AvifImagePlugin", "AvifImageFile"),
}

_MOST_PROFILE_BYTES = 4 << 20
"""Those of printers have about 2 MiB. A larger profile is ignored, like one that is damaged."""

_SAME_COLOUR = 2
"""Steps of 255 by which colours may differ from sRGB before it is worth to convert them."""


def render(data: bytes, format: Format, check_size: CheckSize) -> tuple[Pixels, Colours | None]:
    """The first or the main picture of a file, upright and on white, and its colours unless they are sRGB's.

    Args:
        data: the file.
        format: that it has.
        check_size: see ``CheckSize``.

    Raises:
        UndecodableImage: it is damaged.
        UnsupportedImage: its pixels are of a kind that is no photo's.
        ImageError: whatever ``check_size`` raises.
    """
    try:
        if format is Format.HEIC:
            return _heic(data, check_size)
        return _with_pillow(data, format, check_size)
    except ImageError:
        raise
    except Exception as error:
        # Damaged files make the libraries raise almost anything, and want any amount of memory.
        raise UndecodableImage(f"The {format} cannot be decoded.") from error


def _heic(data: bytes, check_size: CheckSize) -> tuple[Pixels, Colours | None]:
    """libheif turns the picture upright by the file's own properties; EXIF's orientation says the same once more."""
    pillow_heif: Any = import_module("pillow_heif")
    options = pillow_heif.options
    # Parallelism comes from pictures; and nothing beside the picture is needed.
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=True)
    picture = file[file.primary_index]
    check_size(*picture.size)
    pixels = np.array(picture)  # the file's own may not be drawn upon
    check_size(pixels.shape[1], pixels.shape[0])  # as it turned out to be
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return on_white(pixels), colours_of(picture.info.get("icc_profile"))


def _with_pillow(data: bytes, format: Format, check_size: CheckSize) -> tuple[Pixels, Colours | None]:
    module, name = _PLUGINS[format]
    plugin: Any = import_module(module)
    if format is Format.AVIF:
        plugin.DEFAULT_MAX_THREADS = 1
    # The class itself: Image.open would warn about large pictures by a limit of its own.
    image: ImageFile.ImageFile = getattr(plugin, name)(io.BytesIO(data))
    check_size(*image.size)
    if format is Format.TIFF:
        check_size(*(image.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)))  # type: ignore[attr-defined]
    frame = image.tile[0].extents if format is Format.GIF else None
    image.load()
    profile = image.info.get("icc_profile")
    # Pillow turns TIFFs upright itself.
    orientation = 1 if format is Format.TIFF else orientation_of(image.info.get("exif", b""))
    pixels = on_white(_bgra(image, profile))
    if frame and frame != (0, 0, *image.size):
        left, top, right, bottom = frame
        screen = np.full_like(pixels, 255)
        screen[top:bottom, left:right] = pixels[top:bottom, left:right]
        pixels = screen
    return upright(pixels, orientation), colours_of(profile)


def _bgra(image: Image.Image, profile: bytes | None) -> Pixels:
    if image.mode in ("I", "F"):
        raise UnsupportedImage("The image has other than 8 or 16 bits for a pixel's colour.")
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        return np.asarray(cv2.cvtColor((deep >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)
    if image.mode in ("CMYK", "LAB"):
        image = _convert(image, profile)
    if image.has_transparency_data:
        return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGBA")), cv2.COLOR_RGBA2BGRA), np.uint8)
    return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)


def on_white(pixels: NDArray[Any]) -> Pixels:
    """What a viewer shows of a picture before a white page.

    Args:
        pixels: (height, width, 3 or 4) uint8 or uint16, BGR or BGRA; of 16 bits the upper 8 count.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return pixels
    shown = np.empty((*pixels.shape[:2], 3), np.uint8)
    for start in range(0, len(pixels), _ROWS):  # a few rows at a time, as these need room of their own
        part = pixels[start : start + _ROWS]
        rows = (part >> 8 if part.dtype == np.uint16 else part).astype(np.uint16)
        if rows.shape[2] == 4:
            alpha = rows[..., 3:]
            rows = (rows[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        shown[start : start + _ROWS] = rows
    return shown


_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
"""What is left to do for an orientation, in OpenCV's numbers, once rows and columns are exchanged for 5 and above."""


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn a picture as its EXIF orientation, from 1 to 8, says."""
    turned = cv2.transpose(pixels) if orientation >= 5 else pixels
    return np.asarray(cv2.flip(turned, _FLIPS[orientation]) if orientation in _FLIPS else turned, np.uint8)


def orientation_of(exif: bytes) -> int:
    """EXIF's orientation, from 1 to 8; 1, which is upright, where there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(count if order else 0):
            tag, value = struct.unpack_from(f"{order}H6xH", exif, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if value in range(1, 9) else 1
    except struct.error:
        pass  # what is damaged says nothing
    return 1


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
        transform = _profile_transform(profile, mode) if profile and len(profile) <= _MOST_PROFILE_BYTES else None
        if transform:
            return Colours(transform, mode == "L")
    return None


def _convert(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of CMYK or LAB as sRGB, by its profile, or as it usually is where it has none.

    Args:
        image: of the mode CMYK or LAB.
        profile: that the picture brings.
    """
    transform = _profile_transform(profile, image.mode) if profile and len(profile) <= _MOST_PROFILE_BYTES else None
    if transform is None and image.mode == "LAB":
        transform = _lab_transform()
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@lru_cache(16)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
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
        if np.abs(converted.astype(int) - colours).max() <= _SAME_COLOUR:
            return None
    return transform


@lru_cache(1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
