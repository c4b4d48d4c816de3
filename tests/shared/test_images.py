"""Real encoded pictures of every kind that clients send, and bytes that only pretend to be one."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pybase64
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage.data import astronaut

from shared.errors import ImageError, ImageTooLarge, TooManyPixels, UndecodableImage, UnsupportedImage
from shared.images import ImageDecoder, Pixels
from tests.pictures import STORED, encoded, tagged

DECODER = ImageDecoder(max_bytes=1 << 20, max_pixels=1_000_000)

# A face and its surroundings; no symmetry, and sides that differ, so that no wrong turn goes unnoticed.
PHOTO: NDArray[np.uint8] = np.ascontiguousarray(astronaut()[:128, 160:256])
HEIGHT, WIDTH = PHOTO.shape[:2]
PICTURE = Image.fromarray(PHOTO)
GRAY = np.asarray(PICTURE.convert("L"))


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


JPEG = encoded(PICTURE, "JPEG", quality=95)
PROGRESSIVE = encoded(PICTURE, "JPEG", quality=95, progressive=True)
PNG = encoded(PICTURE, "PNG")
LOSSY_WEBP = encoded(PICTURE, "WEBP", quality=95)
WEBP = encoded(PICTURE, "WEBP", lossless=True)
BMP = encoded(PICTURE, "BMP")


def assert_shows(pixels: Pixels, expected: NDArray[np.uint8], tolerance: float = 0.0) -> None:
    """The pixels are BGR and show the expected RGB picture up to a mean difference."""
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(pixels[..., ::-1].astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize(
    "data", [PNG, WEBP, BMP, encoded(PICTURE, "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08")]
)
def test_lossless_formats_give_the_very_pixels(data: bytes) -> None:
    assert_shows(DECODER.decode(data), PHOTO)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, LOSSY_WEBP])
def test_lossy_formats_come_near(data: bytes) -> None:
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_gray_becomes_bgr(kind: str) -> None:
    pixels = DECODER.decode(encoded(PICTURE.convert("L"), kind))
    assert_shows(pixels, np.repeat(GRAY[..., None], 3, axis=2), tolerance=4 if kind == "JPEG" else 0)
    assert (pixels[..., 0] == pixels[..., 2]).all()


def on_white(image: Image.Image) -> NDArray[np.uint8]:
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return np.asarray(page.convert("RGB"))


def with_alpha(mode: str = "RGBA") -> Image.Image:
    image = PICTURE.convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 95}), ("TIFF", {}), ("AVIF", {"quality": 95})],
)
def test_transparency_shows_white(mode: str, kind: str, options: dict[str, object]) -> None:
    lossy = 4 if "quality" in options else 1
    assert_shows(DECODER.decode(encoded(with_alpha(mode), kind, **options)), on_white(with_alpha(mode)), lossy)


def test_transparency_of_16_bits_shows_white() -> None:
    deep = np.asarray(with_alpha())[..., [2, 1, 0, 3]].astype(np.uint16) * 257
    assert_shows(DECODER.decode(cv2.imencode(".png", deep)[1].tobytes()), on_white(with_alpha()), tolerance=1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_shows_white(mode: str) -> None:
    image = PICTURE.convert(mode)
    corner = image.getpixel((0, 0))
    data = encoded(image, "PNG", transparency=corner)
    expected = np.array(PICTURE.convert(mode).convert("RGB"))
    expected[np.all(np.atleast_3d(np.asarray(image)) == corner, axis=2)] = 255
    assert_shows(DECODER.decode(data), expected)


def test_a_palette_of_transparent_colours_shows_white() -> None:
    image = PICTURE.convert("P")
    alpha = bytes(range(256))
    data = encoded(image, "PNG", transparency=alpha)
    expected = image.convert("RGB").convert("RGBA")
    expected.putalpha(Image.fromarray(np.frombuffer(alpha, np.uint8)[np.asarray(image)]))
    assert_shows(DECODER.decode(data), on_white(expected), tolerance=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_what_is_wholly_transparent_is_white_paper(kind: str) -> None:
    image = PICTURE.convert("RGBA")
    image.putalpha(0)
    options: dict[str, object] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert (DECODER.decode(encoded(image, kind, **options)) >= 254).all()


def test_what_is_drawn_in_the_alpha_channel_alone_is_seen() -> None:
    ink = Image.new("RGBA", PICTURE.size)
    ink.putalpha(Image.fromarray(255 - GRAY))
    assert_shows(DECODER.decode(encoded(ink, "PNG")), np.repeat(GRAY[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_pictures_are_upright(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(STORED[orientation](with_alpha()), kind, exif=tagged(orientation), **options)
    assert_shows(DECODER.decode(data), on_white(with_alpha()), tolerance=1)


def test_bmp_with_alpha() -> None:
    assert_shows(DECODER.decode(encoded(PICTURE.convert("RGBA"), "BMP")), PHOTO)


def test_16_bits_become_8() -> None:
    deep = PHOTO[..., ::-1].astype(np.uint16) * 257
    assert_shows(DECODER.decode(cv2.imencode(".png", deep)[1].tobytes()), PHOTO)
    assert_shows(
        DECODER.decode(encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG")),
        np.repeat(GRAY[..., None], 3, axis=2),
    )


@pytest.mark.parametrize("mode", ["P", "1"])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_palettes_are_looked_up(mode: str, kind: str) -> None:
    image = PICTURE.convert(mode)
    assert_shows(DECODER.decode(encoded(image, kind)), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg() -> None:
    assert_shows(DECODER.decode(encoded(PICTURE.convert("CMYK"), "JPEG", quality=95)), PHOTO, tolerance=4)


def test_bmp_with_rows_from_the_top() -> None:
    data = bytearray(BMP)
    struct.pack_into("<i", data, 22, -HEIGHT)
    assert_shows(DECODER.decode(bytes(data)), PHOTO[::-1])


def test_bmp_with_the_header_of_os2() -> None:
    rows = PHOTO[::-1, :, ::-1].tobytes()
    data = struct.pack("<2sIIIIHHHH", b"BM", 26 + len(rows), 0, 26, 12, WIDTH, HEIGHT, 1, 24) + rows
    assert_shows(DECODER.decode(data), PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(PICTURE, kind, save_all=True, append_images=[PICTURE.rotate(180)], **options)
    assert_shows(DECODER.decode(data), PHOTO)


def test_of_several_pictures_in_a_jpeg_the_first_counts() -> None:
    data = encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)], quality=95)
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_upright(kind: str, orientation: int, endian: str) -> None:
    stored = STORED[orientation](PICTURE)
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(stored, kind, exif=tagged(orientation, endian), **options)
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4 if kind == "JPEG" else 0)


def test_a_png_is_upright_also_if_its_exif_comes_last() -> None:
    data = encoded(STORED[6](PICTURE), "PNG")
    end = data.index(b"IEND") - 4
    data = data[:end] + chunk(b"eXIf", tagged(6).removeprefix(b"Exif\0\0")) + data[end:]
    assert_shows(DECODER.decode(data), PHOTO)


def test_damaged_exif_does_not_matter() -> None:
    data = encoded(PICTURE, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP, LOSSY_WEBP, BMP])
def test_a_truncated_picture_cannot_be_decoded(data: bytes, kept: float) -> None:
    with pytest.raises(UndecodableImage):
        DECODER.decode(data[: int(len(data) * kept)])


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP, LOSSY_WEBP, BMP])
def test_a_truncated_header_cannot_be_decoded(data: bytes) -> None:
    for length in range(12, 30):
        with pytest.raises(UndecodableImage):
            DECODER.decode(data[:length])


def test_a_jpeg_that_goes_on_with_zeros_cannot_be_decoded() -> None:
    with pytest.raises(UndecodableImage):
        DECODER.decode(JPEG[: len(JPEG) // 2] + bytes(500_000))


def with_thumbnail(data: bytes) -> bytes:
    thumbnail = encoded(PICTURE.resize((24, 32)), "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]


def test_a_thumbnail_is_not_the_picture() -> None:
    data = with_thumbnail(JPEG)
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4)
    with pytest.raises(UndecodableImage):
        DECODER.decode(data[: len(data) * 3 // 4] + bytes(500_000))
    with pytest.raises(TooManyPixels):
        DECODER.decode(with_thumbnail(jpeg_header(60_000, 60_000)))


def test_a_motion_photo_is_decoded() -> None:
    video = b"\0\0\0\x18ftypmp42" + random.Random(1).randbytes(50_000)
    assert_shows(DECODER.decode(JPEG + video), PHOTO, tolerance=4)


def test_a_jpeg_with_padding_between_its_segments() -> None:
    second = 4 + int.from_bytes(JPEG[4:6], "big")
    data = JPEG[:second] + b"\xff\xff" + JPEG[second:]
    assert_shows(DECODER.decode(data), PHOTO, tolerance=4)


def png_header(width: int, height: int) -> bytes:
    return PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + PNG[33:]


def jpeg_header(width: int, height: int) -> bytes:
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def bmp_header(width: int, height: int) -> bytes:
    return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]


def lossy_webp_header(width: int, height: int) -> bytes:
    return LOSSY_WEBP[:26] + struct.pack("<HH", width, height) + LOSSY_WEBP[30:]


def lossless_webp_header(width: int, height: int) -> bytes:
    return WEBP[:21] + struct.pack("<I", width - 1 | height - 1 << 14) + WEBP[25:]


def extended_webp_header(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 2) + sides


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_header(60_000, 60_000), id="PNG"),
        pytest.param(jpeg_header(60_000, 60_000), id="JPEG"),
        pytest.param(bmp_header(60_000, 60_000), id="BMP"),
        pytest.param(bmp_header(60_000, -60_000), id="BMP from the top"),
        pytest.param(lossy_webp_header(16_383, 16_383), id="lossy WebP"),
        pytest.param(lossless_webp_header(16_384, 16_384), id="lossless WebP"),
        pytest.param(extended_webp_header(70_000, 4_000), id="extended WebP"),
    ],
)
def test_a_bomb_is_refused_by_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecodeWithMetadata", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(TooManyPixels) as caught:
        ImageDecoder(max_bytes=1 << 20, max_pixels=200_000_000).decode(data)
    assert "200000000" in caught.value.message


@pytest.mark.parametrize("kind", [b"IDAT", b"eXIf", b"tEXt"])
def test_a_png_that_announces_more_than_there_is_gets_no_room(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV would fill 4 GiB with zeros first, for seconds."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    for announced in (1 << 16, 0xFF00009E, 0xFFFFFFFF):
        with pytest.raises(UndecodableImage):
            DECODER.decode(PNG[:33] + struct.pack(">I", announced) + kind + PNG[41:])


def test_what_follows_the_end_of_a_png_does_not_matter() -> None:
    assert_shows(DECODER.decode(PNG + b"\xff" * 50), PHOTO)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP, LOSSY_WEBP, BMP])
def test_the_limit_is_the_number_of_pixels(data: bytes) -> None:
    assert ImageDecoder(len(data), WIDTH * HEIGHT).decode(data).shape == PHOTO.shape
    with pytest.raises(TooManyPixels):
        ImageDecoder(len(data), WIDTH * HEIGHT - 1).decode(data)
    with pytest.raises(ImageTooLarge):
        ImageDecoder(len(data) - 1, WIDTH * HEIGHT).decode(data)


@pytest.mark.parametrize("side", [20_000, 40_000])
def test_beyond_the_limits_of_the_libraries_there_are_errors_of_ours(side: int) -> None:
    # Where a library finds a size suspicious depends on the library; none of its warnings or errors may escape.
    with pytest.raises(UndecodableImage):
        ImageDecoder(max_bytes=1 << 20, max_pixels=10_000_000_000).decode(png_header(side, side))


@pytest.mark.parametrize("header", [png_header, jpeg_header, bmp_header])
def test_a_picture_without_pixels_cannot_be_decoded(header: Callable[[int, int], bytes]) -> None:
    with pytest.raises(UndecodableImage):
        DECODER.decode(header(0, 10))
    with pytest.raises(UndecodableImage):
        DECODER.decode(header(10, 0))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", id="video"),
        pytest.param(encoded(PICTURE, "JPEG2000"), id="JPEG 2000"),
        pytest.param(encoded(PICTURE, "ICO"), id="ICO"),
        pytest.param(encoded(PICTURE, "PPM"), id="PPM"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', id="SVG"),
        pytest.param(b"<!DOCTYPE html><title>Not found</title>", id="HTML"),
        pytest.param(b"%PDF-1.7\n", id="PDF"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", id="WAV"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_other_formats_are_not_supported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage) as caught:
        DECODER.decode(data)
    assert "JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF" in caught.value.message


BASE64 = base64.b64encode(PNG).decode()
WITH_PADDING = BASE64 if BASE64.endswith("=") else base64.b64encode(PNG + b"\0").decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BASE64, id="base64 alone"),
        pytest.param(f"data:image/png;base64,{BASE64}", id="data URI"),
        pytest.param(f"data:;base64,{BASE64}", id="no type"),
        pytest.param(f"data:image/png;charset=utf-8;base64,{BASE64}", id="charset"),
        pytest.param(f"data:image/png;name=a%20b.png;charset=utf-8;base64,{BASE64}", id="several parameters"),
        pytest.param(f"DATA:IMAGE/PNG;BASE64,{BASE64}", id="upper case"),
        pytest.param(f"data:image/jpeg;base64,{BASE64}", id="another type than the content's"),
        pytest.param(f"data:image/png;base64,{WITH_PADDING.rstrip('=')}", id="no padding"),
        pytest.param(f"{WITH_PADDING}==", id="too much padding"),
        pytest.param("\r\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76)), id="lines of a mail"),
        pytest.param(base64.encodebytes(PNG).decode(), id="line at the end"),
        pytest.param(f"data:image/png;base64,\n  {BASE64}\t\n", id="white space around"),
    ],
)
def test_base64_in_the_forms_that_clients_send(text: str) -> None:
    assert_shows(DECODER.decode(DECODER.bytes_of(text)), PHOTO)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("data:", id="no comma"),
        pytest.param("data:image/png;base64,", id="no content"),
        pytest.param("data:image/png;base64,====", id="only padding"),
        pytest.param(f"data:image/png,{BASE64}", id="not declared as base64"),
        pytest.param(f"data:{'x' * 300};base64,{BASE64}", id="endless type"),
        pytest.param("not base64 at all!", id="other text"),
        pytest.param("QUJD*A==", id="a character that is none of base64's"),
        pytest.param("QUJDR", id="a lone character"),
        pytest.param("bäse64", id="not ASCII"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("../photo.jpg", id="path"),
        pytest.param("http://127.0.0.1/photo.jpg", id="address"),
    ],
)
def test_what_is_not_base64_cannot_be_decoded(text: str) -> None:
    with pytest.raises(UndecodableImage):
        DECODER.bytes_of(text)


def test_too_much_text_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pybase64, "b64decode", lambda *_, **__: pytest.fail("was decoded"))
    with pytest.raises(ImageTooLarge):
        DECODER.bytes_of("data:image/png;base64," + "A" * (DECODER.max_bytes * 3))


def test_the_limit_of_text_is_that_of_its_bytes() -> None:
    exact = ImageDecoder(len(PNG), WIDTH * HEIGHT)
    assert exact.bytes_of(BASE64) == exact.bytes_of("\n".join(BASE64)) == PNG
    with pytest.raises(ImageTooLarge):
        ImageDecoder(len(PNG) - 1, WIDTH * HEIGHT).bytes_of(BASE64)


def assert_decodes_or_refuses(data: bytes | str) -> None:
    try:
        pixels = DECODER.decode(DECODER.bytes_of(data)) if isinstance(data, str) else DECODER.decode(data)
    except ImageError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= DECODER.max_pixels


SIGNATURES = st.sampled_from([b"", b"\xff\xd8\xff", PNG[:8], PNG[:16], WEBP[:16], LOSSY_WEBP[:16], b"BM", BMP[:18]])


@given(SIGNATURES, st.binary(max_size=200))
@example(b"\xff\xd8\xff", b"\xc0\x00")
def test_random_bytes_are_pixels_or_an_image_error(signature: bytes, data: bytes) -> None:
    assert_decodes_or_refuses(signature + data)


MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "cut", "insert"]), st.binary(min_size=1, max_size=4)
    ),
    min_size=1,
    max_size=6,
)
EXIF = encoded(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")


@given(st.sampled_from([JPEG, PROGRESSIVE, EXIF, PNG, WEBP, LOSSY_WEBP, BMP]), MUTATIONS, st.booleans())
def test_damaged_pictures_are_pixels_or_an_image_error(
    data: bytes, mutations: list[tuple[float, str, bytes]], only_header: bool
) -> None:
    damaged = bytearray(data)
    for where, what, content in mutations:
        position = int(where * min(len(damaged), 200 if only_header else len(damaged)))
        if what == "set":
            damaged[position : position + len(content)] = content
        elif what == "cut":
            del damaged[position : position + len(content)]
        else:
            damaged[position:position] = content
    assert_decodes_or_refuses(bytes(damaged))


@given(st.sampled_from(["", "data:", "data:image/png;base64,", BASE64[:40]]), st.text(max_size=100))
def test_random_text_is_pixels_or_an_image_error(start: str, text: str) -> None:
    assert_decodes_or_refuses(start + text)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("side", "scale"), [(400, 2), (200, 4), (100, 8), (401, 1), (90, 8)])
def test_previews_of_jpegs_are_reduced_and_upright(orientation: int, side: int, scale: int) -> None:
    jpeg, upright = _oriented(orientation)
    preview = DECODER.preview(jpeg, side)
    assert (preview.width, preview.height) == upright.size
    assert preview.pixels.shape[:2] == (upright.height // scale, upright.width // scale)
    assert preview.reduced == (scale > 1)
    smaller = np.asarray(upright.resize((upright.width // scale, upright.height // scale), Image.Resampling.BOX))
    assert np.abs(preview.pixels[..., ::-1].astype(int) - smaller).mean() < 3


@cache
def _oriented(orientation: int) -> tuple[bytes, Image.Image]:
    """A JPEG with an orientation, and the same picture upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = PICTURE.resize((800, 600))
    with Image.open(io.BytesIO(encoded(picture, "PNG", exif=exif))) as tagged:
        return encoded(picture, "JPEG", exif=exif, quality=95), ImageOps.exif_transpose(tagged)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_previews_of_other_formats_are_full(kind: str) -> None:
    preview = DECODER.preview(encoded(PICTURE, kind), 10)
    assert not preview.reduced and preview.pixels.shape == PHOTO.shape
    assert (preview.width, preview.height) == (WIDTH, HEIGHT)


def test_previews_have_the_same_limits() -> None:
    with pytest.raises(TooManyPixels):
        ImageDecoder(len(JPEG), WIDTH * HEIGHT - 1).preview(JPEG, 10)
    with pytest.raises(ImageTooLarge):
        ImageDecoder(len(JPEG) - 1, WIDTH * HEIGHT).preview(JPEG, 10)
    with pytest.raises(UndecodableImage):
        DECODER.preview(JPEG[: len(JPEG) // 2], 10)
