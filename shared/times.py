"""Moments as clients write them, and as microseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"([0-9]{1,15})(\.[0-9]{1,9})?")
_LEAST_MILLISECONDS = 10**11
_LATEST = 253_402_300_799_999_999
"""The last microsecond that a date of four digits can tell."""


def time_text(moment: int) -> str:
    """Microseconds since 1970 as ISO 8601 with all six digits, UTC."""
    # "Z" and not "+00:00": a plus sign that stands in an address unescaped would become a space.
    return (_EPOCH + timedelta(microseconds=moment)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_of(text: str) -> int:
    """Microseconds since 1970 of a time: ISO 8601, UTC unless it says otherwise, or seconds or milliseconds since then.

    Raises:
        ValueError: it is none; says what it must be.
    """
    try:
        if number := _NUMBER.fullmatch(text):
            moment = int(Decimal(text) * (10**3 if int(number[1]) >= _LEAST_MILLISECONDS else 10**6))
        else:
            time = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            moment = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        moment = -1
    if not 0 <= moment <= _LATEST:
        raise ValueError("must be an ISO 8601 time from 1970 on, or seconds or milliseconds since 1970")
    return moment
