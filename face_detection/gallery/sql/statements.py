"""The SQL of the store. Whatever varies is a parameter."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from collections.abc import Mapping, Sequence

from face_detection.gallery.sql.database import Kind, Wordings

# Tables are joined in this order by SQLite, which CROSS JOIN tells to, and in whichever is best by PostgreSQL.

# What ``listed`` lists. PostgreSQL is told how many there are: expecting a hundred, it may read all samples.
_LISTED = "(SELECT key, value FROM json_each(:listed) LIMIT :count)"

_PERSON = """
    people.id, people.name, people.metadata, people.action,
    (SELECT count(*) FROM samples AS own WHERE own.person = people.key), people.created_at, people.updated_at
"""

_SAMPLE = f"""
    samples.key, samples.number, samples.change, samples.revision, spaces.name, samples.vector, {_PERSON}
"""

GET = f"SELECT {_PERSON} FROM people WHERE tenant = :tenant AND id = :id"

# The function that looks for a text in another has two names.
_PLACES: Mapping[Kind, str] = {"sqlite": "instr", "postgres": "strpos"}

_HAS_FRAGMENTS: Wordings = {
    kind: f"""
        NOT EXISTS (SELECT 1 FROM json_each(:listed) AS fragment WHERE {place}(people.metadata, fragment.key) = 0)
    """
    for kind, place in _PLACES.items()
}

PAGE: Wordings = {
    kind: f"""
        SELECT {_PERSON} FROM people WHERE tenant = :tenant AND id > :after AND {has_fragments}
        ORDER BY id LIMIT CAST(:limit AS BIGINT)
    """
    for kind, has_fragments in _HAS_FRAGMENTS.items()
}

PAGE_OF_TEXT: Wordings = {
    # Reads an index alone until it has found somebody. PostgreSQL's has no room for a name of the greatest length.
    "sqlite": f"""
        SELECT {_PERSON}
        FROM (
            SELECT key, id FROM people INDEXED BY people_search
            WHERE tenant = :tenant AND id > :after AND instr(search, :text)
        ) AS found CROSS JOIN people
        WHERE people.key = found.key AND {_HAS_FRAGMENTS["sqlite"]} ORDER BY found.id LIMIT CAST(:limit AS BIGINT)
    """,
    "postgres": f"""
        SELECT {_PERSON} FROM people
        WHERE tenant = :tenant AND id > :after AND strpos(search, :text) > 0 AND {_HAS_FRAGMENTS["postgres"]}
        ORDER BY id LIMIT CAST(:limit AS BIGINT)
    """,
}

SAMPLES = f"""
    SELECT {_SAMPLE} FROM people CROSS JOIN samples CROSS JOIN spaces
    WHERE people.tenant = :tenant AND people.id = :id AND samples.person = people.key
        AND samples.number > CAST(:after AS BIGINT) AND spaces.number = samples.space
    ORDER BY samples.number LIMIT CAST(:limit AS BIGINT)
"""

_JOINED = """
    samples CROSS JOIN people CROSS JOIN spaces
    WHERE samples.tenant = :tenant AND people.key = samples.person AND spaces.number = samples.space
"""

BY_NUMBER = f"SELECT {_SAMPLE} FROM {_JOINED} AND samples.number = CAST(:number AS BIGINT)"

AFTER_NUMBER = f"""
    SELECT {_SAMPLE} FROM {_JOINED} AND samples.number > CAST(:after AS BIGINT)
    ORDER BY samples.number LIMIT CAST(:limit AS BIGINT)
"""

BY_NUMBERS = f"""
    SELECT {_SAMPLE} FROM {_LISTED} AS wanted CROSS JOIN {_JOINED} AND samples.number = CAST(wanted.key AS BIGINT)
"""

# Every recognition waits for these. An array is taken apart quicker than an object, and PostgreSQL plans for what is in
# it: braces make an array of its own of one in JSON.
BY_KEYS: Wordings = {
    "sqlite": f"""
        SELECT {_SAMPLE} FROM json_each(:keys) AS wanted CROSS JOIN {_JOINED} AND samples.key = wanted.value
    """,
    "postgres": f"""
        SELECT {_SAMPLE} FROM {_JOINED} AND samples.key = ANY (CAST(translate(:keys, '[]', '{{}}') AS BIGINT[]))
    """,
}

COUNT = "SELECT count(*) FROM samples WHERE tenant = :tenant AND space IS NOT NULL"

COUNT_SPACE = f"{COUNT} AND space = (SELECT number FROM spaces WHERE name = :space)"

# PostgreSQL finds these in the index of samples, for which it would not take an OR.
OWN_GALLERIES = """
    SELECT CAST(:owner AS TEXT) UNION ALL SELECT gallery FROM collections WHERE collections.tenant = :owner
"""

# The quota of a key is the tenant's, whatever collections the samples are in.
COUNT_OF_OWNER = f"""
    SELECT count(*) FROM samples
    WHERE space = (SELECT number FROM spaces WHERE name = :space) AND space IS NOT NULL
        AND tenant IN ({OWN_GALLERIES})
