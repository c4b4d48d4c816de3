"""The SQL of the store in PostgreSQL. Whatever varies is a parameter."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

_PERSON = """
    people.id, people.name, people.metadata, people.action,
    (SELECT count(*) FROM samples AS own WHERE own.person = people.key), people.created_at, people.updated_at
"""

_SAMPLE = f"""
    samples.key, samples.number, samples.change, samples.revision, spaces.name, samples.vector, {_PERSON}
"""

_JOINED = "JOIN people ON people.key = samples.person JOIN spaces ON spaces.number = samples.space"

GET = f"SELECT {_PERSON} FROM people WHERE tenant = %(tenant)s AND id = %(id)s"

# Names are compared in the collation "C", in which lower() knows the ASCII letters only.
PAGE = f"""
    SELECT {_PERSON} FROM people WHERE tenant = %(tenant)s AND id > %(after)s AND (
        %(text)s::text IS NULL
        OR strpos(lower(id), lower(%(text)s::text COLLATE "C")) > 0
        OR strpos(lower(name), lower(%(text)s::text COLLATE "C")) > 0
    )
    ORDER BY id LIMIT %(limit)s::bigint
"""

SAMPLES = f"""
    SELECT {_SAMPLE} FROM people JOIN samples ON samples.person = people.key
    JOIN spaces ON spaces.number = samples.space
    WHERE people.tenant = %(tenant)s AND people.id = %(id)s ORDER BY samples.number
"""

BY_KEYS = f"""
    SELECT {_SAMPLE} FROM samples {_JOINED}
    WHERE samples.key = ANY (%(keys)s::bigint[]) AND samples.tenant = %(tenant)s
"""

BY_NUMBERS = f"""
    SELECT {_SAMPLE} FROM samples {_JOINED}
    WHERE samples.tenant = %(tenant)s AND samples.number = ANY (%(numbers)s::bigint[]) ORDER BY samples.number
"""

COUNT = "SELECT count(*) FROM samples WHERE tenant = %(tenant)s AND space IS NOT NULL"

COUNT_SPACE = f"{COUNT} AND space = (SELECT number FROM spaces WHERE name = %(space)s)"

LAST_CHANGE = "SELECT change FROM counter"

IDENTITY = "SELECT id FROM gallery"

# Whoever writes anything holds this row: transactions that write follow each other, and their changes are seen in
# the order of their numbers.
LOCK = "SELECT change FROM counter FOR UPDATE"

COUNT_UP = "UPDATE counter SET change = %(change)s::bigint"

COUNT_UP_TO = "UPDATE counter SET change = greatest(change, %s::bigint)"

GO_ON_AFTER = "SELECT setval(pg_get_serial_sequence(%s, %s), %s::bigint)"

PUT_TENANT = """
    INSERT INTO tenants (id, name, settings, created_at) VALUES (%s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, settings = excluded.settings, created_at = excluded.created_at
"""

LAST = """
    SELECT counter.change,
        coalesce((SELECT max(number) FROM samples WHERE tenant = %(tenant)s), 0),
        coalesce((SELECT max(revision) FROM samples WHERE tenant = %(tenant)s), 0),
        EXISTS (SELECT 1 FROM tenants WHERE id = %(tenant)s)
    FROM counter
"""

CHANGES = """
    SELECT change, tenant, key, spaces.name, vector
    FROM samples LEFT JOIN spaces ON spaces.number = samples.space
    WHERE change > %(since)s::bigint ORDER BY change LIMIT %(limit)s::bigint
"""

FEED = f"""
    SELECT {_SAMPLE} FROM samples LEFT JOIN people ON people.key = samples.person
    LEFT JOIN spaces ON spaces.number = samples.space
    WHERE samples.tenant = %(tenant)s AND samples.revision > %(since)s::bigint
    ORDER BY samples.revision LIMIT %(limit)s::bigint
"""

_PUT_PEOPLE = """
    INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at)
    SELECT %(tenant)s, id, name, metadata, action, %(now)s, %(now)s
    FROM unnest(%(ids)s::text[], %(names)s::text[], %(metadata)s::text[], %(actions)s::text[])
        AS new (id, name, metadata, action)
    ON CONFLICT (tenant, id)
"""

ADD_PEOPLE = f"{_PUT_PEOPLE} DO NOTHING"

UPSERT_PEOPLE = f"""
    {_PUT_PEOPLE} DO UPDATE SET
        name = excluded.name,
        metadata = excluded.metadata,
        action = excluded.action,
        updated_at = excluded.updated_at
