"""JSON that keeps numbers as they were sent."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import exact_json

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=5) | st.dictionaries(st.text(), parts, max_size=5),
    max_leaves=20,
)


@given(TREES)
def test_what_another_writer_wrote_is_read_and_written_alike(value: object) -> None:
    try:
        sent = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    read = exact_json.loads(sent)
    assert read == value and not exact_json.has_inexact_numbers(read)
    assert json.loads(exact_json.dumps(read)) == value


@given(st.integers(min_value=-(10**100), max_value=10**100))
def test_integers_of_any_size(number: int) -> None:
    assert exact_json.loads(str(number)) == number
    assert exact_json.dumps({"n": [number]}) == b'{"n":[%d]}' % number


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_no_digit_is_lost_in_silence(number: Decimal) -> None:
    value = exact_json.loads(f"{number:e}")
    if not exact_json.has_inexact_numbers(value):
        as_sent = f"{value:.{len(number.as_tuple().digits) - 1}e}"
        assert number in (Decimal(repr(value)), Decimal(as_sent))


@pytest.mark.parametrize("text", ["0.1", "1e3", "-0.0", "0.10000000000000001", "5e-324", "1.50", "1e23", "0e9999"])
def test_fractions_that_a_double_holds(text: str) -> None:
    value = exact_json.loads(text)
    assert value == float(text) and math.copysign(1, value) == math.copysign(1, float(text))
    assert not exact_json.has_inexact_numbers([{"a": value}])


@pytest.mark.parametrize(
    "text",
    ["0.1000000000000000055511151231257827", "3.14159265358979323846", "1e400", "1e-400", "-1e99999999999999999"],
)
def test_fractions_that_none_holds(text: str) -> None:
    assert exact_json.has_inexact_numbers(exact_json.loads(f'{{"a": [{text}]}}'))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NaN",
        b"-Infinity",
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "a": 1}}',
        b'"\\ud800"',
        b'"\xff"',
        b"[1,]",
        b"01",
        b"1" * 5000,
        b"[" * 300 + b"]" * 300,
        "\ud800",
    ],
)
def test_what_is_no_json(text: bytes | str) -> None:
    with pytest.raises(ValueError):
        exact_json.loads(text)


def test_arrays_beside_large_integers() -> None:
    vector = np.array([0.1, 2], np.float32)
    written = exact_json.dumps([{"vector": vector, "n": 2**64}], orjson.OPT_SERIALIZE_NUMPY)
    assert written == b'[{"vector":[0.1,2.0],"n":18446744073709551616}]'
