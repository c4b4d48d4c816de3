"""GIF, TIFF, HEIC and AVIF: the first or main picture, upright, within limits, and damaged in every way.

Colours are those that a viewer shows: profiles are heeded, and what is sRGB is left alone.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from skimage.data import astronaut

from shared.errors import ImageError, TooManyPixels, UndecodableImage, UnsupportedImage
from shared.images import ImageDecoder
from shared.rendering import colours_of, orientation_of, upright
from tests.pictures import DARK_GRAY, DISPLAY_P3, RED_IS_BLUE, STORED, encoded, only_black_counts, tagged

DECODER = ImageDecoder(max_bytes=1 << 20, max_pixels=1_000_000)
PHOTO: NDArray[np.uint8] = np.ascontiguousarray(astronaut()[:128, 160:256])
PICTURE = Image.fromarray(PHOTO)
GRAY = np.asarray(PICTURE.convert("L"))
HEIGHT, WIDTH = PHOTO.shape[:2]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILED = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"]

BEST = {"HEIF": {"quality": 95}, "AVIF": {"quality": 95}}
TIFFS = {
    f"TIFF {name}": encoded(PICTURE, "TIFF", compression=name)
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
}
FILES = {
    "GIF": encoded(PICTURE, "GIF"),
    "HEIC": encoded(PICTURE, "HEIF", quality=95),
    "AVIF": encoded(PICTURE, "AVIF", quality=95),
    "BigTIFF": encoded(PICTURE, "TIFF", big_tiff=True),
    **TIFFS,
}


def difference(data: bytes, expected: NDArray[np.uint8] = PHOTO) -> float:
    """Mean difference of what is decoded from a picture in RGB."""
    pixels = DECODER.decode(data)
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    return float(np.abs(pixels[..., ::-1].astype(int) - expected).mean())


@pytest.mark.parametrize("name", FILES)
def test_photos_are_decoded(name: str) -> None:
    assert difference(FILES[name]) <= (12 if name == "GIF" else 4)  # of 256 colours in a GIF


@pytest.mark.parametrize("name", FILES)
def test_pixels_may_be_drawn_upon(name: str) -> None:
    assert DECODER.decode(FILES[name]).flags.writeable


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["TIFF", "HEIF", "AVIF"])
def test_photos_are_upright(kind: str, orientation: int) -> None:
    """libheif and libavif write the orientation as a property of the picture, and HEIC's EXIF keeps saying it."""
    data = encoded(STORED[orientation](PICTURE), kind, exif=tagged(orientation), **BEST.get(kind, {}))
    assert difference(data) <= 4


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "HEIF"])
def test_of_several_pictures_the_first_counts(kind: str) -> None:
    data = encoded(PICTURE, kind, save_all=True, append_images=[PICTURE.rotate(180)], **BEST.get(kind, {}))
    assert difference(data) <= 12


def test_of_a_heic_the_main_picture_counts() -> None:
    data = encoded(PICTURE.rotate(180), "HEIF", save_all=True, append_images=[PICTURE], primary_index=1, quality=95)
    assert difference(data) <= 4


def test_a_heic_with_transparency() -> None:
    image = PICTURE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    assert difference(encoded(image, "HEIF", quality=95), np.asarray(page.convert("RGB"))) <= 4


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "HEIF", "AVIF"])
def test_gray_becomes_bgr(kind: str) -> None:
    data = encoded(Image.fromarray(GRAY), kind, **BEST.get(kind, {}))
    assert difference(data, np.repeat(GRAY[..., None], 3, axis=2)) <= 2


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LA", "PA"])
def test_kinds_of_tiff(mode: str) -> None:
    image = PICTURE.convert(mode)
    assert difference(encoded(image, "TIFF"), np.asarray(image.convert("RGB"))) <= 1


