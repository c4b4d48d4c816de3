from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from face_detection.metrics import Metrics
from face_detection.recognition.choice import largest_face
from face_detection.recognition.crops import Preparation, cut_out, portraits, shrinks, similarity
from face_detection.recognition.detection import YuNet
from shared.errors import FaceNotFound, UndecodableImage
from shared.geometry import Box, Face, Landmarks
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import CATALOGUE, Alignment, find_card
from shared.settings import FrontSettings

ALIGNMENT = find_card("facenet").alignment


class CountingDecoder(ImageDecoder):
    """Counts the pictures that are decoded at full scale although a preview was there."""

    full = 0

    def preview(self, data: bytes, least_side: int | None = None, least_scale: float = 0.0) -> Preview:
        CountingDecoder.full += least_side is None
        return super().preview(data, least_side, least_scale)


@pytest.fixture
def preparation(detector_home: Path) -> Iterator[Preparation]:
    CountingDecoder.full = 0
    settings = FrontSettings(deepface_home=detector_home)
    preparation = Preparation(CountingDecoder(20 << 20, 50_000_000), YuNet(settings), 2, Metrics())
    yield preparation
    preparation.close()


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


async def test_a_large_face_comes_from_the_reduced_picture(preparation: Preparation, astronaut: Pixels) -> None:
    """It has more pixels than the crop even there, and is the same face in the same place."""
    large = np.asarray(cv2.resize(astronaut, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC), np.uint8)
    from_jpeg = await preparation.prepare(jpeg(large), ALIGNMENT)
    assert CountingDecoder.full == 0
    from_png = await preparation.prepare(cv2.imencode(".png", large)[1].tobytes(), ALIGNMENT)
    (one,), (other,) = from_jpeg.faces, from_png.faces
    assert one.box.iou(other.box) > 0.95
    assert one.box.width > 500
    difference = np.abs(from_jpeg.crops[0].astype(int) - from_png.crops[0])
    assert difference.mean() < 4


async def test_a_small_face_comes_from_the_full_picture(preparation: Preparation, astronaut: Pixels) -> None:
    canvas = np.full((3000, 4000, 3), 128, np.uint8)
    canvas[1500:2012, 2000:2512] = astronaut
    prepared = await preparation.prepare(jpeg(canvas), ALIGNMENT)
    assert CountingDecoder.full == 1
    (face,) = prepared.faces
    assert abs(face.box.x + face.box.width / 2 - 2223) < 15
    sharp = cut_out(Preview.full(canvas), prepared.chosen, ALIGNMENT)
    assert np.abs(prepared.crops.astype(int) - sharp).mean() < 2


async def test_choosing(preparation: Preparation, astronaut: Pixels) -> None:
    small = cv2.resize(astronaut, None, fx=0.7, fy=0.7)
    pair = np.zeros((512, 512 + small.shape[1], 3), np.uint8)
    pair[: small.shape[0], : small.shape[1]], pair[:, small.shape[1] :] = small, astronaut
    prepared = await preparation.prepare(jpeg(pair), ALIGNMENT, largest_face)
    assert len(prepared.faces) == 2 and len(prepared.chosen) == len(prepared.crops) == 1
    assert prepared.chosen[0].box.x > small.shape[1]
    with pytest.raises(FaceNotFound):
        await preparation.prepare(jpeg(np.zeros((64, 64, 3), np.uint8)), ALIGNMENT, largest_face)


async def test_a_frame_is_aligned_once(
    preparation: Preparation, astronaut: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned: list[int] = []

    def counting(picture: Preview, faces: Sequence[Face], alignment: Alignment, *beyond: int) -> Pixels:
        if alignment is ALIGNMENT:  # and not that on which faces are measured
            aligned.append(len(faces))
        return cut_out(picture, faces, alignment, *beyond)

    monkeypatch.setattr("face_detection.recognition.crops.cut_out", counting)
    pair = np.hstack([astronaut, astronaut[:, ::-1]])
    seen: list[Pixels] = []

    def second(faces: Sequence[Face], crops: Pixels) -> Sequence[int]:
        seen.append(crops)
        return [1]

    prepared = await preparation.prepare_frame(jpeg(pair), ALIGNMENT, second)
    assert (prepared.width, prepared.height, len(prepared.faces)) == (1024, 512, 2)
    assert prepared.chosen == [prepared.faces[1]] and np.array_equal(prepared.crops, seen[0][1:])
    assert aligned == [2]
    whole = await preparation.prepare(jpeg(pair), ALIGNMENT)
    assert np.array_equal(prepared.crops, whole.crops[1:])


async def test_of_a_reduced_frame_a_small_face_comes_from_the_whole(
    preparation: Preparation, astronaut: Pixels
) -> None:
    canvas = np.full((3000, 4000, 3), 128, np.uint8)
    canvas[1500:2012, 2000:2512] = astronaut
    prepared = await preparation.prepare_frame(jpeg(canvas), ALIGNMENT, lambda faces, crops: [0])
    assert CountingDecoder.full == 1
    whole = await preparation.prepare(jpeg(canvas), ALIGNMENT)
    assert np.array_equal(prepared.crops, whole.crops)


async def test_errors_of_the_threads_arrive(preparation: Preparation) -> None:
    with pytest.raises(UndecodableImage):
        await preparation.detect("not base64!")


ALIGNMENT = find_card("facenet").alignment


def face_at(points: NDArray[np.float64]) -> Face:
    return Face(Box(0, 0, 1, 1), Landmarks(*(tuple(point) for point in points.tolist())), 1.0)


@given(
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.05, 20),
    x=st.floats(-3000, 3000),
    y=st.floats(-3000, 3000),
)
def test_a_moved_template_is_brought_back_exactly(angle: float, scale: float, x: float, y: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(ALIGNMENT.template) @ turn.T + [x, y]
    matrix = similarity(face_at(points).landmarks, ALIGNMENT)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], ALIGNMENT.template, atol=1e-6)