"""

# A tenant's default collection is the gallery of its id, see ``gallery.collections``.
GALLERY_EXISTS = """
    (
        EXISTS (SELECT 1 FROM tenants WHERE id = :tenant)
        OR EXISTS (SELECT 1 FROM collections WHERE gallery = :tenant)
    )
"""

GALLERIES = "(SELECT id AS gallery, id AS tenant FROM tenants UNION ALL SELECT gallery, tenant FROM collections)"

# By the other spaces, in whose samples nobody is looked for where all are of one space.
PEOPLE_WITHOUT = f"""
    SELECT galleries.tenant, count(DISTINCT samples.person)
    FROM {GALLERIES} AS galleries CROSS JOIN spaces CROSS JOIN samples
    WHERE samples.tenant = galleries.gallery AND samples.space = spaces.number AND samples.space IS NOT NULL
        AND spaces.name <> :space AND (CAST(:tenant AS TEXT) IS NULL OR galleries.tenant = :tenant)
        AND NOT EXISTS (
            SELECT 1 FROM samples AS own
            WHERE own.person = samples.person AND own.space = (SELECT number FROM spaces WHERE name = :space)
        )
    GROUP BY galleries.tenant
"""

IDENTITY = "SELECT id FROM gallery"

LAST_CHANGE: Wordings = {
    "sqlite": "SELECT coalesce(max(change), 0) FROM samples",
    # The row that writers lock: the end of an index has the changes that later ones have superseded.
    "postgres": "SELECT change FROM counter",
}

COUNT_UP: Mapping[Kind, Sequence[str]] = {
    "sqlite": (),
    "postgres": ("UPDATE counter SET change = greatest(change, CAST(:change AS BIGINT))",),
}

LAST_REVISION = "SELECT coalesce(max(revision), 0) FROM samples WHERE tenant = :tenant"

LAST: Wordings = {
    kind: f"""
        SELECT ({last_change}),
            (SELECT coalesce(max(number), 0) FROM samples WHERE tenant = :tenant),
            ({LAST_REVISION}),
            {GALLERY_EXISTS}
    """
    for kind, last_change in LAST_CHANGE.items()
}

CHANGES = """
    SELECT change, tenant, key, spaces.name, vector
    FROM samples LEFT JOIN spaces ON spaces.number = samples.space
    WHERE change > CAST(:since AS BIGINT) AND (space IS NOT NULL OR change > CAST(:begun AS BIGINT))
    ORDER BY change LIMIT CAST(:limit AS BIGINT)
"""

FEED = f"""
    SELECT {_SAMPLE} FROM samples LEFT JOIN people ON people.key = samples.person
    LEFT JOIN spaces ON spaces.number = samples.space
    WHERE samples.tenant = :tenant AND samples.revision > CAST(:since AS BIGINT)
    ORDER BY samples.revision LIMIT CAST(:limit AS BIGINT)
"""

_PUT_PERSON: Wordings = {
    "sqlite": """
        INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at, search)
        VALUES (
            :tenant, :id, :name, :metadata, :action, coalesce(:created_at, :now), coalesce(:updated_at, :now), :search
        )
        ON CONFLICT (tenant, id)
    """,
    "postgres": """
        INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at, search)
        SELECT :tenant, id, name, metadata, action, coalesce(created_at, :now), coalesce(updated_at, :now), search
        FROM unnest(
            CAST(:id AS TEXT[]), CAST(:name AS TEXT[]), CAST(:metadata AS TEXT[]), CAST(:action AS TEXT[]),
            CAST(:created_at AS TEXT[]), CAST(:updated_at AS TEXT[]), CAST(:search AS TEXT[])
        ) AS new (id, name, metadata, action, created_at, updated_at, search)
        ON CONFLICT (tenant, id)
    """,
}

ADD_PEOPLE: Wordings = {kind: f"{put} DO NOTHING" for kind, put in _PUT_PERSON.items()}

# The time of creation stays where the batch has none: SQLite sees it in the row, PostgreSQL is told whose it has.
_CREATED_AT: Wordings = {
    "sqlite": "coalesce(:created_at, people.created_at)",
    "postgres": """
        CASE WHEN excluded.id = ANY (CAST(:dated AS TEXT[])) THEN excluded.created_at ELSE people.created_at END
    """,
}

UPSERT_PEOPLE: Wordings = {
    kind: f"""
        {put} DO UPDATE SET
            name = excluded.name,
            metadata = excluded.metadata,
            action = excluded.action,
            created_at = {_CREATED_AT[kind]},
            updated_at = excluded.updated_at,
            search = excluded.search
    """
    for kind, put in _PUT_PERSON.items()
}

DESCRIBE = """
    UPDATE people SET
        name = coalesce(:name, name),
        metadata = coalesce(:metadata, metadata),
        action = CASE WHEN :keeps_action THEN action ELSE :action END,
        updated_at = :now,
        search = coalesce(:search, search)
    WHERE tenant = :tenant AND id = :id
