from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from deepface.modules.modeling import AVAILABLE_MODELS
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.models import (
    ARCFACE_TEMPLATE,
    CATALOGUE,
    YUNET,
    Combination,
    Metric,
    ModelCard,
    find_card,
    scaled_template,
)

CARDS = list(CATALOGUE.values())


@pytest.fixture(params=CARDS, ids=lambda card: card.name)
def card(request: pytest.FixtureRequest) -> ModelCard:
    found: ModelCard = request.param
    return found


def test_the_name_is_the_key(card: ModelCard) -> None:
    assert CATALOGUE[card.name] is card
    assert re.fullmatch(r"[a-z0-9+-]+", card.name)


def test_the_default_metric_has_a_threshold(card: ModelCard) -> None:
    assert card.threshold(card.metric) is card.thresholds[card.metric]


def test_thresholds_lie_in_the_range_of_their_metric(card: ModelCard) -> None:
    largest = {Metric.TENFOLD_UNIT_EUCLIDEAN: 20, Metric.COSINE: 2, Metric.EUCLIDEAN: float("inf")}
    for metric, threshold in card.thresholds.items():
        assert 0 < threshold.distance < largest[metric]
        assert threshold.source.strip()


def test_a_metric_without_threshold_is_a_setting_that_cannot_be(card: ModelCard) -> None:
    for metric in set(Metric) - set(card.thresholds):
        with pytest.raises(SettingsError, match=f"{card.name}.*{metric}"):
            card.threshold(metric)


def test_the_template_lies_inside_the_crop(card: ModelCard) -> None:
    alignment = card.alignment
    for x, y in alignment.template:
        assert 0 < x < alignment.width and 0 < y < alignment.height


