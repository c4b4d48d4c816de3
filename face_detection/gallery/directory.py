"""The directory of tenants and of what belongs to them, whatever database is behind it.

A tenant owns everything in the installation: people and their samples, events, API keys, sectors and capture
devices. Companies are tenants whose id is the company's code in decimal, such as "1042". The tenant ``default``
always exists: requests without a company act on it, and its administrators operate the installation.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import MAXYEAR, UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from face_detection.gallery.sql import directory_statements as sql
from face_detection.gallery.sql.database import Connection, Connections
from face_detection.gallery.sql.history import Position
from face_detection.naming import normal_name
from shared.errors import Conflict, InvalidRequest, NotFound

DEFAULT_TENANT = "default"
UNKNOWN_TENANT = "There is no such company."

MAX_ENTRIES = 10_000
"""Most keys, most sectors and most devices of one tenant; lists are answered whole."""

MAX_NAME = 512
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
class TenantSettings:
    """How a tenant's requests are answered.

    Attributes:
        min_distance: threshold of requests that name none; None takes the installation's.
        rule: name a face after the ``nearest`` sample, or by a ``vote`` of the nearest ones.
        neighbours: how many samples vote, 1 to ``MAX_NEIGHBOURS``.
        keep_crops: whether events keep the aligned face.
        event_days: days for which events are kept; None takes the installation's.

    Raises:
        InvalidRequest: one of these does not hold.
    """

    min_distance: float | None = None
    rule: Literal["nearest", "vote"] = "nearest"
    neighbours: int = 5
    keep_crops: bool = False
    event_days: int | None = None

    def __post_init__(self) -> None:
        if self.min_distance is not None and not (math.isfinite(self.min_distance) and self.min_distance >= 0):
            raise InvalidRequest("min_distance must be a number that is not negative.")
        if self.rule not in ("nearest", "vote"):
            raise InvalidRequest("rule must be nearest or vote.")
        if not 1 <= self.neighbours <= MAX_NEIGHBOURS:
            raise InvalidRequest(f"neighbours must be from 1 to {MAX_NEIGHBOURS}.")
        if self.event_days is not None and not 0 <= self.event_days <= MAX_EVENT_DAYS:
            raise InvalidRequest(f"event_days must be from 0 to {MAX_EVENT_DAYS}.")


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
class Sector:
    """A part of a company's premises; ``code`` is unique within the tenant.

    Raises:
        InvalidRequest: the code is not in 0 … 2⁶³ − 1, or the name is empty or too long.
    """

    tenant: str
    code: int
    name: str

    def __post_init__(self) -> None:
        check_code(self.code)
        check_name(self.name)


@dataclass(frozen=True)
class Device:
    """A capture device; ``code`` is unique within the tenant, ``sector`` is the code of the sector it stands in.

    Raises:
        InvalidRequest: a code is not in 0 … 2⁶³ − 1, or the name is empty or too long.
    """

    tenant: str
    code: int
    name: str
    sector: int | None = None

    def __post_init__(self) -> None:
        check_code(self.code)
        if self.sector is not None:
            check_code(self.sector)
        check_name(self.name)


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


class Directory:
    """Keeps tenants and what belongs to them. Safe to use from several threads and processes, as the store is.

    It shares the store's connections and ends with them. Every method raises StorageError when the database
    fails, with nothing changed, and NotFound where the tenant, the key, the sector or the device that it is about
    does not exist. Keys that have expired or were revoked stay and count as keys, and the last keys of the
    installation cannot be removed: an installation that has asked for keys never opens itself again.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def tenants(self) -> Sequence[Tenant]:
        """All tenants, ordered by id."""
        with self._connections.reading() as connection:
            return [_tenant(*row) for row in connection.execute(sql.TENANTS).fetchall()]

    def tenant(self, id: str) -> Tenant:
        """A tenant."""
        with self._connections.reading() as connection:
            return _get_tenant(connection, id)

    def settings_and_position(self, id: str) -> tuple[TenantSettings, Position]:
        """A tenant's settings, and how far the database is (``Store.position``), which every search begins with."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.SETTINGS_AND_POSITION, {"id": id}).fetchall()
        if not rows:
            raise NotFound(UNKNOWN_TENANT)
        settings, *position = rows[0]
        return _settings(settings), Position(*position)

    def create_tenant(self, id: str, name: str, settings: TenantSettings) -> Tenant:
        """Create a tenant.

        Raises:
            InvalidRequest: the id or the name is not allowed.
            Conflict: there is one with this id.
        """
        check_tenant_id(id)
        name = _name(name)
        tenant = Tenant(id, name, settings, datetime.now(UTC))
        row = {"id": id, "name": name, "settings": _json(settings), "created_at": _text(tenant.created_at)}
        with self._connections.writing() as connection:
            if connection.execute(sql.ADD_TENANT, row).rowcount == 0:
                raise Conflict("There is a company with this code already.")
        return tenant

    def update_tenant(self, id: str, name: str | None = None, settings: Mapping[str, Any] | None = None) -> Tenant:
        """Change a tenant.

        Args:
            id: which.
            name: the new name; None keeps it.
            settings: new values by the names of ``TenantSettings``; what is not named keeps its value.

        Raises:
            InvalidRequest: a value is not allowed; nothing was changed.
        """
        name = None if name is None else _name(name)
        with self._connections.writing() as connection:
            old = _get_tenant(connection, id)
            new = replace(old, name=name or old.name, settings=replace(old.settings, **settings or {}))
            connection.execute(sql.UPDATE_TENANT, {"id": id, "name": new.name, "settings": _json(new.settings)})
        return new

    def delete_tenant(self, id: str) -> None:
        """Delete a tenant with its keys, sectors, devices and events; nothing is stored for it afterwards.

        Raises:
            Conflict: it still has people, it has the installation's only keys, or it is the default one.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, id)
            if id == DEFAULT_TENANT:
                raise Conflict("The default company cannot be deleted.")
            if _number(connection, sql.HAS_PEOPLE, tenant=id):
                raise Conflict("The company still has people; delete them first.")
            if _number(connection, sql.HAS_THE_ONLY_KEYS, tenant=id):
                raise Conflict("The company has the only API keys; create one of another company first.")
            for statement in sql.DELETE_TENANT:
                connection.execute(statement, {"tenant": id})

    def add_key(self, stored: StoredKey) -> None:
        """Keep a new key.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` keys.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, stored.key.tenant)
            stored = replace(stored, key=replace(stored.key, name=_name(stored.key.name)))
            connection.execute(sql.ADD_KEY, _key_row(stored))
            _check_count(connection, sql.COUNT_KEYS, stored.key.tenant)

    def keys(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """The keys of a tenant, or of all; in the order of their creation."""
        with self._connections.reading() as connection:
            if tenant is None:
                rows = connection.execute(sql.KEYS).fetchall()
            else:
                _get_tenant(connection, tenant)
                rows = connection.execute(sql.KEYS_OF, {"tenant": tenant}).fetchall()
        return [_stored_key(*row).key for row in rows]

    def find_key(self, id: str) -> StoredKey | None:
        """The key with this id, of whatever tenant. Costs microseconds; asked at every request."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.KEY, {"id": id}).fetchall()
        return _stored_key(*rows[0]) if rows else None

    def any_key(self, tenant: str | None = None) -> bool:
        """Whether a tenant, or the installation, has or had a key; False for a tenant that does not exist."""
        with self._connections.reading() as connection:
            if tenant is None:
                return _number(connection, sql.ANY_KEY) > 0
            return _number(connection, sql.ANY_KEY_OF, tenant=tenant) > 0

    def replace_secret(self, tenant: str, id: str, salt: bytes, hash: bytes) -> ApiKey:
        """Give a key another secret; the former one is no longer valid.

        Raises:
            Conflict: the key was revoked.
        """
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if key.revoked_at:
                raise Conflict("The key was revoked.")
            connection.execute(sql.REPLACE_SECRET, {"id": id, "salt": salt, "hash": hash})
        return key

    def revoke_key(self, tenant: str, id: str) -> ApiKey:
        """Revoke a key for good; the time of the first revocation stays."""
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if not key.revoked_at:
                key = replace(key, revoked_at=datetime.now(UTC))
                connection.execute(sql.REVOKE, {"id": id, "revoked_at": _text(key.revoked_at)})
        return key

    def sectors(self, tenant: str) -> Sequence[Sector]:
        """A tenant's sectors, ordered by code."""
        with self._connections.reading() as connection:
            _get_tenant(connection, tenant)
            return [Sector(*row) for row in connection.execute(sql.SECTORS, {"tenant": tenant}).fetchall()]

    def sector(self, tenant: str, code: int) -> Sector:
        """A sector."""
        with self._connections.reading() as connection:
            return _get_sector(connection, tenant, code)

    def put_sector(self, sector: Sector) -> None:
        """Create a sector, or rename it.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` sectors.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, sector.tenant)
            connection.execute(sql.PUT_SECTOR, vars(sector) | {"name": _name(sector.name)})
            _check_count(connection, sql.COUNT_SECTORS, sector.tenant)

    def delete_sector(self, tenant: str, code: int) -> None:
        """Delete a sector.

        Raises:
            Conflict: devices stand in it.
        """
        with self._connections.writing() as connection:
            _get_sector(connection, tenant, code)
            if _number(connection, sql.IS_OCCUPIED, tenant=tenant, code=code):
                raise Conflict("Devices stand in this sector; assign them to another first.")
            connection.execute(sql.DELETE_SECTOR, {"tenant": tenant, "code": code})

    def devices(self, tenant: str) -> Sequence[Device]:
        """A tenant's devices, ordered by code."""
        with self._connections.reading() as connection:
            _get_tenant(connection, tenant)
            return [Device(*row) for row in connection.execute(sql.DEVICES, {"tenant": tenant}).fetchall()]

    def device(self, tenant: str, code: int) -> Device:
        """A device."""
        with self._connections.reading() as connection:
            return _get_device(connection, tenant, code)

    def put_device(self, device: Device) -> None:
        """Create a device, or rename it and assign it to a sector, which must exist.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` devices.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, device.tenant)
            if device.sector is not None:
                _get_sector(connection, device.tenant, device.sector)
            connection.execute(sql.PUT_DEVICE, vars(device) | {"name": _name(device.name)})
            _check_count(connection, sql.COUNT_DEVICES, device.tenant)

    def delete_device(self, tenant: str, code: int) -> None:
        """Delete a device."""
        with self._connections.writing() as connection:
            _get_device(connection, tenant, code)
            connection.execute(sql.DELETE_DEVICE, {"tenant": tenant, "code": code})


def _name(text: str) -> str:
    try:
        return normal_name(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"The name: {error.message}.") from None


def _get_tenant(connection: Connection, id: str) -> Tenant:
    rows = connection.execute(sql.TENANT, {"id": id}).fetchall()
    if not rows:
        raise NotFound(UNKNOWN_TENANT)
    return _tenant(*rows[0])


def _get_key(connection: Connection, tenant: str, id: str) -> ApiKey:
    rows = connection.execute(sql.KEY, {"id": id}).fetchall()
    if not rows or rows[0][1] != tenant:
        raise NotFound("There is no such key.")
    return _stored_key(*rows[0]).key


def _get_sector(connection: Connection, tenant: str, code: int) -> Sector:
    check_code(code)
    rows = connection.execute(sql.SECTOR, {"tenant": tenant, "code": code}).fetchall()
    if not rows:
        raise NotFound("There is no such sector.")
    return Sector(*rows[0])


def _get_device(connection: Connection, tenant: str, code: int) -> Device:
    check_code(code)
    rows = connection.execute(sql.DEVICE, {"tenant": tenant, "code": code}).fetchall()
    if not rows:
        raise NotFound("There is no such device.")
    return Device(*rows[0])


def _check_count(connection: Connection, statement: str, tenant: str) -> None:
    if _number(connection, statement, tenant=tenant) > MAX_ENTRIES:
        raise Conflict(f"A company can have {MAX_ENTRIES} of these.")


def _number(connection: Connection, statement: str, **parameters: object) -> int:
    return int(connection.execute(statement, parameters).fetchall()[0][0])


def _tenant(id: str, name: str, settings: str, created_at: str) -> Tenant:
    return Tenant(id, name, _settings(settings), datetime.fromisoformat(created_at))


def _settings(text: str) -> TenantSettings:
    return TenantSettings(**json.loads(text))


def _stored_key(id: str, tenant: str, name: str, rights: str, created_at: str, *rest: Any) -> StoredKey:
    requests_per_minute, max_samples, expires_at, revoked_at, salt, hash = rest
    key = ApiKey(
        id,
        tenant,
        name,
        frozenset(Right(right) for right in json.loads(rights)),
        datetime.fromisoformat(created_at),
        requests_per_minute,
        max_samples,
        expires_at and datetime.fromisoformat(expires_at),
        revoked_at and datetime.fromisoformat(revoked_at),
    )
    return StoredKey(key, salt, hash)


def _key_row(stored: StoredKey) -> dict[str, object]:
    key = stored.key
    times = {name: _text(getattr(key, name)) for name in ("created_at", "expires_at", "revoked_at")}
    return vars(key) | times | {"rights": json.dumps(sorted(key.rights)), "salt": stored.salt, "hash": stored.hash}


def _json(settings: TenantSettings) -> str:
    return json.dumps(asdict(settings))


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")