def test_it_is_the_least_squares_solution() -> None:
    points = np.array(ALIGNMENT.template) * 1.7 + np.random.default_rng(0).normal(0, 5, (5, 2))
    matrix = similarity(face_at(points).landmarks, ALIGNMENT)

    def cost(a: float, b: float, c: float, d: float) -> float:
        moved = points @ np.array([[a, -b], [b, a]]).T + [c, d]
        return float(((moved - np.array(ALIGNMENT.template)) ** 2).sum())

    best = (matrix[0, 0], matrix[1, 0], matrix[0, 2], matrix[1, 2])
    for index in range(4):
        for step in (-1e-3, 1e-3):
            other = list(best)
            other[index] += step
            assert cost(*other) > cost(*best)


def test_landmarks_on_one_point_give_a_finite_transform() -> None:
    assert np.isfinite(similarity(face_at(np.full((5, 2), 50.0)).landmarks, ALIGNMENT)).all()


@pytest.mark.parametrize("name", CATALOGUE)
def test_crops_have_the_size_of_the_card(name: str) -> None:
    alignment = find_card(name).alignment
    pixels = np.zeros((300, 200, 3), np.uint8)
    crops = cut_out(Preview.full(pixels), [face_at(np.array(alignment.template))] * 2, alignment)
    assert crops.shape == (2, alignment.height, alignment.width, 3)
    assert cut_out(Preview.full(pixels), [], alignment).shape == (0, alignment.height, alignment.width, 3)


@pytest.mark.parametrize("name", [name for name, card in CATALOGUE.items() if len(card.networks) > 1])
def test_a_sheet_has_the_very_crops_of_its_parts(name: str) -> None:
    picture = Preview.full(np.asarray(data.astronaut()[..., ::-1], np.uint8))
    faces = [
        face_at(np.array(ALIGNMENT.template) * scale + shift) for scale, shift in ((0.7, 40), (2.5, 30), (1.1, 160))
    ]
    alignment = find_card(name).alignment
    sheets = cut_out(picture, faces, alignment)
    for one, crops in zip(alignment.crops, alignment.split(sheets), strict=True):
        np.testing.assert_array_equal(crops, cut_out(picture, faces, one))
    np.testing.assert_array_equal(portraits(sheets, alignment), cut_out(picture, faces, alignment.crops[0]))


def test_a_reduced_picture_is_too_small_when_it_is_for_one_crop_of_a_sheet() -> None:
    alignment = find_card("sface+dlib").alignment
    small, large = alignment.crops
    pixels = np.zeros((200, 200, 3), np.uint8)
    # As large in the reduced picture as the crop of sface wants it, and not as that of dlib does.
    faces = [face_at(np.array(small.template) * 2.05)]
    picture = Preview(pixels, 400, 400)
    assert shrinks(picture, faces, small) and not shrinks(picture, faces, large)
    assert not shrinks(picture, faces, alignment)


def test_a_face_in_place_is_copied_and_beyond_the_picture_it_is_black() -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (160, 160, 3), np.uint8)
    in_place = face_at(np.array(ALIGNMENT.template))
    assert np.array_equal(cut_out(Preview.full(pixels), [in_place], ALIGNMENT)[0], pixels)
    beside = face_at(np.array(ALIGNMENT.template) + [1000, 0])
    assert not cut_out(Preview.full(pixels), [beside], ALIGNMENT).any()


@pytest.fixture(scope="module")
def enlarged() -> Callable[[float], Pixels]:
    astronaut = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)

    def enlarge(factor: float) -> Pixels:
        return np.asarray(cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)

    return enlarge


@pytest.mark.parametrize("factor", [1.5, 2.5, 4.3, 8.0])
def test_a_larger_picture_gives_the_same_crop(enlarged: Callable[[float], Pixels], factor: float) -> None:
    """Shrinking averages; its transform must not shift the face by a fraction of a pixel."""
    template = np.array(ALIGNMENT.template)
    points = template + [150, 60]

    def crop(scale: float) -> NDArray[np.float64]:
        # Pixel centres: coordinate p of the original lies at (p + 0.5) * scale - 0.5 of the enlarged picture.
        moved = face_at((points + 0.5) * scale - 0.5)
        return cut_out(Preview.full(enlarged(scale)), [moved], ALIGNMENT)[0].astype(float)

    difference = np.abs(crop(factor) - crop(1.0))
    shifted = np.abs(np.roll(crop(1.0), 1, axis=1) - crop(1.0))
    assert difference.mean() < 3 and difference.mean() < shifted.mean() / 3


def test_shrinking_does_not_alias() -> None:
    """A fine checkerboard averages to gray; sampling it would give black and white."""
    y, x = np.mgrid[:1600, :1600]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    crop = cut_out(Preview.full(board), [face_at(np.array(ALIGNMENT.template) * 10)], ALIGNMENT)[0]
    assert np.abs(crop[5:-5, 5:-5].astype(int) - 128).max() <= 2


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=5, max_size=5))
def test_any_landmarks_give_a_crop(points: list[tuple[float, float]]) -> None:
    alignment = Alignment("t", 16, 16, tuple((x / 10, y / 10) for x, y in ALIGNMENT.template))  # type: ignore[arg-type]
    pixels = np.full((40, 30, 3), 200, np.uint8)
    assert cut_out(Preview.full(pixels), [face_at(np.array(points))], alignment).shape == (1, 16, 16, 3)