"""

_CHANGE = "UPDATE samples SET change = :change + changed.position, revision = :revision + changed.position"

_KEYS = f"""
    (
        SELECT CAST(key AS BIGINT) AS key, CAST(CAST(value AS TEXT) AS BIGINT) AS position FROM {_LISTED} AS listed
    ) AS changed
"""

TOUCH = f"""
    {_CHANGE} FROM (
        SELECT samples.key, row_number() OVER (ORDER BY samples.key) AS position
        FROM people CROSS JOIN samples
        WHERE people.tenant = :tenant AND people.id = :id AND samples.person = people.key
    ) AS changed
    WHERE samples.key = changed.key
"""

TOUCH_KEYS = f"{_CHANGE} FROM {_KEYS} WHERE samples.key = changed.key"

_BURY = f"{_CHANGE}, person = NULL, space = NULL, vector = NULL"

BURY_KEYS = f"{_BURY} FROM {_KEYS} WHERE samples.key = changed.key"

BURY_PERSON = f"""
    {_BURY} FROM (
        SELECT key, row_number() OVER (ORDER BY key) AS position FROM samples WHERE person = :person
    ) AS changed
    WHERE samples.key = changed.key
"""

BURY_TENANT = f"""
    {_BURY} FROM (
        SELECT key, row_number() OVER (ORDER BY key) AS position FROM samples
        WHERE tenant = :tenant AND space IS NOT NULL
    ) AS changed
    WHERE samples.key = changed.key
"""

CHANGE_VECTORS: Wordings = {
    "sqlite": """
        UPDATE samples SET
            change = :change + :position, revision = :revision + :position, space = :space, vector = :vector
        WHERE key = :key
    """,
    "postgres": f"""
        {_CHANGE}, space = changed.space, vector = changed.vector
        FROM unnest(
            CAST(:key AS BIGINT[]), CAST(:space AS BIGINT[]), CAST(:vector AS BYTEA[]), CAST(:position AS BIGINT[])
        ) AS changed (key, space, vector, position)
        WHERE samples.key = changed.key
    """,
}

COPY_SAMPLE = """
    INSERT INTO samples (tenant, number, change, revision, person, space, vector)
    SELECT tenant, :number, CAST(:change AS BIGINT) + 1, CAST(:revision AS BIGINT) + 1, person, space, vector
    FROM samples WHERE key = :key
"""

PERSON_KEY = "SELECT key FROM people WHERE tenant = :tenant AND id = :id"

SAMPLE_KEY = """
    SELECT key, person, space FROM samples
    WHERE tenant = :tenant AND number = CAST(:number AS BIGINT) AND space IS NOT NULL
"""

OWNER = """
    SELECT people.id FROM samples JOIN people ON people.key = samples.person
    WHERE samples.tenant = :tenant AND samples.number = :number
"""

HAS_SAMPLES = "SELECT 1 FROM samples WHERE person = :person LIMIT 1"

# A subquery finds each id in the index. Of a join, PostgreSQL would read the tenant's whole gallery.
SAMPLES_OF_PEOPLE = f"""
    SELECT wanted.key, samples.space, samples.key FROM {_LISTED} AS wanted CROSS JOIN samples
    WHERE samples.person = (SELECT people.key FROM people WHERE people.tenant = :tenant AND people.id = wanted.key)
    ORDER BY samples.key
"""

INSERT: Wordings = {
    "sqlite": """
        INSERT INTO samples (tenant, number, change, revision, person, space, vector)
        VALUES (
            :tenant, :number + :position, :change + :position, :revision + :position,
            (SELECT key FROM people WHERE tenant = :tenant AND id = :id), :space, :vector
        )
    """,
    # The keys are counted up in the order of the batch.
    "postgres": """
        INSERT INTO samples (tenant, number, change, revision, person, space, vector)
        SELECT :tenant, :number + position, :change + position, :revision + position,
            (SELECT key FROM people WHERE tenant = :tenant AND people.id = new.id), space, vector
        FROM unnest(
            CAST(:id AS TEXT[]), CAST(:space AS BIGINT[]), CAST(:vector AS BYTEA[]), CAST(:position AS BIGINT[])
        ) AS new (id, space, vector, position)
        ORDER BY position
    """,
}

DELETE_PERSON = "DELETE FROM people WHERE key = :person"

DELETE_EVENTS = "DELETE FROM events WHERE person = :person"

CLEAR_PEOPLE = "DELETE FROM people WHERE tenant = :tenant"

CLEAR_EVENTS = "DELETE FROM events WHERE tenant = :tenant AND person IS NOT NULL"

SPACE = "SELECT number, dimensions FROM spaces WHERE name = :name"

ADD_SPACE = "INSERT INTO spaces (name, dimensions) VALUES (:name, :dimensions) RETURNING number, dimensions"
