from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from face_detection.metrics import Metrics
from face_detection.recognition.alignment import cut_out
from face_detection.recognition.choice import largest_face
from face_detection.recognition.crops import Preparation
from face_detection.recognition.detection import YuNet
from shared.errors import FaceNotFound, UndecodableImage
from shared.geometry import Face
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import Alignment, find_card
from shared.settings import FrontSettings

ALIGNMENT = find_card("facenet").alignment


class CountingDecoder(ImageDecoder):
    """Counts the pictures that are decoded at full scale although a preview was there."""

    full = 0

    def preview(self, data: bytes, least_side: int | None = None) -> Preview:
        CountingDecoder.full += least_side is None
        return super().preview(data, least_side)


@pytest.fixture
def preparation(detector_home: Path) -> Iterator[Preparation]:
    CountingDecoder.full = 0
    settings = FrontSettings(deepface_home=detector_home)
    preparation = Preparation(CountingDecoder(20 << 20, 50_000_000), YuNet(settings), 1024, 2, Metrics())
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

    def counting(picture: Preview, faces: Sequence[Face], alignment: Alignment) -> Pixels:
        aligned.append(len(faces))
        return cut_out(picture, faces, alignment)

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
