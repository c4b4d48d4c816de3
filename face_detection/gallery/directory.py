"""Tenants and what belongs to them, as ``sql.directory`` keeps it.

A tenant owns everything in the installation: people and their samples, events, API keys, sectors and capture
devices. Companies are tenants whose id is the company's code in decimal, such as "1042". The tenant ``default``
always exists: requests without a company act on it, and its administrators operate the installation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, datetime
from enum import StrEnum
from typing import Any, Literal

from face_detection.naming import MAX_NAME
from shared.calibration import Curve, Limit, limit_of, with_other_name
from shared.errors import InvalidRequest
from shared.models import Metric

DEFAULT_TENANT = "default"
UNKNOWN_TENANT = "There is no such company."

MAX_ENTRIES = 10_000
"""Most keys, most sectors and most devices of one tenant; lists are answered whole."""

MAX_NEIGHBOURS = 100
MAX_EVENT_DAYS = 36_500
MAX_REQUESTS_PER_MINUTE = 100_000
MAX_INTEGER = 2**63 - 1

# An id stands in addresses, where "." and ".." would mean something else.
TENANT_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Right(StrEnum):
    """What an API key allows.

    RECOGNISE: find, compare and name faces. ENROL: add, list, change and delete people. ADMIN: both of these, and
    clear the gallery, change the tenant's settings, and manage its keys, sectors and devices. RECOGNISE and ENROL
    are independent: a door's camera need not be able to list people, and a reception desk need not name passers-by.
    """

    RECOGNISE = "recognise"
    ENROL = "enrol"
    ADMIN = "admin"


@dataclass(frozen=True)
class Calibration:
    """A curve of a tenant's own photos, and the embedding space and the metric in which alone it is true."""

    space: str
    metric: Metric
    curve: Curve


@dataclass(frozen=True)
class TenantSettings:
    """How a tenant's requests are answered.

    Attributes:
        min_distance: threshold of requests that name none; None takes the installation's.
        rule: name a face after the ``nearest`` sample, or by a ``vote`` of the nearest ones.
        neighbours: how many samples vote, 1 to ``MAX_NEIGHBOURS``.
        keep_crops: whether events keep the aligned face.
        event_days: days for which events are kept; None takes the installation's.
        false_match_rate: instead of ``min_distance`` the rate at which strangers may be named.
        calibration: what distances mean among the tenant's own photos; None takes the model's.
        liveness: whether only faces that pass the liveness check are named (``required``), or where a request asks for
            the check (``optional``). Where the installation requires it, both do.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    min_distance: float | None = None
    rule: Literal["nearest", "vote"] = "nearest"
    neighbours: int = 5
    keep_crops: bool = False
    event_days: int | None = None
    false_match_rate: float | None = None
    calibration: Calibration | None = None
    liveness: Literal["optional", "required"] = "optional"

    def __post_init__(self) -> None:
        limit_of(self.min_distance, self.false_match_rate)
        if self.rule not in ("nearest", "vote"):
            raise InvalidRequest("rule must be nearest or vote.")
        if self.liveness not in ("optional", "required"):
            raise InvalidRequest("liveness must be optional or required.")
        if not 1 <= self.neighbours <= MAX_NEIGHBOURS:
            raise InvalidRequest(f"neighbours must be from 1 to {MAX_NEIGHBOURS}.")
        if self.event_days is not None and not 0 <= self.event_days <= MAX_EVENT_DAYS:
            raise InvalidRequest(f"event_days must be from 0 to {MAX_EVENT_DAYS}.")

    @property
    def limit(self) -> Limit | None:
        """The threshold, however it is named."""
        return limit_of(self.min_distance, self.false_match_rate)

    def changed(self, given: Mapping[str, Any]) -> TenantSettings:
        """These with other values. Where one of the two names of the threshold is given, the other is no longer.

        Raises:
            InvalidRequest: a value is not allowed.
        """
        return replace(self, **with_other_name(given))


@dataclass(frozen=True)
class Tenant:
    """A tenant; ``created_at`` is in UTC."""

    id: str
    name: str
    settings: TenantSettings
    created_at: datetime


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret.

    Attributes:
        id: unique within the installation; the second part of the key's text.
        tenant: whose it is.
        name: what it is for.
        rights: what was granted, at least one.
        requests_per_minute: most requests within any 60 seconds, see ``RateLimits``; None is unlimited.
        max_samples: samples up to which the key may fill the tenant's gallery; None is unlimited.
        created_at, expires_at, revoked_at: with a time zone.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    id: str
    tenant: str
    name: str
    rights: frozenset[Right]
    created_at: datetime
    requests_per_minute: int | None = None
    max_samples: int | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.rights:
            raise InvalidRequest("A key needs at least one right.")
        if self.requests_per_minute is not None and not 1 <= self.requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
            raise InvalidRequest(f"requests_per_minute must be from 1 to {MAX_REQUESTS_PER_MINUTE}.")
        if self.max_samples is not None and not 0 <= self.max_samples <= MAX_INTEGER:
            raise InvalidRequest(f"max_samples must be from 0 to {MAX_INTEGER}.")
        if self.expires_at and (self.expires_at.tzinfo is None or not 1 < self.expires_at.year < MAXYEAR):
            raise InvalidRequest("The time of expiry needs a time zone, and a year that every time zone has.")


@dataclass(frozen=True)
class StoredKey:
    """An API key with what its secret is checked against."""

    key: ApiKey
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)


@dataclass(frozen=True)
class Place:
    """A part of a company's premises, or what stands there; ``code`` is unique among its kind within the tenant.

    Raises:
        InvalidRequest: a code is not in 0 … 2⁶³ − 1, or the name is empty or too long.
    """

    tenant: str
    code: int
    name: str

    def __post_init__(self) -> None:
        check_code(self.code)
        check_name(self.name)


@dataclass(frozen=True)
class Sector(Place):
    """A part of a company's premises."""


@dataclass(frozen=True)
class Device(Place):
    """A capture device; ``sector`` is the code of the sector it stands in."""

    sector: int | None = None

    def __post_init__(self) -> None:
        if self.sector is not None:
            check_code(self.sector)
        super().__post_init__()


def check_tenant_id(id: str) -> None:
    """Raise InvalidRequest for an id that does not match ``TENANT_ID``."""
    if not re.fullmatch(TENANT_ID, id):
        raise InvalidRequest("A company's code must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'.")


def check_name(name: str) -> None:
    """Raise InvalidRequest for a name that is empty, too long, or cannot be stored."""
    if not 1 <= len(name) <= MAX_NAME or "\0" in name:
        raise InvalidRequest(f"A name must be 1 to {MAX_NAME} characters.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("A name must be valid Unicode.") from None


def check_code(code: int) -> None:
    """Raise InvalidRequest for a code that is not in 0 … 2⁶³ − 1."""
    if not 0 <= code <= MAX_INTEGER:
        raise InvalidRequest(f"A code must be from 0 to {MAX_INTEGER}.")
