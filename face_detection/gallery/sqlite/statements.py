"""The SQL of the store in SQLite. Whatever varies is a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

_PERSON = """
    people.id, people.name, metadata, action,
    (SELECT count(*) FROM samples AS own WHERE own.person = people.key), created_at, updated_at
"""

_SAMPLE = f"samples.key, samples.number, change, revision, spaces.name, vector, {_PERSON}"

_JOINED = "JOIN people ON people.key = samples.person JOIN spaces ON spaces.number = samples.space"

GET = f"SELECT {_PERSON} FROM people WHERE tenant = ? AND id = ?"

_HAS_FRAGMENTS = """
    NOT EXISTS (SELECT 1 FROM json_each(:fragments) AS fragment WHERE instr(metadata, fragment.value) = 0)
"""

PAGE = f"""
    SELECT {_PERSON} FROM people WHERE tenant = :tenant AND id > :after AND {_HAS_FRAGMENTS}
    ORDER BY id LIMIT :limit
"""

# A search reads the index alone until it has found somebody.
PAGE_OF_TEXT = f"""
    SELECT {_PERSON}
    FROM (
        SELECT key, id FROM people INDEXED BY people_search
        WHERE tenant = :tenant AND id > :after AND instr(search, :text)
    ) AS found CROSS JOIN people ON people.key = found.key
    WHERE {_HAS_FRAGMENTS} ORDER BY found.id LIMIT :limit
"""

SAMPLES = f"""
    SELECT {_SAMPLE} FROM people CROSS JOIN samples ON samples.person = people.key
    JOIN spaces ON spaces.number = samples.space
    WHERE people.tenant = ? AND people.id = ? AND samples.number > ? ORDER BY samples.number LIMIT ?
"""

# CROSS JOIN keeps SQLite from reading the whole tenant to find a few samples.
BY_KEYS = f"""
    SELECT {_SAMPLE} FROM json_each(?) AS wanted CROSS JOIN samples ON samples.key = wanted.value
    {_JOINED} WHERE samples.tenant = ?
"""

BY_NUMBERS = f"""
    SELECT {_SAMPLE} FROM json_each(?) AS wanted CROSS JOIN samples ON samples.number = wanted.value
    {_JOINED} WHERE samples.tenant = ?
"""

COUNT = "SELECT count(*) FROM samples WHERE tenant = ? AND space IS NOT NULL"

COUNT_SPACE = """
    SELECT count(*) FROM samples
    WHERE tenant = ? AND space IS NOT NULL AND space = (SELECT number FROM spaces WHERE name = ?)
"""

# By the other spaces, in whose samples nobody is looked for where all are of one space.
PEOPLE_WITHOUT = """
    SELECT tenants.id, count(DISTINCT samples.person)
    FROM tenants CROSS JOIN spaces CROSS JOIN samples ON samples.tenant = tenants.id AND samples.space = spaces.number
    WHERE samples.space IS NOT NULL AND spaces.name <> :space AND (:tenant IS NULL OR tenants.id = :tenant)
        AND NOT EXISTS (
            SELECT 1 FROM samples AS own
            WHERE own.person = samples.person AND own.space = (SELECT number FROM spaces WHERE name = :space)
        )
    GROUP BY tenants.id
"""

LAST_CHANGE = "SELECT coalesce(max(change), 0) FROM samples"

IDENTITY = "SELECT id FROM gallery"

HAS_TENANT = "SELECT EXISTS (SELECT 1 FROM tenants WHERE id = ?)"

LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM samples WHERE tenant = ?"

LAST_REVISION = "SELECT coalesce(max(revision), 0) FROM samples WHERE tenant = ?"

CHANGES = """
    SELECT change, tenant, key, spaces.name, vector
    FROM samples LEFT JOIN spaces ON spaces.number = samples.space
    WHERE change > :since AND (space IS NOT NULL OR change > :begun) ORDER BY change LIMIT :limit
"""

FEED = f"""
    SELECT {_SAMPLE} FROM samples LEFT JOIN people ON people.key = samples.person
    LEFT JOIN spaces ON spaces.number = samples.space
    WHERE samples.tenant = ? AND revision > ? ORDER BY revision LIMIT ?
