from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from benchmarks.detection import LEAST_OVERLAP, read_marks
from face_detection.recognition.detection import YuNet
from shared.errors import WeightsError
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import YUNET, weights_folder
from shared.settings import FrontSettings


@pytest.fixture(scope="module")
def settings(detector_home: Path) -> FrontSettings:
    return FrontSettings(deepface_home=detector_home)


@pytest.fixture(scope="module")
def detector(settings: FrontSettings) -> YuNet:
    return YuNet(settings)


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), np.uint8)


def test_a_face_has_a_box_and_landmarks_inside(detector: YuNet, astronaut: Pixels) -> None:
    (face,) = detector.detect(Preview.full(astronaut))
    assert abs(face.box.x + face.box.width / 2 - 223) < 12 and abs(face.box.y + face.box.height / 2 - 120) < 15
    for x, y in face.landmarks.points:
        assert face.box.x < x < face.box.x + face.box.width and face.box.y < y < face.box.y + face.box.height
    assert face.landmarks.right_eye[0] < face.landmarks.left_eye[0]
    assert face.landmarks.nose[1] < face.landmarks.left_mouth[1]


def test_boxes_are_in_the_full_pictures_pixels(detector: YuNet, astronaut: Pixels) -> None:
    (small,) = detector.detect(Preview.full(astronaut))
    (large,) = detector.detect(Preview.full(np.asarray(cv2.resize(astronaut, (512 * 5, 512 * 4)), np.uint8)))
    for have, want in (
        (large.box.x, small.box.x * 5),
        (large.box.y, small.box.y * 4),
        (large.box.width, small.box.width * 5),
        (large.box.height, small.box.height * 4),
    ):
        assert abs(have - want) < 40


@pytest.mark.parametrize("across", [slice(None), slice(205, None), slice(243)])
@pytest.mark.parametrize("down", [slice(None), slice(90, None), slice(140)])
def test_where_an_edge_cuts_a_face_the_box_ends(detector: YuNet, astronaut: Pixels, across: slice, down: slice) -> None:
    part = np.ascontiguousarray(astronaut[down, across])
    (face,) = detector.detect(Preview.full(part))
    box = face.box
    assert part[box.y : box.y + box.height, box.x : box.x + box.width].shape == (box.height, box.width, 3)
    assert (box.x == 0) == (across.start is not None) and (box.y == 0) == (down.start is not None)
    assert (box.x + box.width == part.shape[1]) == (across.stop is not None)
    assert (box.y + box.height == part.shape[0]) == (down.stop is not None)


def test_what_is_seen_of_a_face_has_a_least_size(settings: FrontSettings, astronaut: Pixels) -> None:
    part = Preview.full(np.ascontiguousarray(astronaut[:, 205:]))
    (face,) = YuNet(settings).detect(part)
    limit = face.box.width
    for least, found in ((limit, [face]), (limit + 1, [])):
        assert YuNet(settings.model_copy(update={"min_face": least})).detect(part) == found


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5), (64, 64), (33, 3000)])
def test_no_face_in_pictures_of_any_shape(detector: YuNet, shape: tuple[int, int]) -> None:
    assert detector.detect(Preview.full(np.full((*shape, 3), 127, np.uint8))) == []


def test_limits(settings: FrontSettings, astronaut: Pixels) -> None:
    crowd = np.asarray(np.hstack([astronaut, astronaut, astronaut]), np.uint8)
    assert len(YuNet(settings).detect(Preview.full(crowd))) == 3
    limited = YuNet(settings.model_copy(update={"max_faces": 2})).detect(Preview.full(crowd))
    assert len(limited) == 2 and limited[0].score >= limited[1].score
    assert YuNet(settings.model_copy(update={"min_face": 200})).detect(Preview.full(crowd)) == []
    assert YuNet(settings.model_copy(update={"detection_score": 0.99})).detect(Preview.full(crowd)) == []


def test_threads_do_not_disturb_one_another(detector: YuNet, astronaut: Pixels) -> None:
    pictures = [np.asarray(cv2.resize(astronaut, (size, size)), np.uint8) for size in range(300, 700, 20)] * 3
    alone = [detector.detect(Preview.full(picture)) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, map(Preview.full, pictures))) == alone


def test_weights_must_be_there_and_intact(tmp_path: Path, settings: FrontSettings) -> None:
    with pytest.raises(WeightsError, match="feature_extraction.weights fetch yunet"):
        YuNet(settings.model_copy(update={"deepface_home": tmp_path}))
    weights_folder(tmp_path).mkdir(parents=True)
    content = (settings.weights / YUNET.file).read_bytes()
    (weights_folder(tmp_path) / YUNET.file).write_bytes(content[:-1] + b"x")
    with pytest.raises(WeightsError, match="damaged"):
        YuNet(settings.model_copy(update={"deepface_home": tmp_path}))


def test_real_crowds(faces: Path, detector: YuNet) -> None:
    """At the default settings: at least 90 % of the marked faces, and next to nothing where nobody is."""
    decoder = ImageDecoder(20 << 20, 50_000_000)
    found = marked = 0
    for picture, wanted in read_marks(faces / "wider"):
        detected = detector.detect(decoder.preview(picture, 1024))
        marked += len(wanted)
        found += sum(any(face.box.iou(box) >= LEAST_OVERLAP for face in detected) for box in wanted)
    assert marked == 36
    assert found >= 0.9 * marked
    nobody = [decoder.decode(path.read_bytes()) for path in sorted((faces / "noface").iterdir())]
    assert len(nobody) == 20
    assert sum(len(detector.detect(Preview.full(picture))) for picture in nobody) <= 3
