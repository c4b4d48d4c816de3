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

PAGE = f"""
    SELECT {_PERSON} FROM people WHERE tenant = %(tenant)s AND id > %(after)s
        AND (%(text)s::text IS NULL OR strpos(search, %(text)s::text) > 0)
        AND NOT EXISTS (SELECT 1 FROM unnest(%(fragments)s::text[]) AS fragment WHERE strpos(metadata, fragment) = 0)
    ORDER BY id LIMIT %(limit)s::bigint
"""

SAMPLES = f"""
    SELECT {_SAMPLE} FROM people JOIN samples ON samples.person = people.key
    JOIN spaces ON spaces.number = samples.space
    WHERE people.tenant = %(tenant)s AND people.id = %(id)s AND samples.number > %(after)s::bigint
    ORDER BY samples.number LIMIT %(limit)s::bigint
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

PEOPLE_WITHOUT = """
    SELECT samples.tenant, count(DISTINCT samples.person)
    FROM spaces JOIN samples ON samples.space = spaces.number
    WHERE samples.space IS NOT NULL AND spaces.name <> %(space)s
        AND (%(tenant)s::text IS NULL OR samples.tenant = %(tenant)s)
        AND NOT EXISTS (
            SELECT 1 FROM samples AS own
            WHERE own.person = samples.person AND own.space = (SELECT number FROM spaces WHERE name = %(space)s)
        )
    GROUP BY samples.tenant
"""

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

LAST_REVISION = "SELECT coalesce(max(revision), 0) FROM samples WHERE tenant = %(tenant)s"

CHANGES = """
    SELECT change, tenant, key, spaces.name, vector
    FROM samples LEFT JOIN spaces ON spaces.number = samples.space
    WHERE change > %(since)s::bigint AND (space IS NOT NULL OR change > %(begun)s::bigint)
    ORDER BY change LIMIT %(limit)s::bigint
"""

FEED = f"""
    SELECT {_SAMPLE} FROM samples LEFT JOIN people ON people.key = samples.person
    LEFT JOIN spaces ON spaces.number = samples.space
    WHERE samples.tenant = %(tenant)s AND samples.revision > %(since)s::bigint
    ORDER BY samples.revision LIMIT %(limit)s::bigint
"""

_PUT_PEOPLE = """
    INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at, search)
    SELECT %(tenant)s, id, name, metadata, action, coalesce(created_at, %(now)s), coalesce(updated_at, %(now)s), search
    FROM unnest(
        %(ids)s::text[], %(names)s::text[], %(metadata)s::text[], %(actions)s::text[],
        %(created)s::text[], %(updated)s::text[], %(searches)s::text[]
    ) AS new (id, name, metadata, action, created_at, updated_at, search)
    ON CONFLICT (tenant, id)
"""

ADD_PEOPLE = f"{_PUT_PEOPLE} DO NOTHING"

UPSERT_PEOPLE = f"""
    {_PUT_PEOPLE} DO UPDATE SET
        name = excluded.name,
        metadata = excluded.metadata,
        action = excluded.action,
        created_at = CASE
            WHEN excluded.id = ANY (%(dated)s::text[]) THEN excluded.created_at ELSE people.created_at
        END,
        updated_at = excluded.updated_at,
        search = excluded.search
"""

DESCRIBE = """
    UPDATE people SET
        name = coalesce(%(name)s, name),
        metadata = coalesce(%(metadata)s, metadata),
        action = CASE WHEN %(keeps_action)s::boolean THEN action ELSE %(action)s END,
        updated_at = %(now)s,
        search = coalesce(%(search)s, search)
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

TOUCH_KEYS = """
    UPDATE samples SET change = %(change)s::bigint + own.position, revision = %(revision)s::bigint + own.position
    FROM unnest(%(keys)s::bigint[]) WITH ORDINALITY AS own (key, position)
    WHERE samples.key = own.key
"""

COPY_SAMPLE = """
    INSERT INTO samples (tenant, number, change, revision, person, space, vector)
    SELECT tenant, %(number)s::bigint, %(change)s::bigint + 1, %(revision)s::bigint + 1, person, space, vector
    FROM samples WHERE key = %(key)s::bigint
"""

PERSON_KEY = "SELECT key FROM people WHERE tenant = %(tenant)s AND id = %(id)s"

SAMPLE_KEY = """
    SELECT key, person, space FROM samples
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

SAMPLES_OF_PEOPLE = f"""
    SELECT wanted.id, samples.space, samples.key
    FROM unnest(%(ids)s::text[]) AS wanted (id) {_PERSON_OF_ID}
    JOIN samples ON samples.person = person.key
    ORDER BY samples.key
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
    FROM unnest(%(keys)s::bigint[], %(spaces)s::bigint[], %(vectors)b::bytea[])
        WITH ORDINALITY AS new (key, space, vector, position)
    WHERE samples.key = new.key
"""

_BURY = """
    UPDATE samples SET
        change = %(change)s::bigint + doomed.position, revision = %(revision)s::bigint + doomed.position,
        person = NULL, space = NULL, vector = NULL
    FROM
"""

BURY_KEYS = f"""
    {_BURY} unnest(%(keys)s::bigint[]) WITH ORDINALITY AS doomed (key, position)
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

COMPACT = (
    "VACUUM (FULL, ANALYZE) answers_about, answers, events, samples, people, devices, sectors, keys, tenants, "
    "last_numbers, horizons, marks, counter"
)

SPACE = "SELECT number, dimensions FROM spaces WHERE name = %(name)s"

ADD_SPACE = """
    INSERT INTO spaces (name, dimensions) VALUES (%(name)s, %(dimensions)s) RETURNING number, dimensions
"""

TAKE_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))"

RELEASE_LOCK = "SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))"
