"""The directory in an SQL database, whichever it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from face_detection.gallery.directory import (
    DEFAULT_TENANT,
    MAX_ENTRIES,
    UNKNOWN_TENANT,
    ApiKey,
    Device,
    Right,
    Sector,
    StoredKey,
    Tenant,
    TenantSettings,
    check_code,
    check_tenant_id,
)
from face_detection.gallery.sql import directory_statements as sql
from face_detection.gallery.sql.database import Connection, Connections
from face_detection.naming import normal_name
from shared.errors import Conflict, InvalidRequest, NotFound


class SQLDirectory:
    """A ``Directory`` in the store's database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def tenants(self) -> Sequence[Tenant]:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            return [_tenant(*row) for row in connection.execute(sql.TENANTS).fetchall()]

    def tenant(self, id: str) -> Tenant:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            return _get_tenant(connection, id)

    def create_tenant(self, id: str, name: str, settings: TenantSettings) -> Tenant:
        """See ``Directory``."""
        check_tenant_id(id)
        name = _name(name)
        tenant = Tenant(id, name, settings, datetime.now(UTC))
        row = {"id": id, "name": name, "settings": _json(settings), "created_at": _text(tenant.created_at)}
        with self._connections.writing() as connection:
            if connection.execute(sql.ADD_TENANT, row).rowcount == 0:
                raise Conflict("There is a company with this code already.")
        return tenant

    def update_tenant(self, id: str, name: str | None = None, settings: Mapping[str, Any] | None = None) -> Tenant:
        """See ``Directory``."""
        name = None if name is None else _name(name)
        with self._connections.writing() as connection:
            old = _get_tenant(connection, id)
            new = replace(old, name=name or old.name, settings=replace(old.settings, **settings or {}))
            connection.execute(sql.UPDATE_TENANT, {"id": id, "name": new.name, "settings": _json(new.settings)})
        return new

    def delete_tenant(self, id: str) -> None:
        """See ``Directory``."""
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
        """See ``Directory``."""
        with self._connections.writing() as connection:
            _get_tenant(connection, stored.key.tenant)
            stored = replace(stored, key=replace(stored.key, name=_name(stored.key.name)))
            connection.execute(sql.ADD_KEY, _key_row(stored))
            _check_count(connection, sql.COUNT_KEYS, stored.key.tenant)

    def keys(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            if tenant is None:
                rows = connection.execute(sql.KEYS).fetchall()
            else:
                _get_tenant(connection, tenant)
                rows = connection.execute(sql.KEYS_OF, {"tenant": tenant}).fetchall()
        return [_stored_key(*row).key for row in rows]

    def find_key(self, id: str) -> StoredKey | None:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            rows = connection.execute(sql.KEY, {"id": id}).fetchall()
        return _stored_key(*rows[0]) if rows else None

    def any_key(self, tenant: str | None = None) -> bool:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            if tenant is None:
                return _number(connection, sql.ANY_KEY) > 0
            return _number(connection, sql.ANY_KEY_OF, tenant=tenant) > 0

    def replace_secret(self, tenant: str, id: str, salt: bytes, hash: bytes) -> ApiKey:
        """See ``Directory``."""
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if key.revoked_at:
                raise Conflict("The key was revoked.")
            connection.execute(sql.REPLACE_SECRET, {"id": id, "salt": salt, "hash": hash})
        return key

    def revoke_key(self, tenant: str, id: str) -> ApiKey:
        """See ``Directory``."""
        with self._connections.writing() as connection:
            key = _get_key(connection, tenant, id)
            if not key.revoked_at:
                key = replace(key, revoked_at=datetime.now(UTC))
                connection.execute(sql.REVOKE, {"id": id, "revoked_at": _text(key.revoked_at)})
        return key

    def sectors(self, tenant: str) -> Sequence[Sector]:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            _get_tenant(connection, tenant)
            return [Sector(*row) for row in connection.execute(sql.SECTORS, {"tenant": tenant}).fetchall()]

    def sector(self, tenant: str, code: int) -> Sector:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            return _get_sector(connection, tenant, code)

    def put_sector(self, sector: Sector) -> None:
        """See ``Directory``."""
        with self._connections.writing() as connection:
            _get_tenant(connection, sector.tenant)
            connection.execute(sql.PUT_SECTOR, vars(sector) | {"name": _name(sector.name)})
            _check_count(connection, sql.COUNT_SECTORS, sector.tenant)

    def delete_sector(self, tenant: str, code: int) -> None:
        """See ``Directory``."""
        with self._connections.writing() as connection:
            _get_sector(connection, tenant, code)
            if _number(connection, sql.IS_OCCUPIED, tenant=tenant, code=code):
                raise Conflict("Devices stand in this sector; assign them to another first.")
            connection.execute(sql.DELETE_SECTOR, {"tenant": tenant, "code": code})

    def devices(self, tenant: str) -> Sequence[Device]:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            _get_tenant(connection, tenant)
            return [Device(*row) for row in connection.execute(sql.DEVICES, {"tenant": tenant}).fetchall()]

    def device(self, tenant: str, code: int) -> Device:
        """See ``Directory``."""
        with self._connections.reading() as connection:
            return _get_device(connection, tenant, code)

    def put_device(self, device: Device) -> None:
        """See ``Directory``."""
        with self._connections.writing() as connection:
            _get_tenant(connection, device.tenant)
            if device.sector is not None:
                _get_sector(connection, device.tenant, device.sector)
            connection.execute(sql.PUT_DEVICE, vars(device) | {"name": _name(device.name)})
            _check_count(connection, sql.COUNT_DEVICES, device.tenant)

    def delete_device(self, tenant: str, code: int) -> None:
        """See ``Directory``."""
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
    return Tenant(id, name, TenantSettings(**json.loads(settings)), datetime.fromisoformat(created_at))


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