def test_the_template_is_a_face(card: ModelCard) -> None:
    right_eye, left_eye, nose, right_mouth, left_mouth = card.alignment.template
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < nose[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_the_space_tells_all_that_makes_embeddings_differ(card: ModelCard) -> None:
    parts = card.space("0123abcd").split("/")
    assert parts == [card.name, "0123abcd", card.alignment.name, card.computation]
    assert len(card.space("+".join(["0123456789ab-int8-012345"] * 3))) <= 256  # as long as an exported file may name


def test_the_licence_is_told(card: ModelCard) -> None:
    assert card.licence.strip()


def test_deepface_knows_every_model(card: ModelCard) -> None:
    assert all(one.deepface_name in AVAILABLE_MODELS["facial_recognition"] for one in card.networks)


def test_alignments_with_one_name_are_one_alignment() -> None:
    named = defaultdict(set)
    for card in CARDS:
        named[card.alignment.name].add(card.alignment)
    assert all(len(same) == 1 for same in named.values())


def test_alignments_with_different_names_differ() -> None:
    distinct = {card.alignment for card in CARDS}
    assert len({(one.width, one.height, one.template) for one in distinct}) == len(distinct)


def test_no_two_cards_share_a_space() -> None:
    assert len({card.space("r") for card in CARDS}) == len(CARDS)
    networks = {one.name: one.deepface_name for card in CARDS for one in card.networks}
    assert len(set(networks.values())) == len(networks)


COMBINATIONS = [card for card in CARDS if isinstance(card, Combination)]


def test_the_combinations() -> None:
    weights = {card.name: {part.card.name: part.weight for part in card.parts} for card in COMBINATIONS}
    assert weights == {
        "sface+dlib": {"sface": 1, "dlib": 1},
        "facenet+sface": {"facenet": 1, "sface": 1.5},
        "best": {"facenet": 1, "sface": 1.5, "dlib": 0.7},
    }
    assert [card.name for card in COMBINATIONS if card.mirrored] == ["best"]
    assert [card.dimensions for card in COMBINATIONS] == [256, 256, 384]


@pytest.mark.parametrize("card", COMBINATIONS, ids=lambda card: card.name)
def test_thresholds_of_a_combination_are_one_operating_point(card: Combination) -> None:
    tenfold = card.threshold(Metric.TENFOLD_UNIT_EUCLIDEAN).distance
    assert card.threshold(Metric.COSINE).distance == pytest.approx((tenfold / 10) ** 2 / 2)
    assert card.threshold(Metric.EUCLIDEAN).distance == pytest.approx(tenfold / 10)


def test_whatever_makes_a_combination_another_shows_in_its_space() -> None:
    card = CATALOGUE["best"]
    assert isinstance(card, Combination)
    heavier = replace(card, parts=(replace(card.parts[0], weight=1.25), *card.parts[1:]))
    assert len({one.space("r") for one in (card, heavier, replace(card, mirrored=False))}) == 3


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_sheet_is_split_into_the_crops_of_its_networks(card: ModelCard) -> None:
    alignment = card.alignment
    assert alignment.crops == tuple(one.alignment for one in card.networks)
    sheets = np.zeros((2, alignment.height, alignment.width, 3), np.uint8)
    for number, crops in enumerate(alignment.split(sheets), 1):
        crops += number  # views of the sheet, which do not overlap
    found = alignment.split(sheets)
    assert [one.shape for one in found] == [(2, one.height, one.width, 3) for one in alignment.crops]
    assert [np.unique(one).tolist() for one in found] == [[number] for number in range(1, len(found) + 1)]
    for one, alone in zip(found, alignment.split(sheets[0]), strict=True):
        np.testing.assert_array_equal(one[0], alone)


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["facenet"].thresholds[Metric.COSINE] = CATALOGUE["sface"].threshold(Metric.COSINE)  # type: ignore[index]
    with pytest.raises(TypeError):
        CATALOGUE["other"] = CATALOGUE["facenet"]  # type: ignore[index]


def test_the_default_distances_are_the_documented_ones() -> None:
    defaults = {name: (card.metric, card.threshold(card.metric).distance) for name, card in CATALOGUE.items()}
    assert defaults["facenet"] == defaults["facenet512"] == (Metric.TENFOLD_UNIT_EUCLIDEAN, 9.0)
    assert defaults["vgg-face"] == (Metric.COSINE, 0.4)
    assert defaults["sface"] == (Metric.COSINE, 0.585)
    assert defaults["dlib"] == (Metric.EUCLIDEAN, 0.55)


def test_facenets_thresholds_are_one_operating_point() -> None:
    card = CATALOGUE["facenet"]
    tenfold = card.threshold(Metric.TENFOLD_UNIT_EUCLIDEAN).distance
    # |a - b|² = 2 (1 - a·b) for vectors of unit length
    assert card.threshold(Metric.COSINE).distance == pytest.approx((tenfold / 10) ** 2 / 2)


def test_a_card_is_found_by_its_name_however_it_is_written() -> None:
    assert find_card(" FaceNet\n") is CATALOGUE["facenet"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError) as caught:
        find_card("eigenfaces")
    assert all(name in caught.value.message for name in ("eigenfaces", *CATALOGUE))


def test_the_detectors_card() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", YUNET.sha256)
    assert YUNET.name not in CATALOGUE


def test_a_template_of_the_same_size_stays() -> None:
    np.testing.assert_allclose(scaled_template(ARCFACE_TEMPLATE, 112, 112, 112), ARCFACE_TEMPLATE)


@given(st.integers(20, 400), st.integers(20, 400), st.floats(0.3, 1.0))
def test_a_template_is_scaled_with_the_shorter_side_and_centred(width: int, height: int, zoom: float) -> None:
    moved = np.array(scaled_template(ARCFACE_TEMPLATE, 112, width, height, zoom))
    original = np.array(ARCFACE_TEMPLATE)
    scale = min(width, height) / 112 * zoom
    np.testing.assert_allclose(moved[1:] - moved[0], (original[1:] - original[0]) * scale)
    np.testing.assert_allclose(moved - (width / 2, height / 2), (original - 56) * scale)
