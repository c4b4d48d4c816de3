"""Pictures from the outside: data URI, base64 or raw bytes in, upright BGR pixels out.

Limits are checked in the order of their cost: encoded length, base64, format and pixel count from the
header, and only then are pixels decoded.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from shared.errors import ImageTooLarge, TooManyPixels, UndecodableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

Pixels = NDArray[np.uint8]

_DATA_URI = re.compile(r"data:[^,]{0,200}?,", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes pictures within limits. Stateless, safe to share between threads.

    Attributes:
        max_bytes: most encoded bytes (before base64).
        max_pixels: most pixels (width times height).
    """

    max_bytes: int
    max_pixels: int

    def decode_text(self, text: str) -> Pixels:
        """Decode a base64 data URI, or base64 alone.

        Returns:
            (height, width, 3) uint8 BGR, upright.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        return self.decode(self.bytes_of(text))

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
        body = text[start:]
        try:
            encoded = body.encode("ascii")
            data = self._decode_base64(encoded)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise UndecodableImage("The image is not valid base64.") from error
        if not data:
            raise UndecodableImage("The image is empty.")
        if len(data) > self.max_bytes:
            raise self._too_large()
        return data

    @staticmethod
    def _decode_base64(encoded: bytes) -> bytes:
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            compact = b"".join(encoded.split()).rstrip(b"=")
            return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)

    def decode(self, data: bytes) -> Pixels:
        """Decode an encoded picture (JPEG, PNG, WebP or BMP) and turn it upright by its EXIF orientation.

        Gray pictures become BGR, an alpha channel is dropped, 16 bits become 8.

        Returns:
            (height, width, 3) uint8 BGR.

        Raises:
            ImageTooLarge, TooManyPixels, UnsupportedImage, UndecodableImage: see ``shared.errors``.
        """
        if len(data) > self.max_bytes:
            raise self._too_large()
        self._check_header(data)
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise UndecodableImage("The image cannot be decoded.") from error
        if pixels is None:
            raise UndecodableImage("The image cannot be decoded.")
        return np.asarray(pixels, np.uint8)

    def _check_header(self, data: bytes) -> None:
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                kind = image.format
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        except UnidentifiedImageError as error:
            raise UnsupportedImage("The image is not a JPEG, PNG, WebP or BMP.") from error
        except Exception as error:  # Pillow's parsers raise SyntaxError, struct.error, … on damaged headers
            raise UndecodableImage("The image's header is damaged.") from error
        if width < 1 or height < 1:
            raise UndecodableImage("The image has no pixels.")
        if width * height > self.max_pixels:
            raise self._too_many_pixels()
        # libjpeg fills what is missing with gray and calls it a success.
        if kind in ("JPEG", "MPO") and not _jpeg_is_complete(data):
            raise UndecodableImage("The JPEG is truncated.")

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(f"The encoded image has more than {self.max_bytes} bytes.")

    def _too_many_pixels(self) -> TooManyPixels:
        return TooManyPixels(f"The image has more than {self.max_pixels} pixels.")


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether an end marker follows the first scan (ITU-T T.81, annex B).

    The segments before it are skipped by their lengths, since a thumbnail among them has markers of its own.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) != -1
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
