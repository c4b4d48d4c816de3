"""Pictures from the outside: data URI, base64 or raw bytes in, upright BGR pixels out.

Limits are checked in the order of their cost: encoded length, base64, format and pixel count from the
header, and only then are pixels decoded.
"""

from __future__ import annotations

import binascii
import re
import struct
from dataclasses import dataclass

import cv2
import numpy as np
import pybase64
from numpy.typing import NDArray

from shared.errors import ImageTooLarge, TooManyPixels, UndecodableImage, UnsupportedImage

Pixels = NDArray[np.uint8]

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

_DATA_URI = re.compile(r"data:[^,]{0,200}?,", re.IGNORECASE)
_JPEG = b"\xff\xd8\xff"
# As libjpeg reads it: whatever stands before a marker is skipped.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA


@dataclass(frozen=True)
class Preview:
    """An upright picture, perhaps at reduced scale.

    Attributes:
        pixels: (height, width, 3) uint8 BGR.
        width, height: of the picture at full scale, in pixels.
    """

    pixels: Pixels
    width: int
    height: int

    @classmethod
    def full(cls, pixels: Pixels) -> Preview:
        """A picture at full scale."""
        return cls(pixels, pixels.shape[1], pixels.shape[0])

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

    def bytes_of(self, text: str) -> bytes:
        """The encoded picture in a base64 data URI, or in base64 alone. White space is ignored, padding may lack.

        Raises:
            ImageTooLarge: more than ``max_bytes``.
            UndecodableImage: not base64, or empty.
        """
        start = 0
        if text[:5].lower() == "data:":
            header = _DATA_URI.match(text)
            if header is None or not header.group().lower().endswith(";base64,"):
                raise UndecodableImage("The data URI is not of the form data:image/…;base64,…")
            start = header.end()
        # A generous bound first: line breaks may add to the length, but never double it.
        if len(text) - start > self.max_bytes * 8 // 3 + 8:
            raise self._too_large()
        try:
            data = self._decode_base64(text[start:])
        except (ValueError, binascii.Error) as error:
            raise UndecodableImage("The image is not valid base64.") from error
        if not data:
            raise UndecodableImage("The image is empty.")
        if len(data) > self.max_bytes:
            raise self._too_large()
        return data

    @staticmethod
    def _decode_base64(text: str) -> bytes:
        try:
            return pybase64.b64decode(text, validate=True)
        except binascii.Error:
            compact = "".join(text.split()).rstrip("=")
            return pybase64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)

    def decode(self, data: bytes) -> Pixels:
        """Decode an encoded picture (JPEG, PNG, WebP or BMP) and turn it upright by its EXIF orientation.

        Gray pictures become BGR, an alpha channel is dropped, 16 bits become 8.

        Returns:
            (height, width, 3) uint8 BGR.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        self._size(data)
        return _decoded(data, cv2.IMREAD_COLOR)

    def preview(self, data: bytes, least_side: int) -> Preview:
        """Decode at reduced scale where that is cheap: a JPEG that stays large enough, by its own transform.

        Args:
            data: as for ``decode``.
            least_side: the longer side is not reduced below this, in pixels.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        width, height = self._size(data)
        scale = next((scale for scale in _REDUCED if max(width, height) // scale >= least_side), 1)
        if scale == 1 or not data.startswith(_JPEG):
            return Preview.full(_decoded(data, cv2.IMREAD_COLOR))
        pixels = _decoded(data, _REDUCED[scale])
        # The header gives the size before EXIF's orientation was applied.
        if (width > height) != (pixels.shape[1] > pixels.shape[0]):
            width, height = height, width
        return Preview(pixels, width, height)

    def _size(self, data: bytes) -> tuple[int, int]:
        if len(data) > self.max_bytes:
            raise self._too_large()
        try:
            width, height = _size_of(data)
        except (struct.error, IndexError) as error:
            raise UndecodableImage("The image's header is truncated.") from error
        if width < 1 or height < 1:
            raise UndecodableImage("The image has no pixels.")
        if width * height > self.max_pixels:
            raise self._too_many_pixels()
        return width, height

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(f"The encoded image has more than {self.max_bytes} bytes.")

    def _too_many_pixels(self) -> TooManyPixels:
        return TooManyPixels(f"The image has more than {self.max_pixels} pixels.")


def _decoded(data: bytes, flags: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UndecodableImage("The image cannot be decoded.") from error
    if pixels is None:
        raise UndecodableImage("The image cannot be decoded.")
    return np.asarray(pixels, np.uint8)


def _size_of(data: bytes) -> tuple[int, int]:
    """Width and height from the header, without allocating anything for the pixels.

    Raises:
        UnsupportedImage: not one of the accepted formats.
        UndecodableImage, struct.error, IndexError: the header is damaged or not all there.
    """
    if data.startswith(_JPEG):
        return _jpeg_size(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_size(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(b"BM"):
        return _bmp_size(data)
    raise UnsupportedImage("The image is not a JPEG, PNG, WebP or BMP.")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """ITU-T T.81, annex B. Also checks that an end marker follows the first scan.

    A file that ends too early is noticed by the decoder, but one that goes on with zeros, as an interrupted download
    may, would get a gray rest. The segments before the scan are skipped by their lengths, since a thumbnail among them
    has markers of its own.
    """
    size = (0, 0)
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker in _JPEG_BARE_MARKERS:
            continue
        if marker == _JPEG_SCAN:
            if data.find(b"\xff\xd9", position) == -1:
                break
            return size
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (width, height)
        position += max(2, length)
    raise UndecodableImage("The JPEG is truncated.")


def _png_size(data: bytes) -> tuple[int, int]:
    """PNG specification, 11.2.2: the first chunk is IHDR."""
    chunk, width, height = struct.unpack_from(">4sII", data, 12)
    if chunk != b"IHDR":
        raise UndecodableImage("The PNG's header is damaged.")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649: a lossy, a lossless or an extended file, told apart by the first chunk."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    raise UndecodableImage("The WebP's header is damaged.")


def _bmp_size(data: bytes) -> tuple[int, int]:
    """The size field of the header tells its version; rows from the top down have a negative height."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height)
