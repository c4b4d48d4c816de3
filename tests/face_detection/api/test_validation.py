"""What all doors refuse alike, and in whose words."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from face_detection.api.doors.original import RecognitionRequest, SampleRequest
from face_detection.api.own.live_conversation import FIRST
from face_detection.api.schemas import PageRequest
from face_detection.api.validation import FieldText, faults_of, names_of
from face_detection.app import OPERATIONS

ADAPTERS = {
    "live": FIRST,
    **{f"{one.method} {one.path} body": one.body for one in OPERATIONS if one.body is not None},
    **{f"{one.method} {one.path} query": TypeAdapter(one.query) for one in OPERATIONS if one.query is not None},
}

WRONG: tuple[Any, ...] = (
    *(None, True, -1, 1.5, 10**30, 10**400, math.nan, math.inf, b"\xff", "", " ", ".", "\0", "\ud800", "x" * 100_000),
    *([], [None], ["x" * 70_000], ["a"] * 20_000, {}, {"nmae": 1}, {"min_distance": True}, {"name": ""}),
    *map(FieldText, ("yes", "1_0", " 1", "1e999", "-5", "nan", "9" * 40)),
)

PYDANTIC = (
    "Input",
    "Value error",
    "items after",
    "a valid",
    "validation",
    "should",
    "Extra",
    "Field required",
    "_type",
)


def members(schema: dict[str, Any]) -> set[str]:
    """The names of members anywhere in a JSON schema."""
    found = set(schema.get("properties", ()))
    for part in schema.values():
        for one in part if isinstance(part, list) else [part]:
            if isinstance(one, dict):
                found |= members(one)
    return found


def bodies(adapter: TypeAdapter[Any]) -> Iterator[Any]:
    yield from WRONG
    for name in members(adapter.json_schema()) | {"unheard_of"}:
        for value in WRONG:
            yield {name: value}
            yield [{name: value}]


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_faults_are_worded_in_the_words_of_the_field(adapter: TypeAdapter[Any]) -> None:
    count = 0
    for body in bodies(adapter):
        try:
            adapter.validate_python(body)
        except ValidationError as error:
            fault = faults_of(error)
            assert not any(phrase in fault for phrase in PYDANTIC), fault
            assert "is not what it must be" not in fault, error
            assert len(fault) < 2000 and fault.isprintable()
            count += 1
    assert count > len(WRONG)


def refusal(model: type[BaseModel], value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(value)
    return faults_of(caught.value)


def test_messages_speak_of_field_and_limit() -> None:
    sample = {"id": "1", "name": "A", "image": "x"}
    assert refusal(SampleRequest, sample | {"name": "x" * 513}) == "name: at most 512 characters"
    assert refusal(SampleRequest, sample | {"action": "x" * 257}) == "action: at most 256 characters"
    assert refusal(SampleRequest, sample | {"id": 1.0}) == "id: must be text or a whole number"
    assert refusal(PageRequest, {"limit": 1001}) == "limit: must be at most 1000"
    assert refusal(PageRequest, {"limit": "10"}) == "limit: must be a whole number"
    assert refusal(RecognitionRequest, {"image": "x", "min_distance": True}) == "min_distance: must be a number"
    assert refusal(PageRequest, {"limti": 5}) == "limti is not known here, did you mean limit? (known: after, limit)"


def test_text_of_a_query_is_read() -> None:
    assert TypeAdapter(PageRequest).validate_python({"limit": FieldText("10")}).limit == 10
    wanted = TypeAdapter(RecognitionRequest).validate_python(
        {"image": "x", "min_distance": FieldText("9.5"), "include_unknown": FieldText("true")}
    )
    assert (wanted.min_distance, wanted.include_unknown) == (9.5, True)


def test_every_request_says_what_becomes_of_unknown_members() -> None:
    for name, adapter in ADAPTERS.items():
        schema = adapter.json_schema()
        extra = schema.get("additionalProperties")
        assert (
            extra is False or " /api/" in name or any(door in name for door in ("face", "train", "recog", " / ", "up"))
        )


def test_what_other_services_know_is_ignored_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "face_detection.api.validation")
    sample = {"id": "1", "name": "A", "image": "x", "something_of_theirs": 1}
    for _ in range(3):
        assert TypeAdapter(SampleRequest).validate_python(sample).id == "1"
    assert [record.__dict__["member"] for record in caplog.records] == ["something_of_theirs"]
    assert "did you mean min_distance?" in refusal(RecognitionRequest, {"image": "x", "min_distanc": 1})


def test_names_of_a_request() -> None:
    assert names_of(PageRequest) == {"limit", "after"}
