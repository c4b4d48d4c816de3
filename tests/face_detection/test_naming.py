"""How ids and names are written."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_detection.naming import folded, normal_id, normal_name
from shared.errors import InvalidRequest

KIM = "김민수"


@given(st.text())
def test_folding_is_the_same_for_what_is_written_differently(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    for other in (unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text), text.upper(), text.lower()):
        assert folded(other) == once


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ägnes Müller", "agnes muller"),
        ("Σοφία", "σοφια"),
        ("ΣΟΦΙΑΣ", "σοφίας"),
        ("Straße", "STRASSE"),
        ("Işık İnan", "ISIK inan"),
        ("Łódź", "lodz"),
        ("Søren Ægir", "soren aegir"),
        ("Nguyễn Đặng", "nguyen dang"),
        ("ＦＵＬＬ", "full"),
        (KIM, unicodedata.normalize("NFD", KIM)),
    ],
)
def test_what_finds_whom(name: str, text: str) -> None:
    assert folded(name) == folded(text)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("기", "김"), ("a", "b"), ("и", "к"), ("กิน", "กัน")])
def test_other_letters_stay_others(one: str, other: str) -> None:
    assert folded(one) not in folded(other)


@pytest.mark.parametrize(
    "id", ["", " ", "\u3000", "\u200b", "\ufeff\u202e", ".", "..", "a\nb", "\x7f", "\0", "\ud800", "x" * 257]
)
def test_ids_that_nobody_may_have(id: str) -> None:
    with pytest.raises(InvalidRequest):
        normal_id(id)


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u00a0", "\u200b ", "\0", "\ud800", "x" * 513])
def test_names_that_nobody_may_have(name: str) -> None:
    with pytest.raises(InvalidRequest):
        normal_name(name)


def test_what_looks_alike_is_the_same() -> None:
    apart = unicodedata.normalize("NFD", KIM)
    assert apart != KIM and normal_id(apart) == normal_name(apart) == KIM
    assert normal_id("...") == "..." and normal_id("a/../b") == "a/../b"
