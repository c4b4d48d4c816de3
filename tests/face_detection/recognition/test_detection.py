from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from typing_extensions import override

from benchmarks.detection import LEAST_OVERLAP, read_marks
from face_detection.recognition.detection import YuNet
from face_detection.recognition.views import Part, cut
from shared.errors import WeightsError
from shared.geometry import Box
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import YUNET, Effort, weights_folder
from shared.settings import FrontSettings

EFFORTS: tuple[Effort, ...] = get_args(Effort)


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


def placed(photo: Pixels, width: int, height: int, x: int, y: int) -> Pixels:
    """A photo on a gray canvas."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[y : y + photo.shape[0], x : x + photo.shape[1]] = photo
    return canvas


def scaled(photo: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("side", [64, 300, 1024, 2500])
def test_a_face_that_fills_the_picture(detector: YuNet, astronaut: Pixels, side: int, margin: float) -> None:
    (face,) = detector.detect(Preview.full(astronaut))
    box, across, down = face.box, round(face.box.width * margin), round(face.box.height * margin)
    crop = astronaut[box.y - down : box.y + box.height + down, box.x - across : box.x + box.width + across]
    factor = side / max(crop.shape)
    large = np.asarray(cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    (found,) = detector.detect(Preview.full(large))
    expected = Box(*(round(value * factor) for value in (across, down, box.width, box.height)))
    assert found.box.iou(expected) > 0.7


@pytest.mark.parametrize(("effort", "height"), [("fast", 55), ("thorough", 32)])
@pytest.mark.parametrize("place", [(0, 0), (2950, 1000), (1850, 2980), (5700, 3700)])
def test_small_faces_of_a_large_picture(
    detector: YuNet, astronaut: Pixels, effort: Effort, height: int, place: tuple[int, int]
) -> None:
    """In the corners, and where tiles meet."""
    (face,) = detector.detect(Preview.full(astronaut))
    factor = height / face.box.height
    small = scaled(astronaut, factor)
    (found,) = detector.detect(Preview.full(placed(small, 6000, 4000, *place)), effort)
    x, y = place[0] + face.box.x * factor, place[1] + face.box.y * factor
    assert abs(found.box.x - x) < 8 and abs(found.box.y - y) < 8 and abs(found.box.height - height) < 12


def test_faces_of_all_sizes_are_found_once(detector: YuNet, astronaut: Pixels) -> None:
    """From 50 to 900 pixels in one picture, each at the scale at which it is seen best."""
    canvas = np.full((4000, 6000, 3), 128, np.uint8)
    y = 0
    for factor in (0.35, 0.7, 1.4, 2.8):
        photo = scaled(astronaut, factor)
        canvas[y : y + len(photo), 100 : 100 + len(photo)] = photo
        y += len(photo)
    large = cv2.resize(astronaut[:400, :400], (3200, 3200), interpolation=cv2.INTER_CUBIC)
    canvas[:3200, 2500:5700] = large
    for effort in EFFORTS:
        assert len(detector.detect(Preview.full(canvas), effort)) == 5


def turned(photo: Pixels, angle: int) -> Pixels:
    """As if the camera had been turned so that heads are turned clockwise."""
    return np.ascontiguousarray(np.rot90(photo, -angle // 90))


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
@pytest.mark.parametrize("factor", [0.3, 1, 2])
def test_a_turned_face_has_its_own_right_and_left(
    detector: YuNet, astronaut: Pixels, angle: int, factor: float
) -> None:
    photo = scaled(astronaut, factor)
    (upright,) = detector.detect(Preview.full(photo))
    (face,) = detector.detect(Preview.full(turned(photo, angle)))
    assert (upright.angle, face.angle) == (0, angle)
    height, width = photo.shape[:2]
    x, y = np.array(upright.landmarks.points).T
    expected = {0: (x, y), 90: (height - y, x), 180: (width - x, height - y), 270: (y, width - x)}[angle]
    assert np.abs(np.array(face.landmarks.points).T - expected).max() < 0.1 * upright.box.width


@pytest.mark.parametrize("angle", [-40, 30, 60, 210])
def test_landmarks_of_a_tilted_head(detector: YuNet, astronaut: Pixels, angle: int) -> None:
    (upright,) = detector.detect(Preview.full(astronaut))
    matrix = cv2.getRotationMatrix2D((upright.box.x + upright.box.width / 2, 200), -angle, 1)
    photo = cv2.warpAffine(astronaut, matrix, astronaut.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    (tilted,) = detector.detect(Preview.full(np.asarray(photo, np.uint8)))
    expected = np.array(upright.landmarks.points) @ matrix[:, :2].T + matrix[:, 2]
    eyes = math.dist(*upright.landmarks.points[:2])
    assert np.linalg.norm(np.array(tilted.landmarks.points) - expected, axis=1).mean() < 0.2 * eyes
    assert abs((tilted.landmarks.roll - upright.landmarks.roll - angle + 180) % 360 - 180) < 8


def test_a_turned_face_among_upright_ones(detector: YuNet, astronaut: Pixels) -> None:
    photo = scaled(astronaut, 0.6)
    row = np.hstack([photo, turned(photo, 180), photo, turned(photo, 90)])
    faces = detector.detect(Preview.full(row), "thorough")
    assert [face.angle for face in sorted(faces, key=lambda face: face.box.x)] == [0, 180, 0, 90]
    quick = detector.detect(Preview.full(row), "fast")
    assert {face.angle for face in quick} <= {0, 90, 180} and sum(face.angle == 0 for face in quick) == 2


def test_angles_are_looked_for_as_set(settings: FrontSettings, astronaut: Pixels) -> None:
    for angles, found in (("0", []), ("0,180", [180]), ("180, 90,0", [90, 180])):
        detector = YuNet(settings.model_copy(update={"detection_angles": angles}))
        faces = [face for angle in (90, 180) for face in detector.detect(Preview.full(turned(astronaut, angle)))]
        assert [face.angle for face in faces if face.angle] == found


def test_landmarks_that_make_no_face_are_none(settings: FrontSettings, astronaut: Pixels) -> None:
    class Folded(YuNet):
        """Takes the mouth for eyes and the eyes for the mouth."""

        @override
        def candidates(self, pixels: Pixels) -> NDArray[np.float64]:
            rows = super().candidates(pixels)
            return rows[:, [*range(4), 12, 13, 10, 11, 8, 9, 4, 5, 6, 7, 14]]

    assert len(YuNet(settings).detect(Preview.full(astronaut))) == 1
    assert Folded(settings).detect(Preview.full(astronaut)) == []


def test_what_is_seen_of_a_face_has_a_least_size(settings: FrontSettings, astronaut: Pixels) -> None:
    part = Preview.full(np.ascontiguousarray(astronaut[:, 205:]))
    (face,) = YuNet(settings).detect(part)
    limit = face.box.width
    for least, found in ((limit, [face]), (limit + 1, [])):
        assert YuNet(settings.model_copy(update={"min_face": least})).detect(part) == found


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 400), (400, 1), (3, 5), (64, 64), (33, 3000), (1, 5000), (5000, 1), (8, 70_000), (20_000, 2)]
)
def test_no_face_in_pictures_of_any_shape(detector: YuNet, shape: tuple[int, int]) -> None:
    assert detector.detect(Preview.full(np.full((*shape, 3), 127, np.uint8))) == []


@pytest.mark.parametrize(("left", "top"), [(-50, 10), (10, -50), (700, 10), (10, 600), (-50, 600)])
def test_a_part_beyond_the_picture_is_black(astronaut: Pixels, left: int, top: int) -> None:
    view = cut(Preview.full(astronaut), Part(left, top, 20, 30), (8, 12))
    assert view.pixels.shape == (12, 8, 3) and not view.pixels.any()


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
