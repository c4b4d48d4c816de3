"""Pictures from the outside: data URI, base64 or raw bytes in, upright BGR pixels out.

Limits are checked in the order of their cost: encoded length, base64, format and pixel count from the
header, and only then are pixels decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import TooManyPixels, UndecodableImage
from shared.formats import Format, read_header
from shared.picture_text import decode_text, is_text, too_large
from shared.rendering import Colours, colours_of, on_white, orientation_of, render, upright

Pixels = NDArray[np.uint8]

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


@dataclass(frozen=True)
class Preview:
    """An upright picture, perhaps at reduced scale.

    Attributes:
        pixels: (height, width, 3) uint8 BGR.
        width, height: of the picture at full scale, in pixels.
        colours: those of ``pixels``; None for sRGB. Few pixels are ever looked at, and to convert all takes longer than
            to decode them: what takes some converts these.
    """

    pixels: Pixels
    width: int
    height: int
    colours: Colours | None = None

    @classmethod
    def full(cls, pixels: Pixels, colours: Colours | None = None) -> Preview:
        """A picture at full scale."""
        return cls(pixels, pixels.shape[1], pixels.shape[0], colours)

    def to_srgb(self, pixels: Pixels) -> Pixels:
        """Some of the picture's pixels, or what was made of them, (..., width, 3) uint8 BGR, in sRGB."""
        return self.colours.to_srgb(pixels) if self.colours else pixels

    @property
    def reduced(self) -> bool:
        """Whether ``pixels`` are fewer than the picture has."""
        return self.pixels.shape[:2] != (self.height, self.width)


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes pictures within limits. Stateless, safe to share between threads.

    Attributes:
        max_bytes: most encoded bytes (before base64).
        max_pixels: most pixels (width times height).
    """

    max_bytes: int
    max_pixels: int

    def bytes_of(self, sent: str | bytes) -> bytes:
        """The encoded picture in what a client sent: a data URI or base64, also where it came as bytes, or the bytes.

        Raises:
            ImageTooLarge, ImageByReference, UndecodableImage: of text, see ``picture_text.decode_text``.
        """
        if isinstance(sent, str):
            return decode_text(sent, self.max_bytes)
        return decode_text(sent.decode(), self.max_bytes) if is_text(sent) else sent

    def decode(self, data: bytes) -> Pixels:
        """Decode an encoded picture of any accepted format as a viewer shows it on a white page, in sRGB.

        Its main or first picture counts. It is upright by its metadata, gray becomes BGR, and 16 bits become 8.

        Returns:
            (height, width, 3) uint8 BGR.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        picture = self.preview(data)
        return picture.to_srgb(picture.pixels)

    def preview(self, data: bytes, least_side: int | None = None, least_scale: float = 0.0) -> Preview:
        """Decode at reduced scale where that is cheap: a JPEG that stays large enough, by its own transform.

        Args:
            data: as for ``decode``.
            least_side: the longer side is not reduced below this, in pixels; full scale when None.
            least_scale: nor below this share of it.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        if len(data) > self.max_bytes:
            raise too_large(self.max_bytes)
        header = read_header(data)
        if header.size is not None:
            self._check_size(*header.size)
        if not header.plain:
            return Preview.full(*render(data, header.format, self._check_size))
        if header.format is not Format.JPEG or header.size is None or least_side is None:
            return Preview.full(*_decoded(data, transparent=header.transparent))
        width, height = header.size
        least = max(least_side, least_scale * max(width, height))
        scale = next((scale for scale in _REDUCED if max(width, height) // scale >= least), 1)
        pixels, colours = _decoded(data, _REDUCED.get(scale, cv2.IMREAD_COLOR))
        # The header gives the size before EXIF's orientation was applied.
        if (width > height) != (pixels.shape[1] > pixels.shape[0]):
            width, height = height, width
        return Preview(pixels, width, height, colours)

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise UndecodableImage("The image has no pixels.")
        if width * height > self.max_pixels:
            raise TooManyPixels(f"The image has more than {self.max_pixels} pixels.")


def _decoded(data: bytes, flags: int = cv2.IMREAD_COLOR, transparent: bool = False) -> tuple[Pixels, Colours | None]:
    """Decode with OpenCV; upright, on white where a picture is ``transparent``."""
    try:
        # An alpha channel comes only with what is not touched in any other way.
        flags = cv2.IMREAD_UNCHANGED if transparent else flags
        pixels, kinds, contents = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), None, flags)
    except cv2.error as error:
        raise UndecodableImage("The image cannot be decoded.") from error
    if pixels is None:
        raise UndecodableImage("The image cannot be decoded.")
    metadata = {int(kind): content.tobytes() for kind, content in zip(kinds, contents, strict=True)}
    if transparent:
        shown = on_white(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2))
        pixels = upright(shown, orientation_of(metadata.get(cv2.IMAGE_METADATA_EXIF, b"")))
    return np.asarray(pixels, np.uint8), colours_of(metadata.get(cv2.IMAGE_METADATA_ICCP))