def test_16_bits_become_8() -> None:
    deep = encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "TIFF")
    assert difference(deep, np.repeat(GRAY[..., None], 3, axis=2)) == 0


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_that_are_no_photos_are_refused(kind: type) -> None:
    with pytest.raises(UnsupportedImage):
        DECODER.decode(encoded(Image.fromarray(GRAY.astype(kind)), "TIFF"))


def test_where_the_first_frame_of_a_gif_does_not_reach_there_is_white_paper() -> None:
    data = bytearray(FILES["GIF"])
    struct.pack_into("<HH", data, 6, WIDTH + 30, HEIGHT + 20)
    frame = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    struct.pack_into("<HH", data, frame + 1, 20, 10)
    pixels = DECODER.decode(bytes(data))
    assert pixels.shape == (HEIGHT + 20, WIDTH + 30, 3)
    inside = pixels[10 : 10 + HEIGHT, 20 : 20 + WIDTH, ::-1].astype(int)
    assert np.abs(inside - PHOTO).mean() <= 12
    pixels[10 : 10 + HEIGHT, 20 : 20 + WIDTH] = 255
    assert (pixels == 255).all()


@pytest.mark.parametrize("name", FILES)
def test_the_limit_is_the_number_of_pixels(name: str) -> None:
    assert ImageDecoder(1 << 20, WIDTH * HEIGHT).decode(FILES[name]).shape == PHOTO.shape
    with pytest.raises(TooManyPixels):
        ImageDecoder(1 << 20, WIDTH * HEIGHT - 1).decode(FILES[name])


def announced(kind: str, side: int) -> bytes:
    """A file that announces so many rows and columns."""
    data = bytearray(FILES["TIFF tiff_lzw" if kind == "tiles" else kind])
    if kind == "GIF":
        struct.pack_into("<HH", data, 6, side, side)
    elif kind in ("HEIC", "AVIF"):
        struct.pack_into(">II", data, data.index(b"ispe") + 8, side, side)
    else:
        first = struct.unpack_from("<I", data, 4)[0] + 2
        # Width and length of the picture, or in place of its strips those of its tiles.
        entries = ((7, 322), (8, 323)) if kind == "tiles" else ((0, 256), (1, 257))
        for entry, tag in entries:
            struct.pack_into("<HHII", data, first + 12 * entry, tag, 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["GIF", "HEIC", "AVIF", "TIFF raw", "TIFF tiff_lzw", "tiles"])
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    with pytest.raises(TooManyPixels):
        ImageDecoder(1 << 20, 50_000_000).decode(announced(kind, 14_000))


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_beyond_the_limits_of_the_libraries_there_are_errors_of_ours(kind: str) -> None:
    with pytest.raises(ImageError):
        ImageDecoder(1 << 20, 10_000_000_000).decode(announced(kind, 60_000))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_picture_cannot_be_decoded(name: str, kept: float) -> None:
    with pytest.raises(UndecodableImage):
        DECODER.decode(FILES[name][: int(len(FILES[name]) * kept)])


MUTATIONS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.booleans(), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=300)
@given(st.sampled_from(list(FILES.values())), MUTATIONS, st.booleans())
def test_damaged_pictures_are_pixels_or_an_image_error(
    data: bytes, mutations: list[tuple[float, bool, bytes]], only_header: bool
) -> None:
    damaged = bytearray(data)
    for where, inserts, content in mutations:
        position = int(where * min(len(damaged), 300 if only_header else len(damaged)))
        damaged[position : position + (0 if inserts else len(content))] = content
    try:
        pixels = DECODER.decode(bytes(damaged))
    except ImageError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= DECODER.max_pixels


@pytest.mark.parametrize("orientation", STORED)
def test_turning(orientation: int) -> None:
    assert (upright(np.asarray(STORED[orientation](PICTURE)), orientation) == PHOTO).all()


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_in_exif(orientation: int, endian: str, prefix: bytes) -> None:
    assert orientation_of(prefix + tagged(orientation, endian).removeprefix(b"Exif\0\0")) == orientation


