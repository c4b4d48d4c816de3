"""The directory of tenants and of what belongs to them, whatever database is behind it."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from face_detection.gallery.collections import tenant_of
from face_detection.gallery.directory import (
    DEFAULT_TENANT,
    MAX_ENTRIES,
    UNKNOWN_TENANT,
    ApiKey,
    Calibration,
    Device,
    Place,
    Right,
    Sector,
    StoredKey,
    Tenant,
    TenantSettings,
    check_code,
    check_tenant_id,
)
from face_detection.gallery.sql import answers
from face_detection.gallery.sql.database import Connection, Connections
from face_detection.gallery.sql.history import POSITION, Position
from face_detection.gallery.sql.statements import OWN_GALLERIES
from face_detection.naming import normal_name
from shared.calibration import Curve
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.models import Metric

TENANT = "SELECT id, name, settings, created_at FROM tenants WHERE id = :id"
TENANTS = "SELECT id, name, settings, created_at FROM tenants ORDER BY id"
SETTINGS_AND_POSITION = f"""
    SELECT settings, coalesce(latest.change, 0), coalesce(latest.mark, 0)
    FROM tenants LEFT JOIN ({POSITION}) AS latest ON true WHERE id = :id
"""
SETTINGS = """
    SELECT id, settings FROM tenants
    UNION ALL SELECT gallery, settings FROM collections JOIN tenants ON tenants.id = collections.tenant
"""
ADD_TENANT = """
    INSERT INTO tenants (id, name, settings, created_at) VALUES (:id, :name, :settings, :created_at)
    ON CONFLICT DO NOTHING
"""
UPDATE_TENANT = "UPDATE tenants SET name = :name, settings = :settings WHERE id = :id"
HAS_PEOPLE = f"SELECT EXISTS (SELECT 1 FROM people WHERE tenant IN ({OWN_GALLERIES}))"
HAS_THE_ONLY_KEYS = """
    SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = :tenant)
        AND NOT EXISTS (SELECT 1 FROM keys WHERE tenant <> :tenant)
"""
DELETE_GALLERY = (*answers.DELETE_OF_TENANT, "DELETE FROM events WHERE tenant = :tenant")
DELETE_TENANT = (
    "DELETE FROM collections WHERE tenant = :tenant",
    "DELETE FROM devices WHERE tenant = :tenant",
    "DELETE FROM sectors WHERE tenant = :tenant",
    "DELETE FROM keys WHERE tenant = :tenant",
    "DELETE FROM tenants WHERE id = :tenant",
)

_KEYS = """
    SELECT id, tenant, name, rights, created_at, requests_per_minute, max_samples, expires_at, revoked_at, salt, hash
    FROM keys
"""
KEY = f"{_KEYS} WHERE id = :id"
KEYS = f"{_KEYS} ORDER BY created_at, id"
KEYS_OF = f"{_KEYS} WHERE tenant = :tenant ORDER BY created_at, id"
ADD_KEY = """
    INSERT INTO keys (
        id, tenant, name, rights, created_at, requests_per_minute, max_samples, expires_at, revoked_at, salt, hash
    ) VALUES (
        :id, :tenant, :name, :rights, :created_at, :requests_per_minute, :max_samples, :expires_at, :revoked_at,
        :salt, :hash
    )
"""
REPLACE_SECRET = "UPDATE keys SET salt = :salt, hash = :hash WHERE id = :id"
REVOKE = "UPDATE keys SET revoked_at = :revoked_at WHERE id = :id"
ANY_KEY = "SELECT EXISTS (SELECT 1 FROM keys)"
ANY_KEY_OF = "SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = :tenant)"
COUNT_KEYS = "SELECT count(*) FROM keys WHERE tenant = :tenant"

SECTORS = "SELECT tenant, code, name FROM sectors WHERE tenant = :tenant ORDER BY code"
SECTOR = "SELECT tenant, code, name FROM sectors WHERE tenant = :tenant AND code = :code"
PUT_SECTOR = """
    INSERT INTO sectors (tenant, code, name) VALUES (:tenant, :code, :name)
    ON CONFLICT (tenant, code) DO UPDATE SET name = excluded.name
"""
IS_OCCUPIED = "SELECT EXISTS (SELECT 1 FROM devices WHERE tenant = :tenant AND sector = :code)"
DELETE_SECTOR = "DELETE FROM sectors WHERE tenant = :tenant AND code = :code"
COUNT_SECTORS = "SELECT count(*) FROM sectors WHERE tenant = :tenant"

DEVICES = "SELECT tenant, code, name, sector FROM devices WHERE tenant = :tenant ORDER BY code"
DEVICE = "SELECT tenant, code, name, sector FROM devices WHERE tenant = :tenant AND code = :code"
PUT_DEVICE = """
    INSERT INTO devices (tenant, code, name, sector) VALUES (:tenant, :code, :name, :sector)
    ON CONFLICT (tenant, code) DO UPDATE SET name = excluded.name, sector = excluded.sector
