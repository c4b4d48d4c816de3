"""What is measured of real faces that are spoilt step by step, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from face_detection.recognition.quality import (
    ENROLMENT,
    LEAST_TOLERANCE,
    NAMING,
    REFERENCE,
    Quality,
    check,
    measure,
)
from shared.errors import LowQuality
from shared.geometry import Face, largest
from shared.images import Pixels, Preview
from shared.models import ARCFACE_TEMPLATE
from shared.settings import FrontSettings
from tests.remembered import RememberedYuNet


@pytest.fixture(scope="module")
def detector(detector_home: Path) -> YuNet:
    return RememberedYuNet(FrontSettings(deepface_home=detector_home))


@pytest.fixture(scope="module")
def portrait(photos: Path) -> Pixels:
    """A portrait with some 42 pixels between the eyes."""
    picture = cv2.imread(str(photos / "obama.jpg"))
    return np.asarray(cv2.resize(picture, None, fx=0.38, fy=0.38, interpolation=cv2.INTER_AREA), np.uint8)


Assess = Callable[[Pixels], Quality]


@pytest.fixture(scope="module")
def assess(detector: YuNet, portrait: Pixels) -> Assess:
    """Measures the portrait's face in another picture of the same size, whether it is found there or not."""
    face = largest(detector.detect(Preview.full(portrait)))
    return lambda picture: assessed(picture, face)


def assessed(picture: Pixels, face: Face) -> Quality:
    picture = np.ascontiguousarray(picture, np.uint8)
    crop = cut_out(Preview.full(picture), [face], REFERENCE, cv2.BORDER_REPLICATE)[0]
    return measure(face, crop, picture.shape[1], picture.shape[0])


def noisy(picture: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(7).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def motion(picture: Pixels, length: int, turned: bool) -> Pixels:
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return np.asarray(cv2.filter2D(picture, -1, kernel.T if turned else kernel), np.uint8)


def compressed(picture: Pixels, quality: int) -> Pixels:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


def falls(values: Sequence[float]) -> bool:
    return all(after < before for before, after in zip(values, values[1:], strict=False))


def test_a_clean_portrait_is_good_in_everything(assess: Assess, portrait: Pixels) -> None:
    quality = assess(portrait)
    assert not ENROLMENT["strict"].objections(quality) and not NAMING.objections(quality)
    assert quality.value > 0.8
    assert abs(quality.eyes - 42) < 6 and quality.inside > 0.999 and quality.score > 0.9
    assert max(abs(quality.yaw), abs(quality.pitch), abs(quality.roll)) < 15


def test_blur_lowers_the_sharpness_and_nothing_else(assess: Assess, portrait: Pixels) -> None:
    steps = [assess(portrait), *(assess(cv2.GaussianBlur(portrait, (0, 0), sigma)) for sigma in (1, 2, 3, 4, 5, 6, 8))]
    assert falls([step.sharpness for step in steps]) and falls([step.value for step in steps[2:]])
    assert all(step.detail > 0.9 and step.clearness > 7 for step in steps)
    assert [bool(ENROLMENT["auto"].objections(step)) for step in steps] == [False] * 3 + [True] * 5
    assert [bool(NAMING.objections(step)) for step in steps] == [False] * 5 + [True] * 3


@pytest.mark.parametrize("turned", [False, True])
def test_motion_in_any_one_direction_is_blur(assess: Assess, portrait: Pixels, turned: bool) -> None:
    steps = [assess(motion(portrait, length, turned)).sharpness for length in (1, 9, 15, 25)]
    assert falls(steps) and steps[1] < 0.5 * steps[0] and steps[2] < 0.4 * steps[0]


def test_contrast_and_brightness_do_not_count_as_sharpness(assess: Assess, portrait: Pixels) -> None:
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 4), np.uint8)
    for picture in (portrait, blurred):
        plain = assess(picture)
        dimmed = assess(np.asarray(picture * 0.4 + 20, np.uint8))
        assert abs(dimmed.sharpness - plain.sharpness) < 0.05
        assert abs(dimmed.contrast - 0.4 * plain.contrast) < 1
        assert abs(dimmed.brightness - (0.4 * plain.brightness + 20)) < 1


