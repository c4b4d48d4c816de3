"""The SQL of the directory in PostgreSQL. Whatever varies is a parameter."""

from __future__ import annotations

TENANT = "SELECT id, name, settings, created_at FROM tenants WHERE id = %s"
TENANTS = "SELECT id, name, settings, created_at FROM tenants ORDER BY id"
ADD_TENANT = "INSERT INTO tenants (id, name, settings, created_at) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"

UPDATE_TENANT = "UPDATE tenants SET name = %s, settings = %s WHERE id = %s"
HAS_PEOPLE = "SELECT EXISTS (SELECT 1 FROM people WHERE tenant = %s)"
HAS_THE_ONLY_KEYS = """
    SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = %(tenant)s)
        AND NOT EXISTS (SELECT 1 FROM keys WHERE tenant <> %(tenant)s)
"""
DELETE_TENANT = (
    "DELETE FROM events WHERE tenant = %s",
    "DELETE FROM devices WHERE tenant = %s",
    "DELETE FROM sectors WHERE tenant = %s",
    "DELETE FROM keys WHERE tenant = %s",
    "DELETE FROM tenants WHERE id = %s",
)

KEY = """
    SELECT id, tenant, name, rights, created_at, requests_per_minute, max_samples, expires_at, revoked_at, salt, hash
    FROM keys WHERE id = %s
"""
KEYS = """
    SELECT id, tenant, name, rights, created_at, requests_per_minute, max_samples, expires_at, revoked_at, salt, hash
    FROM keys WHERE tenant = coalesce(%s::text, tenant) ORDER BY created_at, id
"""
ADD_KEY = """
    INSERT INTO keys (
        id, tenant, name, rights, created_at, requests_per_minute, max_samples, expires_at, revoked_at, salt, hash
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
REPLACE_SECRET = "UPDATE keys SET salt = %s, hash = %s WHERE id = %s"
REVOKE = "UPDATE keys SET revoked_at = %s WHERE id = %s"
ANY_KEY = "SELECT EXISTS (SELECT 1 FROM keys)"
ANY_KEY_OF = "SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = %s)"
COUNT_KEYS = "SELECT count(*) FROM keys WHERE tenant = %s"

SECTORS = "SELECT tenant, code, name FROM sectors WHERE tenant = %s ORDER BY code"
SECTOR = "SELECT tenant, code, name FROM sectors WHERE tenant = %s AND code = %s"
PUT_SECTOR = """
    INSERT INTO sectors (tenant, code, name) VALUES (%s, %s, %s)
    ON CONFLICT (tenant, code) DO UPDATE SET name = excluded.name
"""
IS_OCCUPIED = "SELECT EXISTS (SELECT 1 FROM devices WHERE tenant = %s AND sector = %s)"
DELETE_SECTOR = "DELETE FROM sectors WHERE tenant = %s AND code = %s"
COUNT_SECTORS = "SELECT count(*) FROM sectors WHERE tenant = %s"

DEVICES = "SELECT tenant, code, name, sector FROM devices WHERE tenant = %s ORDER BY code"
DEVICE = "SELECT tenant, code, name, sector FROM devices WHERE tenant = %s AND code = %s"
PUT_DEVICE = """
    INSERT INTO devices (tenant, code, name, sector) VALUES (%s, %s, %s, %s)
    ON CONFLICT (tenant, code) DO UPDATE SET name = excluded.name, sector = excluded.sector
"""
DELETE_DEVICE = "DELETE FROM devices WHERE tenant = %s AND code = %s"
COUNT_DEVICES = "SELECT count(*) FROM devices WHERE tenant = %s"