"""
DELETE_DEVICE = "DELETE FROM devices WHERE tenant = :tenant AND code = :code"
COUNT_DEVICES = "SELECT count(*) FROM devices WHERE tenant = :tenant"

P = TypeVar("P", bound=Place)


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
            return [_tenant(*row) for row in connection.execute(TENANTS).fetchall()]

    def tenant(self, id: str) -> Tenant:
        """A tenant."""
        with self._connections.reading() as connection:
            return _get_tenant(connection, id)

    def settings(self, gallery: str) -> TenantSettings:
        """The settings of whoever has a gallery."""
        return self.tenant(tenant_of(gallery)).settings

    def settings_and_position(self, gallery: str) -> tuple[TenantSettings, Position]:
        """A gallery's settings, and how far the database is (``Store.position``), which every search begins with."""
        with self._connections.reading() as connection:
            rows = connection.execute(SETTINGS_AND_POSITION, {"id": tenant_of(gallery)}).fetchall()
        if not rows:
            raise NotFound(UNKNOWN_TENANT)
        settings, *position = rows[0]
        return _settings(settings), Position(*position)

    def settings_of_galleries(self) -> Mapping[str, TenantSettings]:
        """The settings that hold for each gallery there is."""
        with self._connections.reading() as connection:
            return {gallery: _settings(settings) for gallery, settings in connection.execute(SETTINGS).fetchall()}

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
            if connection.execute(ADD_TENANT, row).rowcount == 0:
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
            new = replace(old, name=name or old.name, settings=old.settings.changed(settings or {}))
            connection.execute(UPDATE_TENANT, {"id": id, "name": new.name, "settings": _json(new.settings)})
        return new

    def delete_tenant(self, id: str) -> None:
        """Delete a tenant with its collections, keys, sectors, devices and events; nothing is stored for it afterwards.

        Raises:
            Conflict: it still has people, it has the installation's only keys, or it is the default one.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, id)
            if id == DEFAULT_TENANT:
                raise Conflict("The default company cannot be deleted.")
            if _number(connection, HAS_PEOPLE, owner=id):
                raise Conflict("The company still has people; delete them first.")
            if _number(connection, HAS_THE_ONLY_KEYS, tenant=id):
                raise Conflict("The company has the only API keys; create one of another company first.")
            for (gallery,) in connection.execute(OWN_GALLERIES, {"owner": id}).fetchall():
                for statement in DELETE_GALLERY:
                    connection.execute(statement, {"tenant": gallery})
            for statement in DELETE_TENANT:
                connection.execute(statement, {"tenant": id})

    def add_key(self, stored: StoredKey) -> None:
        """Keep a new key.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` keys.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, stored.key.tenant)
            stored = replace(stored, key=replace(stored.key, name=_name(stored.key.name)))
            connection.execute(ADD_KEY, _key_row(stored))
            _check_count(connection, COUNT_KEYS, stored.key.tenant)

    def keys(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """The keys of a tenant, or of all; in the order of their creation."""
        with self._connections.reading() as connection:
            if tenant is None:
                rows = connection.execute(KEYS).fetchall()
            else:
                _get_tenant(connection, tenant)
                rows = connection.execute(KEYS_OF, {"tenant": tenant}).fetchall()
        return [_stored_key(*row).key for row in rows]

    def find_key(self, id: str) -> StoredKey | None:
        """The key with this id, of whatever tenant. Costs microseconds; asked at every request."""
        with self._connections.reading() as connection:
            rows = connection.execute(KEY, {"id": id}).fetchall()
        return _stored_key(*rows[0]) if rows else None

    def any_key(self, tenant: str | None = None) -> bool:
        """Whether a tenant, or the installation, has or had a key; False for a tenant that does not exist."""
        with self._connections.reading() as connection:
            if tenant is None:
                return _number(connection, ANY_KEY) > 0
            return _number(connection, ANY_KEY_OF, tenant=tenant) > 0

    def replace_secret(self, tenant: str, id: str, salt: bytes, hash: bytes) -> ApiKey:
        """Give a key another secret; the former one is no longer valid.

        Raises:
            Conflict: the key was revoked.
        """
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if key.revoked_at:
                raise Conflict("The key was revoked.")
            connection.execute(REPLACE_SECRET, {"id": id, "salt": salt, "hash": hash})
        return key

    def revoke_key(self, tenant: str, id: str) -> ApiKey:
        """Revoke a key for good; the time of the first revocation stays."""
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if not key.revoked_at:
                key = replace(key, revoked_at=datetime.now(UTC))
                connection.execute(REVOKE, {"id": id, "revoked_at": _text(key.revoked_at)})
        return key

    def sectors(self, tenant: str) -> Sequence[Sector]:
        """A tenant's sectors, ordered by code."""
        return self._all(Sector, SECTORS, tenant)

    def sector(self, tenant: str, code: int) -> Sector:
        """A sector."""
        with self._connections.reading() as connection:
            return _get_place(connection, Sector, SECTOR, tenant, code)

    def put_sector(self, sector: Sector) -> None:
        """Create a sector, or rename it.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` sectors.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, sector.tenant)
            connection.execute(PUT_SECTOR, vars(sector) | {"name": _name(sector.name)})
            _check_count(connection, COUNT_SECTORS, sector.tenant)

    def delete_sector(self, tenant: str, code: int) -> None:
        """Delete a sector.

        Raises:
            Conflict: devices stand in it.
        """
        with self._connections.writing() as connection:
            _get_place(connection, Sector, SECTOR, tenant, code)
            if _number(connection, IS_OCCUPIED, tenant=tenant, code=code):
                raise Conflict("Devices stand in this sector; assign them to another first.")
            connection.execute(DELETE_SECTOR, {"tenant": tenant, "code": code})

    def devices(self, tenant: str) -> Sequence[Device]:
        """A tenant's devices, ordered by code."""
        return self._all(Device, DEVICES, tenant)

    def device(self, tenant: str, code: int) -> Device:
        """A device."""
        with self._connections.reading() as connection:
            return _get_place(connection, Device, DEVICE, tenant, code)

    def put_device(self, device: Device) -> None:
        """Create a device, or rename it and assign it to a sector, which must exist.

        Raises:
            Conflict: the tenant has ``MAX_ENTRIES`` devices.
        """
        with self._connections.writing() as connection:
            _get_tenant(connection, device.tenant)
            if device.sector is not None:
                _get_place(connection, Sector, SECTOR, device.tenant, device.sector)
            connection.execute(PUT_DEVICE, vars(device) | {"name": _name(device.name)})
            _check_count(connection, COUNT_DEVICES, device.tenant)

    def delete_device(self, tenant: str, code: int) -> None:
        """Delete a device."""
        with self._connections.writing() as connection:
            _get_place(connection, Device, DEVICE, tenant, code)
            connection.execute(DELETE_DEVICE, {"tenant": tenant, "code": code})

    def _all(self, kind: type[P], statement: str, tenant: str) -> list[P]:
        with self._connections.reading() as connection:
            _get_tenant(connection, tenant)
            return [kind(*row) for row in connection.execute(statement, {"tenant": tenant}).fetchall()]