@given(st.sampled_from([b"", b"II*\0", b"MM\0*", tagged(6)[:20]]), st.binary(max_size=60))
def test_any_exif_gives_an_orientation(start: bytes, rest: bytes) -> None:
    assert 1 <= orientation_of(start + rest) <= 8


def shown(data: bytes) -> NDArray[np.int64]:
    return DECODER.decode(data)[..., ::-1].astype(int)


@pytest.mark.parametrize("kind", PROFILED)
def test_profiles_are_heeded(kind: str) -> None:
    swapped = Image.fromarray(PHOTO[..., ::-1])
    options = {} if kind in ("PNG", "TIFF") else {"quality": 95}
    # What is coded with less detail in one colour than in another differs a little.
    assert np.abs(shown(encoded(swapped, kind, icc_profile=RED_IS_BLUE, **options)) - PHOTO).mean() < 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_profiles_are_heeded_where_there_is_transparency(kind: str) -> None:
    image = Image.fromarray(PHOTO[..., ::-1]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    page = Image.new("RGBA", image.size, "white")
    solid = PICTURE.convert("RGBA")
    solid.putalpha(image.getchannel("A"))
    page.alpha_composite(solid)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image, kind, icc_profile=RED_IS_BLUE, **options)
    assert np.abs(shown(data) - np.asarray(page.convert("RGB"))).mean() < 8


def test_wide_colours_are_those_of_littlecms() -> None:
    srgb = ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(PICTURE, ImageCms.getOpenProfile(io.BytesIO(DISPLAY_P3)), srgb)
    assert np.abs(shown(encoded(PICTURE, "PNG", icc_profile=DISPLAY_P3)) - np.asarray(expected)).max() <= 1
    assert np.abs(np.asarray(expected).astype(int) - PHOTO).mean() > 2


@pytest.mark.parametrize("profile", [SRGB, None, b"", b"no profile", DISPLAY_P3[:200], bytes(5 << 20)])
def test_what_is_srgb_or_no_profile_is_left_alone(profile: bytes | None) -> None:
    assert colours_of(profile) is None
    assert (shown(encoded(PICTURE, "PNG", icc_profile=profile)) == PHOTO).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_gray_by_its_profile(kind: str) -> None:
    gray = Image.fromarray(np.full((40, 40), 64, np.uint8))
    pixels = shown(encoded(gray, kind, icc_profile=DARK_GRAY))
    assert np.abs(pixels - 137).max() <= 2  # sRGB's curve of 64 / 255


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_by_their_profile(kind: str) -> None:
    """Without one cyan is cyan; with this one it does not show."""
    cyan = Image.new("CMYK", (40, 40), (255, 0, 0, 0))
    assert shown(encoded(cyan, kind)).mean(axis=(0, 1))[0] < 60
    assert shown(encoded(cyan, kind, icc_profile=only_black_counts())).min() > 245
    black = Image.new("CMYK", (40, 40), (0, 0, 0, 255))
    assert shown(encoded(black, kind, icc_profile=only_black_counts())).max() < 10


def test_lab() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(PICTURE, to_lab)
    assert lab is not None
    lab.info.clear()
    assert np.abs(shown(encoded(lab, "TIFF")) - PHOTO).mean() < 3


def test_a_reduced_jpeg_keeps_its_colours_for_what_is_cut_out() -> None:
    preview = DECODER.preview(encoded(PICTURE.resize((800, 600)), "JPEG", icc_profile=RED_IS_BLUE), 200)
    assert preview.reduced
    converted, raw = preview.to_srgb(preview.pixels).astype(int), preview.pixels.astype(int)
    assert np.abs(converted - raw[..., ::-1]).mean() < 8


@given(st.integers(0, len(DISPLAY_P3) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_profiles_are_used_or_ignored(position: int, content: bytes) -> None:
    damaged = DISPLAY_P3[:position] + content + DISPLAY_P3[position + len(content) :]
    colours = colours_of(damaged)
    if colours:
        assert colours.to_srgb(PHOTO).shape == PHOTO.shape
