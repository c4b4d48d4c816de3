import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from feature_extraction.embedder import network_input
from shared.models import Normalisation

CROPS = hnp.arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(2, 6), st.integers(2, 6), st.just(3)))


def expected(crop: NDArray[np.uint8], normalisation: Normalisation) -> NDArray[np.float64]:
    """The formulas of ``Normalisation``, written down plainly in double precision."""
    bgr = crop.astype(np.float64)
    rgb = bgr[..., ::-1]
    match normalisation:
        case Normalisation.BGR_UNIT:
            return bgr / 255
        case Normalisation.RGB_255:
            return rgb
        case Normalisation.DLIB:
            return (rgb - (122.782, 117.001, 104.298)) / 256
        case Normalisation.PREWHITEN:
            return (rgb - rgb.mean()) / max(rgb.std(), 1 / np.sqrt(rgb.size))


@pytest.mark.parametrize("normalisation", list(Normalisation))
@given(crops=CROPS)
def test_follows_the_formula(normalisation: Normalisation, crops: NDArray[np.uint8]) -> None:
    found = network_input(crops, normalisation)
    assert found.dtype == np.float32 and found.shape == crops.shape and found.flags.c_contiguous
    for one, crop in zip(found, crops, strict=True):
        np.testing.assert_allclose(one, expected(crop, normalisation), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_a_crop_does_not_depend_on_the_others(normalisation: Normalisation) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (5, 40, 30, 3), np.uint8)
    together = network_input(crops, normalisation)
    alone = np.concatenate([network_input(crop[None], normalisation) for crop in crops])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("colour", [0, 7, 255])
def test_a_crop_of_one_colour_is_prewhitened_to_zeros(colour: int) -> None:
    crops = np.full((1, 160, 160, 3), colour, np.uint8)
    np.testing.assert_allclose(network_input(crops, Normalisation.PREWHITEN), 0, atol=1e-9)


def test_takes_crops_that_are_not_contiguous() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    for normalisation in Normalisation:
        found = network_input(crops[:, ::2, ::-1], normalisation)
        np.testing.assert_array_equal(found, network_input(crops[:, ::2, ::-1].copy(), normalisation))


def test_the_crops_are_left_as_they_are() -> None:
    crops = np.full((1, 4, 4, 3), 9, np.uint8)
    for normalisation in Normalisation:
        network_input(crops, normalisation)
    assert (crops == 9).all()
