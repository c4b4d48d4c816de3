"""Boxes, names and masks on real photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition import drawing
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from face_detection.recognition.drawing import Mark, destroy, legible, marked_jpeg
from feature_extraction.embedder import Embedder
from shared.errors import TooManyPixels
from shared.geometry import Box
from shared.images import Pixels, Preview
from shared.models import Metric, find_card
from shared.settings import FrontSettings


def decoded(jpeg: bytes) -> Pixels:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def read(photo: Path) -> Pixels:
    return cv2.imread(str(photo))


@pytest.fixture(scope="module")
def detector(detector_home: Path) -> YuNet:
    return YuNet(FrontSettings(deepface_home=detector_home))


@pytest.fixture
def only_pillows_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts."""
    monkeypatch.setattr(drawing, "_FONTS", ())
    for cached in (drawing._fonts, drawing._has):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (drawing._fonts, drawing._has):
        cached.cache_clear()


@pytest.mark.parametrize("photo", ["obama.jpg", "obama2.jpg", "biden.jpg", "t1.jpg"])
def test_no_masked_face_is_found(detector: YuNet, photos: Path, photo: str) -> None:
    pixels = read(photos / photo)
    faces = detector.detect(Preview.full(pixels))
    assert faces
    masked = decoded(marked_jpeg(pixels, [Mark(face.box, None) for face in faces], False, "unknown"))
    left = detector.detect(Preview.full(masked))
    assert not [one for one in left if any(one.box.iou(face.box) > 0 for face in faces)]


@pytest.mark.parametrize("photo", ["obama.jpg", "obama2.jpg", "biden.jpg"])
def test_no_masked_face_is_recognised_by_whoever_knows_where_it_was(
    detector: YuNet, facenet: Embedder, photos: Path, photo: str
) -> None:
    """Even the same photo, cut out by the landmarks of the face that was there."""
    card = find_card("facenet")
    pixels = read(photos / photo)
    (face,) = detector.detect(Preview.full(pixels))
    masked = pixels.copy()
    destroy(masked, face.box)
    crops = [cut_out(Preview.full(one), [face], card.alignment)[0] for one in (pixels, masked)]
    rows = prepare(facenet.embed(np.stack(crops)), Metric.TENFOLD_UNIT_EUCLIDEAN)
    (distance,) = distances(rows[1:], rows[0], Metric.TENFOLD_UNIT_EUCLIDEAN)
    assert distance > card.threshold(card.metric).distance + 1


def test_nothing_but_averages_is_left_of_a_face() -> None:
    """Faces whose pixels are shuffled within each of 5 x 5 cells look the same afterwards."""
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (320, 320, 3), np.uint8)
    cells = pixels.reshape(5, 64, 5, 64, 3).transpose(0, 2, 1, 3, 4).reshape(25, 64 * 64, 3)
    shuffled = np.stack([generator.permutation(cell) for cell in cells])
    other = np.ascontiguousarray(
        shuffled.reshape(5, 5, 64, 64, 3).transpose(0, 2, 1, 3, 4).reshape(320, 320, 3), dtype=np.uint8
    )
    assert (other != pixels).mean() > 0.9
    for one in (pixels, other):
        destroy(one, Box(60, 60, 200, 200))  # with the margin of 60 all of the picture
    assert np.abs(pixels.astype(int) - other).max() <= 1