"""

DESCRIBE = """
    UPDATE people SET name = %(name)s, metadata = %(metadata)s, action = %(action)s, updated_at = %(now)s
    WHERE tenant = %(tenant)s AND id = %(id)s
"""

TOUCH = """
    UPDATE samples SET change = %(change)s::bigint + own.position, revision = %(revision)s::bigint + own.position
    FROM (
        SELECT samples.key, row_number() OVER (ORDER BY samples.key) AS position
        FROM people JOIN samples ON samples.person = people.key
        WHERE people.tenant = %(tenant)s AND people.id = %(id)s
    ) AS own
    WHERE samples.key = own.key
"""

PERSON_KEY = "SELECT key FROM people WHERE tenant = %(tenant)s AND id = %(id)s"

SAMPLE_KEY = """
    SELECT key, person FROM samples
    WHERE tenant = %(tenant)s AND number = %(number)s::bigint AND space IS NOT NULL
"""

OWNER = """
    SELECT people.id FROM samples JOIN people ON people.key = samples.person
    WHERE samples.tenant = %(tenant)s AND samples.number = %(number)s::bigint
"""

HAS_SAMPLES = "SELECT 1 FROM samples WHERE person = %(person)s::bigint LIMIT 1"

# LATERAL with LIMIT: each id is looked up in the index. As a join, the planner would read the tenant's whole gallery.
_PERSON_OF_ID = """
    CROSS JOIN LATERAL (SELECT key FROM people WHERE tenant = %(tenant)s AND id = wanted.id LIMIT 1) AS person
"""

KEYS_OF_PEOPLE = f"""
    SELECT wanted.id, own.keys
    FROM unnest(%(ids)s::text[]) AS wanted (id) {_PERSON_OF_ID}
    CROSS JOIN LATERAL (
        SELECT array_agg(samples.key ORDER BY samples.key) AS keys FROM samples WHERE samples.person = person.key
    ) AS own
"""

# The keys are counted up in the order of the batch.
INSERT = f"""
    INSERT INTO samples (tenant, number, change, revision, person, space, vector)
    SELECT %(tenant)s, %(number)s::bigint + n, %(change)s::bigint + n, %(revision)s::bigint + n,
        person.key, wanted.space, wanted.vector
    FROM unnest(%(ids)s::text[], %(spaces)s::bigint[], %(vectors)b::bytea[])
        WITH ORDINALITY AS wanted (id, space, vector, n)
    {_PERSON_OF_ID}
    ORDER BY n
"""

CHANGE_VECTORS = """
    UPDATE samples SET
        change = %(change)s::bigint + new.position, revision = %(revision)s::bigint + new.position,
        space = new.space, vector = new.vector
    FROM unnest(%(keys)s::bigint[], %(positions)s::bigint[], %(spaces)s::bigint[], %(vectors)b::bytea[])
        AS new (key, position, space, vector)
    WHERE samples.key = new.key
"""

_BURY = """
    UPDATE samples SET
        change = %(change)s::bigint + doomed.position, revision = %(revision)s::bigint + doomed.position,
        person = NULL, space = NULL, vector = NULL
    FROM
"""

BURY_KEYS = f"""
    {_BURY} unnest(%(keys)s::bigint[], %(positions)s::bigint[]) AS doomed (key, position)
    WHERE samples.key = doomed.key
"""

BURY_PERSON = f"""
    {_BURY} (
        SELECT key, row_number() OVER (ORDER BY key) AS position FROM samples WHERE person = %(person)s::bigint
    ) AS doomed
    WHERE samples.key = doomed.key
"""

BURY_TENANT = f"""
    {_BURY} (
        SELECT key, row_number() OVER (ORDER BY key) AS position FROM samples
        WHERE tenant = %(tenant)s AND space IS NOT NULL
    ) AS doomed
    WHERE samples.key = doomed.key
"""

DELETE_PERSON = "DELETE FROM people WHERE key = %(person)s::bigint"

DELETE_EVENTS = "DELETE FROM events WHERE person = %(person)s::bigint"

CLEAR_PEOPLE = "DELETE FROM people WHERE tenant = %(tenant)s"

CLEAR_EVENTS = "DELETE FROM events WHERE tenant = %(tenant)s AND person IS NOT NULL"

COMPACT = "VACUUM (FULL, ANALYZE) events, samples, people, devices, sectors, keys, tenants, counter"

SPACE = "SELECT number, dimensions FROM spaces WHERE name = %(name)s"

ADD_SPACE = """
    INSERT INTO spaces (name, dimensions) VALUES (%(name)s, %(dimensions)s) RETURNING number, dimensions
"""

TAKE_TURN = "SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))"

END_TURN = "SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))"
