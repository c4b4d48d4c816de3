import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from face_detection.recognition.liveness import surroundings, views
from shared.geometry import Box, Face, Landmarks
from shared.images import Preview
from shared.models import MINIFASNET, LivenessCard, LivenessNetwork

SIDES = st.integers(2, 3000)


@given(st.data(), SIDES, SIDES, st.floats(1, 6))
def test_surroundings_lie_in_the_picture_around_the_box(data: st.DataObject, width: int, height: int, scale: float):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    part = surroundings(box, scale, width, height)
    assert part.within(width, height) == part
    fitting = min(scale, (width - 1) / box.width, (height - 1) / box.height)
    assert abs(part.width - fitting * box.width) <= 2 and abs(part.height - fitting * box.height) <= 2
    if fitting == scale:  # there is room for all of it: the face stays within, and in the middle where it can be
        assert part.x <= box.x + 1 and part.x + part.width >= box.x + box.width - 1
        if (scale + 1) * max(box.width, box.height) < min(x, y, width - x, height - y):
            assert abs(part.x + part.width / 2 - box.x - box.width / 2) <= 1


def test_what_the_authors_cut_out() -> None:
    """Numbers of their own cutting: in the middle, at a corner, and in a picture that is too small."""
    assert surroundings(Box(400, 300, 100, 120), 2.7, 1000, 900) == Box(315, 198, 271, 325)
    assert surroundings(Box(10, 5, 100, 120), 2.7, 1000, 900) == Box(0, 0, 271, 325)
    assert surroundings(Box(60, 60, 110, 130), 4.0, 250, 250) == Box(9, 0, 212, 250)


def face(box: Box) -> Face:
    return Face(box, Landmarks(*[(0.0, 0.0)] * 5), 1.0)


def test_each_network_looks_at_its_own_part() -> None:
    picture = np.zeros((600, 600, 3), np.uint8)
    boxes = [Box(250, 250, 100, 100), Box(20, 30, 60, 60)]
    for box in boxes:
        picture[box.y : box.y + box.height, box.x : box.x + box.width] = (10, 20, 200)
    found = views(Preview.full(picture), [face(box) for box in boxes], MINIFASNET)
    assert found.shape == (2, 2, 80, 80, 3) and found.dtype == np.uint8
    for one in found:
        for crop, network in zip(one, MINIFASNET.networks, strict=True):
            share = (crop[..., 2] == 200).mean()
            assert abs(share - 1 / network.scale**2) < 0.03
            assert (crop.reshape(-1, 3) @ [1, 0, 0]).max() == 10  # blue stays first


def test_the_picture_is_shrunk_without_averaging() -> None:
    """The networks have learnt from such pictures: stripes stay stripes."""
    stripes = np.zeros((500, 500, 3), np.uint8)
    stripes[:, ::2] = 255
    card = LivenessCard("test", 10, (LivenessNetwork("", "", 1.0),), 0.5, "", "")
    (crop,) = views(Preview.full(stripes), [face(Box(100, 100, 200, 200))], card)[0]
    part = stripes[100:301, 100:301]
    np.testing.assert_array_equal(crop, cv2.resize(part, (10, 10), interpolation=cv2.INTER_LINEAR))
    assert np.ptp(crop) > 50


def test_no_face_no_views() -> None:
    assert views(Preview.full(np.zeros((40, 40, 3), np.uint8)), [], MINIFASNET).shape == (0, 2, 80, 80, 3)


def test_a_turned_head_is_looked_at_upright() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (60, 60, 3), np.uint8)
    upright = np.asarray(cv2.resize(noise, (601, 601), interpolation=cv2.INTER_CUBIC), np.uint8)
    points = [(270.0, 280.0), (330.0, 280.0), (300.0, 310.0), (280.0, 340.0), (320.0, 340.0)]
    box = Box(250, 250, 101, 101)
    expected = views(Preview.full(upright), [Face(box, Landmarks(*points), 1.0)], MINIFASNET)
    for turns in (1, 2, 3):
        picture = np.ascontiguousarray(np.rot90(upright, -turns))  # clockwise
        for _ in range(turns):
            points = [(600 - y, x) for x, y in points]
        turned = Face(box, Landmarks(*points), 1.0)
        assert turned.angle == 90 * turns
        found = views(Preview.full(picture), [turned], MINIFASNET)
        assert np.abs(found.astype(int) - expected).mean() < 12  # the cut may be a pixel beside
        for _ in range(4 - turns):
            points = [(600 - y, x) for x, y in points]
