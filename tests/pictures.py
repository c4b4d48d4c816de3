"""Encoded pictures of every kind, and the metadata that go with them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

ORIENTATION = 0x0112
# How a camera stores an upright scene under each value of EXIF's orientation.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file of a kind that Pillow, or libheif ("HEIF"), writes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def tagged(orientation: int, endian: str = "<") -> bytes:
    """EXIF with an orientation."""
    exif = Image.Exif()
    exif.endian = endian
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def numbers(*values: float) -> bytes:
    """As profiles have them: 16 bits, the point, 16 bits."""
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def curve(gamma: float) -> bytes:
    """A tone curve of a profile."""
    return struct.pack(">4s4xIH2x", b"curv", 1, round(256 * gamma))


def colorant(x: float, y: float, z: float) -> bytes:
    """A primary of a profile, under the light that profiles are for (D50)."""
    return b"XYZ \0\0\0\0" + numbers(x, y, z)


def profile(space: bytes, tags: Mapping[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile (ICC.1:2001-04) of a colour space, such as ``b"RGB "``."""
    tags = {b"wtpt": colorant(0.9642, 1, 0.8249), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    size = 128 + len(table) + len(content)
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x02400000, kind, space, connection, b"acsp")
    return head.ljust(68, b"\0") + numbers(0.9642, 1, 0.8249).ljust(60, b"\0") + table + content


DISPLAY_P3 = profile(
    b"RGB ",
    {
        b"rXYZ": colorant(0.51512, 0.2412, -0.00105),
        b"gXYZ": colorant(0.29198, 0.69225, 0.04189),
        b"bXYZ": colorant(0.1571, 0.06657, 0.78407),
        **{name: curve(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")},
    },
)
"""What telephones write into their photos, with a simpler tone curve."""

RED_IS_BLUE = profile(
    b"RGB ",
    {
        b"bXYZ": colorant(0.43607, 0.22249, 0.01392),
        b"gXYZ": colorant(0.38515, 0.71687, 0.09708),
        b"rXYZ": colorant(0.14307, 0.06061, 0.7141),
        **{name: curve(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")},
    },
)
"""sRGB's primaries in another order: whoever does not heed it sees blue people."""

DARK_GRAY = profile(b"GRAY", {b"kTRC": curve(1.0)})
"""Gray whose values are proportional to light; unheeded it is much too dark."""


def only_black_counts() -> bytes:
    """A printer's profile in which cyan, magenta and yellow leave no trace on the paper."""
    ramp = bytes(range(256))
    corners = b"".join(bytes([255 if corner % 2 == 0 else 0, 128, 128]) for corner in range(16))
    matrix = numbers(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1" + struct.pack(">4xBBBx", 4, 3, 2) + matrix + 4 * ramp + corners + 3 * ramp
    return profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def far_away(photo: Path) -> bytes:
    """A portrait whose face has some 30 pixels of 7.5 million."""
    portrait = cv2.imread(str(photo))
    canvas = np.full((2500, 3000, 3), 128, np.uint8)
    small = cv2.resize(portrait, None, fx=0.08, fy=0.08, interpolation=cv2.INTER_AREA)
    canvas[1200 : 1200 + small.shape[0], 2200 : 2200 + small.shape[1]] = small
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
