"""The margin to the next person, however many samples the nearest one has; and how near a spoilt face must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from face_detection.app import build_core
from face_detection.extraction.client import ServedModel
from face_detection.gallery.people import NewSample
from face_detection.recognition.identification import Identifier, Recognised
from face_detection.recognition.quality import Quality
from shared.geometry import Box, Face, Landmarks
from shared.models import find_card
from shared.settings import FrontSettings

MODEL = ServedModel(find_card("facenet"), "test", 16, "", "")
FACE = Face(Box(0, 0, 10, 10), Landmarks(*((0.0, 0.0),) * 5), 1.0)
QUALITY = Quality(100, 1, 1, 0, 128, 50, 0, 0, 0, 1, 1)


def at(angle: float) -> NDArray[np.float32]:
    """An embedding whose distance from that at 0 is 20 · sin(angle / 2)."""
    vector = np.zeros(128, np.float32)
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


def distance(angle: float) -> float:
    return float(20 * np.sin(angle / 2))


@pytest.fixture
def identifier(detector_home: Path, tmp_path: Path) -> Iterator[Identifier]:
    core = build_core(FrontSettings(deepface_home=detector_home, database=str(tmp_path / "gallery.db")))
    yield core.identifier
    core.identifier.close()


def add(identifier: Identifier, **angles: Sequence[float]) -> None:
    new = [NewSample(id, id, None, MODEL.space, at(angle)) for id, own in angles.items() for angle in own]
    identifier._store.add("default", new)


def found(identifier: Identifier, angle: float = 0.0, quality: Quality = QUALITY, **wanted: object) -> Recognised:
    (one,) = identifier.find("default", [FACE], [quality], MODEL, at(angle)[np.newaxis], **wanted)  # type: ignore[arg-type]
    return one


def test_the_margin_is_to_the_nearest_sample_of_anybody_else(identifier: Identifier) -> None:
    add(identifier, near=[0.1, 0.2], next=[0.5, 0.4], far=[1.5])
    one = found(identifier)
    assert one.person and one.person.id == "near"
    assert one.margin == pytest.approx(distance(0.4) - distance(0.1), rel=1e-4) and not one.ambiguous


@pytest.mark.parametrize("samples", [1, 16, 17, 63, 64])
def test_who_has_many_samples_has_a_margin_too(identifier: Identifier, samples: int) -> None:
    add(identifier, many=np.linspace(0.01, 0.3, samples).tolist(), next=[0.5])
    one = found(identifier)
    assert one.person and one.person.id == "many" and one.distance is not None
    expected = distance(0.5) if samples < 64 else distance(0.3)  # or at least so much
    assert one.margin == pytest.approx(expected - one.distance, rel=1e-4)


@pytest.mark.parametrize("samples", [1, 16, 40, 64])
def test_without_anybody_else_there_is_no_margin(identifier: Identifier, samples: int) -> None:
    add(identifier, only=np.linspace(0.01, 0.3, samples).tolist())
    one = found(identifier)
    assert one.person
    if samples < 64:
        assert one.margin is None and not one.ambiguous


def test_whoever_is_not_named_has_no_margin(identifier: Identifier) -> None:
    add(identifier, far=[1.5], further=[1.6])
    one = found(identifier)
    assert one.person is None and one.margin is None and one.false_match_rate is None and not one.ambiguous
    assert one.threshold == 9 and one.threshold_rate is not None
    assert found(identifier, closest=2).margin is None


def test_two_who_are_equally_near_are_ambiguous(identifier: Identifier) -> None:
    add(identifier, one=[0.4], other=[-0.42])
    assert found(identifier).ambiguous
    assert not found(identifier, 0.1).ambiguous


def test_a_vote_may_have_a_negative_margin(identifier: Identifier) -> None:
    add(identifier, wrong=[0.1], right=[0.12, 0.13, 0.14])
    one = found(identifier, rule="vote")
    assert one.person and one.person.id == "right" and one.ambiguous
    assert one.margin == pytest.approx(distance(0.1) - distance(0.12), rel=1e-3)


def test_what_would_name_a_clear_face_does_not_name_a_spoilt_one(identifier: Identifier) -> None:
    spoilt = replace(QUALITY, sharpness=0.25)
    add(identifier, somebody=[0.9])
    assert 9 * spoilt.tolerance < distance(0.9) < 9
    clear, doubtful = found(identifier), found(identifier, quality=spoilt)
    assert clear.person and clear.threshold == 9 and clear.reason is None
    assert doubtful.person is None and (doubtful.reason, doubtful.trust) == ("low_quality", 0)
    assert doubtful.distance == clear.distance and doubtful.threshold == pytest.approx(9 * spoilt.tolerance)
    near, far = found(identifier, 0.5, spoilt), found(identifier, -0.5, spoilt)
    assert near.person and near.reason is None
    assert far.person is None and far.reason is None  # too far for a clear face, too