def _name(text: str) -> str:
    try:
        return normal_name(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"The name: {error.message}.") from None


def _get_tenant(connection: Connection, id: str) -> Tenant:
    rows = connection.execute(TENANT, {"id": id}).fetchall()
    if not rows:
        raise NotFound(UNKNOWN_TENANT)
    return _tenant(*rows[0])


def _get_key(connection: Connection, tenant: str, id: str) -> ApiKey:
    rows = connection.execute(KEY, {"id": id}).fetchall()
    if not rows or rows[0][1] != tenant:
        raise NotFound("There is no such key.")
    return _stored_key(*rows[0]).key


def _get_place(connection: Connection, kind: type[P], statement: str, tenant: str, code: int) -> P:
    check_code(code)
    rows = connection.execute(statement, {"tenant": tenant, "code": code}).fetchall()
    if not rows:
        raise NotFound(f"There is no such {kind.__name__.lower()}.")
    return kind(*rows[0])


def _check_count(connection: Connection, statement: str, tenant: str) -> None:
    if _number(connection, statement, tenant=tenant) > MAX_ENTRIES:
        raise Conflict(f"A company can have {MAX_ENTRIES} of these.")


def _number(connection: Connection, statement: str, **parameters: object) -> int:
    return int(connection.execute(statement, parameters).fetchall()[0][0])


def _tenant(id: str, name: str, settings: str, created_at: str) -> Tenant:
    return Tenant(id, name, _settings(settings), datetime.fromisoformat(created_at))


@lru_cache(maxsize=256)  # every search begins with reading them
def _settings(text: str) -> TenantSettings:
    stored = json.loads(text)
    if calibration := stored.get("calibration"):
        curve = Curve.of(calibration["curve"])
        stored["calibration"] = Calibration(calibration["space"], Metric(calibration["metric"]), curve)
    return TenantSettings(**stored)


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
