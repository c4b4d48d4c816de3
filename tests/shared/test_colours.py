"""Colours are those that a viewer shows: profiles are heeded, and what is sRGB is left alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from skimage.data import astronaut

from shared.colours import colours_of
from shared.images import ImageDecoder
from tests.pictures import DARK_GRAY, DISPLAY_P3, RED_IS_BLUE, encoded, only_black_counts

DECODER = ImageDecoder(1 << 20, 1_000_000)
PHOTO: NDArray[np.uint8] = np.ascontiguousarray(astronaut()[:128, 160:256])
PICTURE = Image.fromarray(PHOTO)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"]


def shown(data: bytes) -> NDArray[np.int64]:
    return DECODER.decode(data)[..., ::-1].astype(int)


@pytest.mark.parametrize("kind", KINDS)
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
