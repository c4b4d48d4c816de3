"""Which of several faces is meant: in the plane, and in pictures put together from real portraits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from face_detection.recognition.choice import FaceAt, clear_face, largest_face, main_face, parse_choice
from face_detection.recognition.detection import YuNet
from shared.errors import AmbiguousFace, FaceNotFound, InvalidRequest
from shared.geometry import Box, Face, Landmarks
from shared.images import Preview
from shared.settings import FrontSettings

LANDMARKS = Landmarks((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.0))
PICTURE = Preview(np.zeros((1, 1, 3), np.uint8), 1000, 800)

BOXES = st.builds(Box, st.integers(0, 900), st.integers(0, 700), st.integers(20, 100), st.integers(20, 100))


def face(x: float, y: float, side: int) -> Face:
    """A square face around a point."""
    return Face(Box(round(x - side / 2), round(y - side / 2), side, side), LANDMARKS, 0.9)


@given(st.lists(BOXES, min_size=1))
def test_one_face_is_chosen(boxes: list[Box]) -> None:
    faces = [Face(box, LANDMARKS, 0.9) for box in boxes]
    (chosen,) = main_face(faces, PICTURE)
    assert chosen in faces
    assert chosen.box.area <= largest_face(faces, PICTURE)[0].box.area


@given(BOXES)
def test_the_only_face_is_clear_wherever_it_is(box: Box) -> None:
    only = Face(box, LANDMARKS, 0.9)
    for choose in (main_face, clear_face, largest_face):
        assert choose([only], PICTURE) == [only]


@given(st.integers(2, 9), st.integers(-300, 300), st.integers(-200, 200), st.integers(60, 90))
def test_the_size_of_the_picture_does_not_matter(scale: int, x: int, y: int, side: int) -> None:
    faces = [face(500, 400, 80), face(500 + x, 400 + y, side)]
    large = Preview(PICTURE.pixels, 1000 * scale, 800 * scale)
    twice = [face((500 + dx) * scale, (400 + dy) * scale, one * scale) for dx, dy, one in ((0, 0, 80), (x, y, side))]
    assert twice.index(main_face(twice, large)[0]) == faces.index(main_face(faces, PICTURE)[0])


def test_who_stands_in_the_middle_is_meant_and_not_the_passer_by() -> None:
    portrayed, passer_by = face(500, 400, 200), face(920, 400, 260)
    assert main_face([passer_by, portrayed], PICTURE) == clear_face([passer_by, portrayed], PICTURE) == [portrayed]
    assert largest_face([passer_by, portrayed], PICTURE) == [passer_by]


def test_little_faces_in_the_middle_are_the_background() -> None:
    """Whoever stands at the top of a tall picture, or at the side of a broad one."""
    tall, broad = Preview(PICTURE.pixels, 3000, 4000), Preview(PICTURE.pixels, 4000, 1500)
    assert clear_face([face(1500, 2000, 90), face(1500, 900, 500)], tall)[0].box.width == 500
    assert clear_face([face(2000, 750, 60), face(1000, 750, 400)], broad)[0].box.width == 400


def test_two_alike_are_ambiguous_and_their_boxes_are_told() -> None:
    left, right, little = face(300, 400, 200), face(690, 410, 190), face(500, 200, 60)
    with pytest.raises(AmbiguousFace) as refused:
        clear_face([right, little, left], PICTURE)
    assert set(refused.value.boxes) == {str(left.box), str(right.box)}
    assert refused.value.details == {"boxes": list(refused.value.boxes)}
    assert all(box in refused.value.message for box in refused.value.boxes)
    assert main_face([right, little, left], PICTURE)[0] in (left, right)
    assert largest_face([right, little, left], PICTURE) == [left]


@pytest.mark.parametrize("rival", [face(850, 400, 200), face(690, 410, 150)])
def test_one_that_is_clearly_less_is_no_rival(rival: Face) -> None:
    meant = face(420, 400, 200)
    assert clear_face([rival, meant], PICTURE) == [meant]


def test_a_point_says_who() -> None:
    left, right = face(300, 400, 200), face(450, 410, 190)
    assert FaceAt(220, 400)([right, left], PICTURE) == [left]
    assert FaceAt(500, 400)([right, left], PICTURE) == [right]
    assert FaceAt(370, 400)([right, left], PICTURE) == [left]  # in both: the nearer middle
    with pytest.raises(FaceNotFound, match="no face at 900,10"):
        FaceAt(900, 10)([left], PICTURE)


@pytest.mark.parametrize("choose", [main_face, clear_face, largest_face, FaceAt(1, 1)])
def test_nobody_is_nobody(choose: object) -> None:
    with pytest.raises(FaceNotFound):
        choose([], PICTURE)  # type: ignore[operator]


@given(st.floats(0, 60_000), st.floats(0, 60_000))
def test_points_are_read(x: float, y: float) -> None:
    assert parse_choice(f" {x:.3f} ,{y:.3f}") == FaceAt(float(f"{x:.3f}"), float(f"{y:.3f}"))


@given(st.text())
def test_whatever_else_is_refused(text: str) -> None:
    try:
        assert parse_choice(text) is largest_face or isinstance(parse_choice(text), FaceAt)
    except InvalidRequest as error:
        assert "largest" in error.message


@pytest.mark.parametrize(
    "text", ["", "smallest", "1", "1,", "1;2", "-1,2", "1,2,3", "1e3,1", "nan,1", "١,٢", "9999999,1"]
)
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_choice(text)


@pytest.fixture(scope="module")
def detector(detector_home: Path) -> YuNet:
    return YuNet(FrontSettings(deepface_home=detector_home))


def beside(photo: NDArray[np.uint8], other: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A portrait with somebody else at the right, who stands nearer to the camera."""
    large = cv2.resize(other, None, fx=scale, fy=scale)[: photo.shape[0]]
    padded = np.zeros((photo.shape[0], large.shape[1], 3), np.uint8)
    padded[: large.shape[0]] = large
    return np.hstack([np.zeros_like(padded), photo, padded])


def test_real_portraits(photos: Path, detector: YuNet) -> None:
    one, other = (cv2.resize(cv2.imread(str(photos / name)), (400, 500)) for name in ("obama.jpg", "obama2.jpg"))
    picture = Preview.full(beside(one, other, 1.3))
    faces = detector.detect(picture)
    assert len(faces) == 2
    (chosen,) = clear_face(faces, picture)
    assert abs(chosen.box.x + chosen.box.width / 2 - picture.width / 2) < 60
    assert largest_face(faces, picture) != [chosen]
    twins = Preview.full(np.hstack([other, other[:, ::-1]]))
    with pytest.raises(AmbiguousFace):
        clear_face(detector.detect(twins), twins)