@given(
    box=st.builds(Box, st.integers(-300, 300), st.integers(-300, 300), st.integers(1, 400), st.integers(1, 400)),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_mask_has_a_margin_and_ends_there(box: Box, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    before = pixels.copy()
    destroy(pixels, box)
    margin = round(0.3 * max(box.width, box.height))
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (rows >= box.y - margin) & (rows < box.y + box.height + margin)
    inside = inside & (columns >= box.x - margin) & (columns < box.x + box.width + margin)
    assert (pixels[~inside] == before[~inside]).all()
    if inside.sum() > 1000:
        assert (pixels[inside] != before[inside]).mean() > 0.8


def test_whom_a_mask_takes() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (200, 400, 3), np.uint8)
    marks = [Mark(Box(60, 60, 60, 60), "Somebody"), Mark(Box(280, 60, 60, 60), None)]

    def changed(mask: drawing.Mask | None) -> list[bool]:
        drawn = decoded(marked_jpeg(pixels.copy(), marks, False, mask)).astype(int)
        plain = decoded(marked_jpeg(pixels.copy(), marks, False, None)).astype(int)
        places = [np.s_[60:120, 60:120], np.s_[60:120, 280:340]]
        return [bool(np.abs(drawn[place] - plain[place]).mean() > 10) for place in places]

    assert changed(None) == [False, False]
    assert changed("unknown") == [False, True]
    assert changed("all") == [True, True]


def test_boxes_and_names_are_drawn(photos: Path, detector: YuNet) -> None:
    pixels = read(photos / "obama.jpg")
    (face,) = detector.detect(Preview.full(pixels))
    drawn = decoded(marked_jpeg(pixels.copy(), [Mark(face.box, "Barack Obama")], True, None))
    assert drawn.shape == pixels.shape
    green = (np.abs(drawn.astype(int) - (40, 120, 40)) < 25).all(axis=2)
    x, y, width, height = face.box.x, face.box.y, face.box.width, face.box.height
    assert green[y + 20 : y + height, x - 3 : x + 4].any(axis=1).all()
    above = np.s_[max(0, y - 20) : y, x : x + width]
    assert green[above].mean() > 0.3 and (drawn[above] > 200).all(axis=2).mean() > 0.03


@pytest.mark.parametrize("name", ["Łukasz Żółć", "Владимир", "Ελένη", "محمد"])
def test_names_of_many_scripts(name: str) -> None:
    try:
        ImageFont.truetype("DejaVuSans.ttf")
    except OSError:
        pytest.skip("needs DejaVu Sans")
    text, font = legible(name, 1, 20)
    assert text == name and font.getlength(text) > 20


def test_a_machine_without_fonts(only_pillows_own: None) -> None:
    assert legible("Barack Obama", 1, 20)[0] == "Barack Obama"
    assert legible("Zoë Müller-Ångström", 1, 20)[0] == "Zoe Muller-Angstrom"
    for name in ("王小明", "Владимир", "", "\n", "\u0301"):
        assert legible(name, 7, 20)[0] == "#7"
    assert legible("a\nb\t c\0", 1, 20)[0] == "a b c"


@given(
    name=st.text(max_size=80) | st.none(),
    box=st.builds(Box, st.integers(-50, 300), st.integers(-50, 300), st.integers(1, 5000), st.integers(1, 5000)),
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    mask=st.sampled_from([None, "unknown", "all"]),
)
def test_any_name_anywhere(name: str | None, box: Box, shape: tuple[int, int], mask: drawing.Mask | None) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    assert decoded(marked_jpeg(pixels, [Mark(box, name)], True, mask)).shape == (*shape, 3)


@pytest.mark.parametrize("name", ["x" * 512, "王" * 512, "مح" * 256, "Z" + "\u0337" * 511])
def test_long_names_are_cut(name: str) -> None:
    pixels = np.zeros((300, 2000, 3), np.uint8)
    drawn = decoded(marked_jpeg(pixels, [Mark(Box(100, 100, 100, 100), name)], True, None))
    assert not drawn[:, 450:].any() and not drawn[:50].any() and drawn[60:100, 100:120].any()


def test_a_picture_that_no_jpeg_can_hold() -> None:
    with pytest.raises(TooManyPixels):
        marked_jpeg(np.zeros((1, 65_501, 3), np.uint8), [], True, None)
    assert marked_jpeg(np.zeros((1, 65_500, 3), np.uint8), [], True, None)