def test_noise_is_no_sharpness(assess: Assess, portrait: Pixels) -> None:
    steps = [assess(noisy(portrait, deviation)) for deviation in (0, 10, 20, 40, 80)]
    assert falls([step.clearness for step in steps])
    assert ENROLMENT["auto"].objections(steps[-1]) and NAMING.objections(steps[-1])
    blurred = assess(noisy(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 5), np.uint8), 8))
    assert blurred.sharpness < ENROLMENT["auto"].sharpness


def test_what_has_erased_the_face_leaves_no_detail(assess: Assess, portrait: Pixels) -> None:
    assert falls([assess(compressed(portrait, quality)).detail for quality in (30, 8, 4, 2)])
    height, width = portrait.shape[:2]
    coarse = cv2.resize(portrait, None, fx=1 / 6, fy=1 / 6, interpolation=cv2.INTER_AREA)
    coarse = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    glaring = np.clip(portrait.astype(np.float32) * 5, 0, 255).astype(np.uint8)
    dark = np.asarray(portrait * 0.04, np.uint8)
    for spoilt in (compressed(portrait, 2), coarse, glaring, dark, np.full_like(portrait, 90)):
        assert ENROLMENT["auto"].objections(assess(spoilt))
    plain = assess(np.full_like(portrait, 90))
    assert (plain.sharpness, plain.detail, plain.contrast, plain.value) == (0, 0, 0, 0)


def test_limits_do_not_depend_on_the_size_of_the_picture(detector: YuNet, photos: Path) -> None:
    picture = cv2.imread(str(photos / "obama.jpg"))
    sharp = []
    for factor in (1.0, 0.5, 0.25):
        small = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        sharp.append(assessed(small, largest(detector.detect(Preview.full(small)))))
    assert max(one.sharpness for one in sharp) < 1.35 * min(one.sharpness for one in sharp)
    assert abs(sharp[0].eyes / sharp[2].eyes - 4) < 0.3


def test_a_tiny_face_is_called_small(detector: YuNet, portrait: Pixels) -> None:
    tiny = np.asarray(cv2.resize(portrait, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8)
    canvas = np.full((300, 300, 3), 128, np.uint8)
    canvas[100 : 100 + tiny.shape[0], 100 : 100 + tiny.shape[1]] = tiny
    quality = assessed(canvas, largest(detector.detect(Preview.full(canvas))))
    assert ENROLMENT["auto"].objections(quality)[0].startswith("too small: pixels between the eyes 1")


def test_a_cut_face_is_called_cut_and_its_edge_is_not_sharp(detector: YuNet, portrait: Pixels) -> None:
    face = largest(detector.detect(Preview.full(portrait)))
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 6), np.uint8)
    middle = face.box.x + face.box.width // 2
    landmarks = replace(
        face.landmarks,
        **{
            name: (getattr(face.landmarks, name)[0] - middle, getattr(face.landmarks, name)[1])
            for name in ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
        },
    )
    quality = assessed(blurred[:, middle:], replace(face, landmarks=landmarks))
    assert 0.4 < quality.inside < 0.6
    assert quality.sharpness < NAMING.sharpness
    assert "cut by the border" in ENROLMENT["auto"].objections(quality)[0]


