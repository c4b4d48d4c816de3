"""The SQL of the directory, the same for every database."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from face_detection.gallery.sql import answers, history

TENANT = "SELECT id, name, settings, created_at FROM tenants WHERE id = :id"
TENANTS = "SELECT id, name, settings, created_at FROM tenants ORDER BY id"
SETTINGS_AND_POSITION = f"""
    SELECT settings, coalesce(latest.change, 0), coalesce(latest.mark, 0)
    FROM tenants LEFT JOIN ({history.POSITION}) AS latest ON true WHERE id = :id
"""
ADD_TENANT = """
    INSERT INTO tenants (id, name, settings, created_at) VALUES (:id, :name, :settings, :created_at)
    ON CONFLICT DO NOTHING
"""
UPDATE_TENANT = "UPDATE tenants SET name = :name, settings = :settings WHERE id = :id"
HAS_PEOPLE = "SELECT EXISTS (SELECT 1 FROM people WHERE tenant = :tenant)"
HAS_THE_ONLY_KEYS = """
    SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = :tenant)
        AND NOT EXISTS (SELECT 1 FROM keys WHERE tenant <> :tenant)
"""
DELETE_TENANT = (
    *answers.DELETE_OF_TENANT,
    "DELETE FROM events WHERE tenant = :tenant",
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
