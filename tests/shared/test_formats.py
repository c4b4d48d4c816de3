"""Files are told apart by what they contain, and their size is known before their pixels are."""

from __future__ import annotations

import struct
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ImageError
from shared.formats import LONGEST_SIGNATURE, Format, format_of, read_header
from tests.pictures import encoded

SIZE = (48, 32)


def plain(kind: str, mode: str = "RGB") -> bytes:
    return encoded(Image.new(mode, SIZE), kind)


FILES = {
    Format.JPEG: plain("JPEG"),
    Format.PNG: plain("PNG"),
    Format.WEBP: plain("WEBP"),
    Format.BMP: plain("BMP"),
    Format.GIF: plain("GIF"),
    Format.TIFF: plain("TIFF"),
    Format.HEIC: plain("HEIF"),
    Format.AVIF: plain("AVIF"),
}


@pytest.mark.parametrize(("format", "data"), FILES.items())
def test_formats_are_told_by_the_beginning_of_a_file(format: Format, data: bytes) -> None:
    assert format_of(data) is format_of(data[:LONGEST_SIGNATURE]) is format
    assert format_of(bytes(data[1:])) is None


@pytest.mark.parametrize(
    ("kind", "mode"),
    [*product(["PNG", "WEBP", "BMP", "GIF"], ["RGB", "RGBA", "L", "P"]), ("JPEG", "RGB"), ("JPEG", "L")],
)
def test_sizes(kind: str, mode: str) -> None:
    assert read_header(plain(kind, mode)).size == SIZE


@pytest.mark.parametrize(
    ("brands", "format"),
    [
        ((b"heic", b"mif1"), Format.HEIC),
        ((b"mif1", b"heic"), Format.HEIC),
        ((b"mif1",), Format.HEIC),
        ((b"avif", b"mif1"), Format.AVIF),
        ((b"mif1", b"avif"), Format.AVIF),
        ((b"avis", b"avif"), Format.AVIF),
        ((b"isom", b"mp41"), None),
        ((b"qt  ",), None),
        ((b"3gp4",), None),
    ],
)
def test_brands_tell_pictures_from_videos(brands: tuple[bytes, ...], format: Format | None) -> None:
    box = struct.pack(">I4s4sI", 16 + 4 * len(brands[1:]), b"ftyp", brands[0], 0) + b"".join(brands[1:])
    assert format_of(box + b"heicavif") is format


def test_text_that_begins_like_a_bmp_is_none() -> None:
    assert format_of(b"BMW drivers of the year 1996") is None


def test_a_gif_is_as_large_as_its_first_frame_makes_it() -> None:
    data = bytearray(FILES[Format.GIF])
    frame = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    struct.pack_into("<HHHH", data, frame + 1, 1000, 0, 65_535, 32)
    extension = b"!\xfe\x05hello\0"
    assert read_header(bytes(data[:frame] + extension + data[frame:])).size == (66_535, 32)


@given(st.sampled_from(list(FILES.values())), st.integers(0, 60), st.binary(max_size=40))
def test_any_header_is_read_or_refused(data: bytes, kept: int, rest: bytes) -> None:
    try:
        header = read_header(data[:kept] + rest)
    except ImageError:
        return
    assert header.size is None or min(header.size) >= -(1 << 31)
