"""JSON whose numbers stay as they were sent: integers of any size, and fractions of which it is known what was lost."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import jiter
import orjson

_EXACT_DIGITS = 17
"""No double needs more digits to be told from all others."""

_MOST_MESSAGE = 200


class InexactFloat(float):
    """The double nearest to a number that has more digits, or is larger or smaller, than a double can hold."""


def loads(text: bytes | str) -> Any:
    """The value of a JSON text, as RFC 8259 has it, with at most 200 levels.

    Raises:
        ValueError: it is none, an object has a name twice, or an integer has more than 4,300 digits. Says which, and
            where.
    """
    data = text.encode() if isinstance(text, str) else text  # a lone surrogate makes a UnicodeError, a ValueError
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="lossless-float")
    except ValueError as error:
        raise ValueError(str(error)[:_MOST_MESSAGE]) from None
    return _settled(value)


def dumps(value: Any, option: int = 0) -> bytes:
    """A value as JSON; integers of any size are written out.

    Args:
        value: what orjson takes.
        option: orjson's options.

    Raises:
        TypeError: it is not JSON, or nests too deep.
    """
    try:
        return orjson.dumps(value, option=option)
    except TypeError:  # among others for integers of more than 64 bits
        return orjson.dumps(_written_out(value), option=option)


def has_inexact_numbers(value: Any) -> bool:
    """Whether a value that ``loads`` gave has a number that would not come back as it was sent."""
    if isinstance(value, dict):
        return any(map(has_inexact_numbers, value.values()))
    if isinstance(value, list):
        return any(map(has_inexact_numbers, value))
    return isinstance(value, InexactFloat)


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        for name, part in value.items():
            value[name] = _settled(part)
    elif isinstance(value, list):
        value[:] = map(_settled, value)
    elif isinstance(value, jiter.LosslessFloat):
        return _float(bytes(value).decode())
    return value


def _float(text: str) -> float:
    number = float(text)
    try:
        sent = Decimal(text)
        digits = len(sent.as_tuple().digits)
        # The double's shortest form, or one with as many digits as were sent: 0.10000000000000001 is 0.1 to many.
        if sent == Decimal(repr(number)) or (digits <= _EXACT_DIGITS and sent == Decimal(f"{number:.{digits - 1}e}")):
            return number
    except InvalidOperation:  # an exponent beyond all measure
        pass
    return InexactFloat(number)


def _written_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _written_out(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_written_out(part) for part in value]
    if type(value) is int and value.bit_length() > 63:
        return orjson.Fragment(str(value))
    return value
