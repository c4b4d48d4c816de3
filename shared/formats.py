"""What kind of picture bytes are, by their content, and what its header says. Nothing is allocated for pixels.

What a file is called, or is said to be, plays no part.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import UndecodableImage, UnsupportedImage


class Format(StrEnum):
    """A picture format that is accepted, by its name for people."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    BMP = "BMP"
    GIF = "GIF"
    TIFF = "TIFF"
    HEIC = "HEIC"
    AVIF = "AVIF"


ACCEPTED = f"{', '.join(list(Format)[:-1])} or {list(Format)[-1]}"

LONGEST_SIGNATURE = 64
"""Bytes that are enough to tell the format of a picture."""

_STARTS = {
    b"\xff\xd8\xff": Format.JPEG,
    b"\x89PNG\r\n\x1a\n": Format.PNG,
    b"GIF87a": Format.GIF,
    b"GIF89a": Format.GIF,
    b"II*\0": Format.TIFF,
    b"MM\0*": Format.TIFF,
    b"II+\0": Format.TIFF,  # BigTIFF
    b"MM\0+": Format.TIFF,
}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of the header that follows a BMP's first 14 bytes; each is a version."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_ANY_CODEC_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})

# As libjpeg reads it: whatever stands before a marker is skipped.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROFILE, _JPEG_SCAN = 0xE2, 0xDA


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded.

    Attributes:
        format: by its content.
        size: width and height in pixels, before any orientation is applied; None where only the format's own library
            can tell.
        transparent: whether it may have transparent pixels.
        plain: whether OpenCV decodes it as a viewer shows it, apart from transparency and colour profiles.
    """

    format: Format
    size: tuple[int, int] | None
    transparent: bool = False
    plain: bool = True


def format_of(data: bytes | bytearray) -> Format | None:
    """The format of a picture by its first ``LONGEST_SIGNATURE`` bytes; None for something else."""
    for start, format in _STARTS.items():
        if data.startswith(start):
            return format
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Format.WEBP
    if data.startswith(b"BM") and (len(data) < 18 or int.from_bytes(data[14:18], "little") in _BMP_HEADERS):
        return Format.BMP
    if data[4:8] == b"ftyp":
        return _codec_of(data)
    return None


def _codec_of(data: bytes | bytearray) -> Format | None:
    """ISO/IEC 23008-12 (HEIF): the first box lists the brands; videos have others."""
    end = min(int.from_bytes(data[:4], "big"), LONGEST_SIGNATURE)
    major, others = bytes(data[8:12]), {bytes(data[start : start + 4]) for start in range(16, end - 3, 4)}
    for brands, format in ((_AVIF_BRANDS, Format.AVIF), (_HEIC_BRANDS, Format.HEIC)):
        if major in brands or (major in _ANY_CODEC_BRANDS and others & brands):
            return format
    return Format.HEIC if major in _ANY_CODEC_BRANDS else None


def read_header(data: bytes) -> Header:
    """What the header of a picture says.

    Raises:
        UnsupportedImage: not one of the accepted formats.
        UndecodableImage: the header is damaged or not all there.
    """
    format = format_of(data)
    if format is None:
        raise UnsupportedImage(f"The image is not a {ACCEPTED}.")
    read = _READERS.get(format)
    try:
        return read(data) if read else Header(format, None, plain=False)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("The image's header is truncated.") from error


def _read_jpeg(data: bytes) -> Header:
    """ITU-T T.81, annex B. Also checks that an end marker follows the first scan.

    A file that ends too early is noticed by the decoder, but one that goes on with zeros, as an interrupted download
    may, would get a gray rest. The segments before the scan are skipped by their lengths, since a thumbnail among them
    has markers of its own.
    """
    width = height = components = 0
    profile = False
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker in _JPEG_BARE_MARKERS:
            continue
        if marker == _JPEG_SCAN:
            if data.find(b"\xff\xd9", position) == -1:
                break
            return Header(Format.JPEG, (width, height), plain=not (profile and components == 4))
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, position + 3)
        profile = profile or (marker == _JPEG_PROFILE and data.startswith(b"ICC_PROFILE\0", position + 2))
        position += max(2, length)
    raise UndecodableImage("The JPEG is truncated.")


def _read_png(data: bytes) -> Header:
    """PNG specification: the first chunk is IHDR; one that lists transparent colours comes before the pixels.

    Also checks that there is as much of each chunk as it says: OpenCV makes room for that before it reads, and a chunk
    may say 4 GiB.
    """
    first, width, height, _, colours = struct.unpack_from(">4sIIBB", data, 12)
    if first != b"IHDR":
        raise UndecodableImage("The PNG's header is damaged.")
    position, kind, lists_transparent = 8, b"", False
    while position < len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        lists_transparent = lists_transparent or kind == b"tRNS"
    if position > len(data):
        raise UndecodableImage("The PNG is truncated.")
    # OpenCV overlooks a transparent gray.
    plain = not (lists_transparent and colours == 0)
    return Header(Format.PNG, (width, height), lists_transparent or colours in (4, 6), plain)


def _read_webp(data: bytes) -> Header:
    """RFC 9649: a lossy, a lossless or an extended file, told apart by the first chunk."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(Format.WEBP, (width & 0x3FFF, height & 0x3FFF))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header(Format.WEBP, ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), transparent=True)
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        width, height = (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
        return Header(Format.WEBP, (width, height), transparent=True)
    raise UndecodableImage("The WebP's header is damaged.")


def _read_bmp(data: bytes) -> Header:
    """The size field of the header tells its version; rows from the top down have a negative height."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    bits = 24 if header == 12 else struct.unpack_from("<H", data, 28)[0]
    return Header(Format.BMP, (width, abs(height)), transparent=bits == 32)


def _read_gif(data: bytes) -> Header:
    """GIF89a: the first frame may reach beyond the screen, which then grows, and comes after any extensions."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette_bytes(flags)
    while data[position] == 0x21:
        position += 2
        while size := data[position]:
            position += 1 + size
        position += 1
    if data[position] != 0x2C:
        raise UndecodableImage("The GIF has no picture.")
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
    if not frame_width or not frame_height:
        width = height = 0
    screen = max(width, left + frame_width), max(height, top + frame_height)
    return Header(Format.GIF, screen, transparent=True, plain=False)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_READERS = {
    Format.JPEG: _read_jpeg,
    Format.PNG: _read_png,
    Format.WEBP: _read_webp,
    Format.BMP: _read_bmp,
    Format.GIF: _read_gif,
}
