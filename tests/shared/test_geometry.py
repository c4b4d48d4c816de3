from __future__ import annotations

import cmath
import math
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.geometry import Box, Face, Landmarks, in_reading_order, largest

LANDMARKS = Landmarks((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.0))

POSITIONS = st.integers(-500, 500)
SIDES = st.integers(1, 300)
BOXES = st.builds(Box, POSITIONS, POSITIONS, SIDES, SIDES)
FACES = st.builds(Face, BOXES, st.just(LANDMARKS), st.floats(0, 1))


def face(x: int, y: int, width: int = 100, height: int = 100) -> Face:
    return Face(Box(x, y, width, height), LANDMARKS, 0.9)


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box.x, box.x + box.width) for y in range(box.y, box.y + box.height)}


@given(BOXES)
def test_a_box_covers_itself(box: Box) -> None:
    assert box.iou(box) == 1.0


@given(st.builds(Box, *[st.integers(-9, 12)] * 2, *[st.integers(1, 12)] * 2), *[st.integers(1, 9)] * 2)
def test_the_part_within_a_picture_is_what_counting_pixels_gives(box: Box, width: int, height: int) -> None:
    picture = {(x, y) for x in range(width) for y in range(height)}
    inside = pixels(box) & picture
    assert (pixels(cut) if (cut := box.within(width, height)) else set()) == inside


@given(BOXES, BOXES)
def test_overlap_is_symmetric_and_a_share(one: Box, other: Box) -> None:
    assert 0.0 <= one.iou(other) <= 1.0
    assert one.iou(other) == other.iou(one)
    assert (one.iou(other) == 1.0) == (one == other)


@given(BOXES, BOXES, POSITIONS, POSITIONS)
def test_overlap_does_not_depend_on_the_place(one: Box, other: Box, dx: int, dy: int) -> None:
    moved = [replace(box, x=box.x + dx, y=box.y + dy) for box in (one, other)]
    assert moved[0].iou(moved[1]) == one.iou(other)


@given(st.builds(Box, *[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2), st.just(Box(4, 5, 6, 7)))
def test_overlap_is_what_counting_pixels_gives(one: Box, other: Box) -> None:
    expected = len(pixels(one) & pixels(other)) / len(pixels(one) | pixels(other))
    assert one.iou(other) == pytest.approx(expected)


def test_boxes_that_only_touch_do_not_overlap() -> None:
    assert Box(0, 0, 10, 10).iou(Box(10, 0, 10, 10)) == 0.0
    assert Box(0, 0, 10, 10).iou(Box(0, 10, 10, 10)) == 0.0


def test_a_box_is_written_as_the_service_answers() -> None:
    assert str(Box(-3, 4, 50, 60)) == "-3, 4, 50, 60"
    assert Box(-3, 4, 50, 60).area == 3000


def test_landmarks_come_in_the_order_of_yunet() -> None:
    assert LANDMARKS.points == ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.0))


UPRIGHT = Landmarks((30.0, 40.0), (70.0, 40.0), (50.0, 60.0), (35.0, 80.0), (65.0, 80.0))


def turned(landmarks: Landmarks, degrees: float) -> Landmarks:
    """Clockwise, as y points downwards."""
    turn = cmath.rect(1, math.radians(degrees))
    points = [complex(*point) * turn for point in landmarks.points]
    return Landmarks(*((point.real, point.imag) for point in points))


@given(st.floats(-720, 720))
def test_a_head_is_turned_by_the_way_from_its_eyes_to_its_mouth(degrees: float) -> None:
    landmarks = turned(UPRIGHT, degrees)
    assert math.isclose(math.cos(math.radians(landmarks.roll - degrees)), 1, abs_tol=1e-9)
    assert landmarks.plausible


@pytest.mark.parametrize(("degrees", "angle"), [(0, 0), (44, 0), (-44, 0), (46, 90), (181, 180), (-91, 270), (316, 0)])
def test_the_angle_is_the_next_quarter(degrees: float, angle: int) -> None:
    assert Face(Box(0, 0, 100, 100), turned(UPRIGHT, degrees), 0.9).angle == angle


def test_what_no_face_looks_like_is_implausible() -> None:
    right_eye, left_eye, nose, right_mouth, left_mouth = UPRIGHT.points
    profile = Landmarks((50.0, 40.0), (54.0, 41.0), (30.0, 60.0), (50.0, 80.0), (50.0, 79.0))
    assert profile.plausible
    for wrong in (
        Landmarks(left_eye, right_eye, nose, left_mouth, right_mouth),  # mirrored
        Landmarks(right_eye, left_eye, nose, left_mouth, right_mouth),  # the mouth mirrored
        Landmarks(right_eye, left_eye, (50.0, 30.0), right_mouth, left_mouth),  # the nose above the eyes
        Landmarks(right_eye, left_eye, (50.0, 90.0), right_mouth, left_mouth),  # below the mouth
        Landmarks(right_eye, left_eye, (95.0, 60.0), right_mouth, left_mouth),  # beside the face
        Landmarks(right_eye, left_eye, nose, (35.0, 110.0), (65.0, 50.0)),  # the mouth across the face
        Landmarks((0.0, 40.0), (100.0, 40.0), nose, right_mouth, left_mouth),  # eyes too far apart
        Landmarks(right_eye, left_eye, nose, right_eye, left_eye),  # no height
        Landmarks(nose, nose, nose, nose, nose),
    ):
        assert not wrong.plausible


def test_what_was_detected_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        face(0, 0).box.x = 1  # type: ignore[misc]


@given(st.lists(FACES, min_size=1))
def test_the_largest_face_has_the_largest_area(faces: list[Face]) -> None:
    found = largest(faces)
    assert found in faces
    assert found.box.area == max(one.box.width * one.box.height for one in faces)


@given(st.lists(FACES))
def test_reading_order_only_reorders(faces: list[Face]) -> None:
    ordered = in_reading_order(faces)
    assert sorted(map(id, ordered)) == sorted(map(id, faces))
    assert [one.box for one in in_reading_order(ordered)] == [one.box for one in ordered]


def test_two_lines_are_read_from_the_top_and_each_from_the_left() -> None:
    # Nobody in a group photo stands at exactly the same height as the neighbour.
    upper = [face(10, 30), face(150, 12), face(300, 49)]
    lower = [face(5, 190), face(160, 210), face(310, 180)]
    shuffled = [lower[1], upper[2], lower[0], upper[0], lower[2], upper[1]]
    assert in_reading_order(shuffled) == upper + lower


def test_a_face_below_the_middle_of_the_first_begins_a_new_line() -> None:
    first = face(200, 0)
    assert in_reading_order([face(0, 49), first]) == [face(0, 49), first]
    assert in_reading_order([face(0, 50), first]) == [first, face(0, 50)]


@given(st.lists(st.builds(face, POSITIONS, st.just(7)), unique_by=lambda one: one.box.x))
def test_one_line_is_read_from_the_left(faces: list[Face]) -> None:
    assert in_reading_order(faces) == sorted(faces, key=lambda one: one.box.x)