@pytest.mark.parametrize("degrees", [-120, -60, -20, 20, 90, 170])
def test_a_tilted_face_is_as_good_as_an_upright_one(detector: YuNet, portrait: Pixels, degrees: int) -> None:
    height, width = portrait.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)  # OpenCV counts the other way
    face = largest(detector.detect(Preview.full(portrait)))
    points = [tuple((matrix @ (*point, 1)).tolist()) for point in face.landmarks.points]
    turned = replace(face, landmarks=type(face.landmarks)(*points))
    picture = cv2.warpAffine(portrait, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    one, other = assessed(portrait, face), assessed(np.asarray(picture, np.uint8), turned)
    assert abs((other.roll - one.roll - degrees + 180) % 360 - 180) < 1
    assert abs(other.sharpness - one.sharpness) < 0.25
    assert abs(other.yaw - one.yaw) < 2 and abs(other.pitch - one.pitch) < 2 and abs(other.eyes - one.eyes) < 0.5


def test_yaw_and_pitch_follow_the_nose(assess: Assess, detector: YuNet, portrait: Pixels) -> None:
    face = largest(detector.detect(Preview.full(portrait)))
    x, y = face.landmarks.nose
    aside = assessed(portrait, replace(face, landmarks=replace(face.landmarks, nose=(x + 8, y))))
    up = assessed(portrait, replace(face, landmarks=replace(face.landmarks, nose=(x, y - 8))))
    plain = assess(portrait)
    assert 15 < aside.yaw - plain.yaw < 50 and abs(aside.pitch - plain.pitch) < 5
    assert 15 < up.pitch - plain.pitch < 50 and abs(up.yaw - plain.yaw) < 5
    line = replace(face, landmarks=type(face.landmarks)(*[(10.0, 10.0)] * 5))
    assert np.isfinite(list(vars_of(assessed(portrait, line)))).all()


def vars_of(quality: Quality) -> list[float]:
    return [getattr(quality, name) for name in Quality.__slots__]


def test_a_refusal_has_reason_figure_and_limit(assess: Assess, detector: YuNet, portrait: Pixels) -> None:
    blurred = assess(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 5), np.uint8))
    face = largest(detector.detect(Preview.full(portrait)))
    with pytest.raises(LowQuality, match=r"too blurred: sharpness 0\.\d\d, at least 0\.33") as raised:
        check(face, blurred, "auto")
    assert (raised.value.code, raised.value.details) == ("low_quality", {"bbox": str(face.box)})
    check(face, blurred, "none")
    with pytest.raises(LowQuality, match=r"turned too far aside: degrees 40, at most 30"):
        check(face, replace(assess(portrait), yaw=-40.0), "strict")


def test_a_figure_never_looks_like_its_limit(assess: Assess, portrait: Pixels) -> None:
    quality = replace(assess(portrait), sharpness=0.3299, yaw=30.0001)
    assert ENROLMENT["auto"].objections(quality) == ["too blurred: sharpness 0.32, at least 0.33"]
    assert "turned too far aside: degrees 31, at most 30" in ENROLMENT["strict"].objections(quality)


def test_the_stricter_refuses_what_the_other_does() -> None:
    for name in ("eyes", "sharpness", "detail", "clearness", "contrast", "inside"):
        limits = [getattr(one, name) for one in (ENROLMENT["none"], NAMING, ENROLMENT["auto"], ENROLMENT["strict"])]
        assert limits == sorted(limits), name
    assert REFERENCE.template == ARCFACE_TEMPLATE


def test_a_spoilt_face_needs_a_nearer_sample(assess: Assess, portrait: Pixels) -> None:
    steps = [assess(np.asarray(cv2.GaussianBlur(portrait, (0, 0), sigma), np.uint8)) for sigma in (2, 3, 4)]
    tolerances = [assess(portrait).tolerance, *(step.tolerance for step in steps)]
    assert tolerances[0] == 1 and falls(tolerances) and tolerances[-1] >= LEAST_TOLERANCE
    limits = {name: getattr(NAMING, name) for name in ("eyes", "sharpness", "detail", "contrast", "inside")}
    assert replace(assess(portrait), **limits).tolerance == LEAST_TOLERANCE


def test_flaws_add_up(assess: Assess, portrait: Pixels) -> None:
    clear = assess(portrait)
    one, other = replace(clear, sharpness=0.5), replace(clear, detail=0.9)
    both = replace(clear, sharpness=0.5, detail=0.9)
    assert LEAST_TOLERANCE < both.tolerance < min(one.tolerance, other.tolerance) < 1