"""

ADD_PERSON = """
    INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at, search)
    VALUES (:tenant, :id, :name, :metadata, :action, coalesce(:created_at, :now), coalesce(:updated_at, :now), :search)
    ON CONFLICT (tenant, id) DO NOTHING
"""

UPSERT_PERSON = """
    INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at, search)
    VALUES (:tenant, :id, :name, :metadata, :action, coalesce(:created_at, :now), coalesce(:updated_at, :now), :search)
    ON CONFLICT (tenant, id) DO UPDATE SET
        name = excluded.name,
        metadata = excluded.metadata,
        action = excluded.action,
        created_at = coalesce(:created_at, people.created_at),
        updated_at = excluded.updated_at,
        search = excluded.search
"""

DESCRIBE = """
    UPDATE people SET
        name = coalesce(:name, name),
        metadata = coalesce(:metadata, metadata),
        action = CASE WHEN :keeps_action THEN action ELSE :action END,
        updated_at = :now,
        search = coalesce(:search, search)
    WHERE tenant = :tenant AND id = :id
"""

TOUCH = """
    UPDATE samples SET change = :change + own.position, revision = :revision + own.position
    FROM (
        SELECT samples.key, row_number() OVER (ORDER BY samples.key) AS position
        FROM people CROSS JOIN samples ON samples.person = people.key
        WHERE people.tenant = :tenant AND people.id = :id
    ) AS own
    WHERE samples.key = own.key
"""

PERSON_KEY = "SELECT key FROM people WHERE tenant = ? AND id = ?"

SAMPLE_KEY = "SELECT key, person, space FROM samples WHERE tenant = ? AND number = ? AND space IS NOT NULL"

OWNER = """
    SELECT people.id FROM samples JOIN people ON people.key = samples.person
    WHERE samples.tenant = ? AND samples.number = ?
"""

HAS_SAMPLES = "SELECT 1 FROM samples WHERE person = ? LIMIT 1"

SAMPLES_OF_PEOPLE = """
    SELECT people.id, samples.space, samples.key
    FROM json_each(?) AS wanted CROSS JOIN people ON people.id = wanted.value
    CROSS JOIN samples ON samples.person = people.key
    WHERE people.tenant = ? ORDER BY samples.key
"""

INSERT = """
    INSERT INTO samples (tenant, number, change, revision, person, space, vector)
    VALUES (?, ?, ?, ?, (SELECT key FROM people WHERE tenant = ? AND id = ?), ?, ?)
"""

CHANGE_VECTOR = """
    UPDATE samples SET change = :change, revision = :revision, space = :space, vector = :vector WHERE key = :key
"""

TOUCH_SAMPLE = "UPDATE samples SET change = :change, revision = :revision WHERE key = :key"

COPY_SAMPLE = """
    INSERT INTO samples (tenant, number, change, revision, person, space, vector)
    SELECT tenant, :number, :change, :revision, person, space, vector FROM samples WHERE key = :key
"""

Which = Literal["one", "person", "tenant"]

_BURY = """
    UPDATE samples SET
        change = :change + doomed.position, revision = :revision + doomed.position,
        person = NULL, space = NULL, vector = NULL
    FROM (SELECT key, row_number() OVER (ORDER BY key) AS position FROM samples WHERE {which}) AS doomed
    WHERE samples.key = doomed.key
"""

BURY: Mapping[Which, str] = {
    "one": _BURY.format(which="key = :key"),
    "person": _BURY.format(which="person = :person"),
    "tenant": _BURY.format(which="tenant = :tenant AND space IS NOT NULL"),
}
"""Turning samples into tombstones: one, all of a person, all of a tenant."""

DELETE_PERSON = "DELETE FROM people WHERE key = ?"

DELETE_EVENTS = "DELETE FROM events WHERE person = ?"

CLEAR_PEOPLE = "DELETE FROM people WHERE tenant = ?"

CLEAR_EVENTS = "DELETE FROM events WHERE tenant = ? AND person IS NOT NULL"

ADD_SPACE = "INSERT OR IGNORE INTO spaces (name, dimensions) VALUES (?, ?)"

SPACE = "SELECT number, dimensions FROM spaces WHERE name = ?"
