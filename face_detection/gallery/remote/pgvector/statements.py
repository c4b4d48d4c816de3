"""The SQL of the index in pgvector, and vectors in PostgreSQL's binary format.

An index of vectors is one table for each generation, of which one is published. Tables and indexes are named after
the index, the generation and a hash of the tenant; whatever else varies is a parameter.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg.sql import SQL, Composed, Identifier, Literal

CREATE_CATALOGUE = """
    CREATE TABLE IF NOT EXISTS vector_indexes (
        generation text COLLATE "C" PRIMARY KEY,
        name text COLLATE "C" NOT NULL,
        published boolean NOT NULL,
        position bigint NOT NULL
    );
    CREATE UNIQUE INDEX IF NOT EXISTS vector_indexes_published ON vector_indexes (name) WHERE published;
    CREATE TABLE IF NOT EXISTS vector_tenants (
        generation text COLLATE "C" NOT NULL REFERENCES vector_indexes ON DELETE CASCADE,
        tenant text COLLATE "C" NOT NULL,
        samples bigint NOT NULL,
        PRIMARY KEY (generation, tenant)
    );
    CREATE TABLE IF NOT EXISTS vector_removals (
        generation text COLLATE "C" PRIMARY KEY REFERENCES vector_indexes ON DELETE CASCADE,
        position bigint NOT NULL
    );
"""

# A row whose table is gone is an index that was lost.
_HAS_TABLE = "to_regclass('vectors_' || name || '_' || generation) IS NOT NULL"

PUBLISHED = f"SELECT generation, position FROM vector_indexes WHERE name = %s AND published AND {_HAS_TABLE}"  # noqa: S608

UNPUBLISHED = f"SELECT generation, position FROM vector_indexes WHERE generation = %s AND {_HAS_TABLE}"  # noqa: S608

# Whoever applies changes holds the row: they follow each other.
LOCK_PUBLISHED = f"{PUBLISHED} FOR UPDATE"

LOCK_UNPUBLISHED = f"{UNPUBLISHED} FOR UPDATE"

ADD = "INSERT INTO vector_indexes (generation, name, published, position) VALUES (%s, %s, %s, 0)"

ADVANCE = "UPDATE vector_indexes SET position = %s WHERE generation = %s"

REMOVE_PUBLISHED = "DELETE FROM vector_indexes WHERE name = %s AND published"

REMOVE_UNPUBLISHED = "DELETE FROM vector_indexes WHERE name = %s AND NOT published"

REMOVE = "DELETE FROM vector_indexes WHERE generation = %s AND NOT published"

PUBLISH = "UPDATE vector_indexes SET published = true WHERE generation = %s"

ORPHANS = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND pg_table_is_visible(pg_class.oid) AND starts_with(relname, 'vectors_' || %(name)s || '_')
        AND NOT EXISTS (
            SELECT FROM vector_indexes WHERE name = %(name)s AND relname = 'vectors_' || name || '_' || generation
        )
"""
"""Tables of generations that are no longer in the catalogue."""

STATES = """
    WITH tables AS (
        SELECT relname, split_part(relname, '_', 2) AS name, split_part(relname, '_', 3) AS generation FROM pg_class
        WHERE relkind = 'r' AND pg_table_is_visible(pg_class.oid) AND starts_with(relname, 'vectors_' || %s)
    )
    SELECT name, max(greatest(indexes.position, removals.position)) FILTER (WHERE published),
        bool_or(published IS NOT TRUE)
    FROM tables LEFT JOIN vector_indexes AS indexes USING (name, generation)
        LEFT JOIN vector_removals AS removals USING (generation)
    GROUP BY name
"""
"""The indexes of a gallery by what they are called, as in ``IndexState``."""

RECORD_REMOVALS = """
    INSERT INTO vector_removals (generation, position) VALUES (%s, %s)
    ON CONFLICT (generation) DO UPDATE SET position = greatest(vector_removals.position, excluded.position)
"""

BEGIN = """
    INSERT INTO vector_removals (generation, position)
    SELECT generation, %(position)s FROM vector_indexes WHERE generation = %(generation)s AND position = 0 FOR UPDATE
    ON CONFLICT (generation) DO NOTHING
"""

REACHED = """
    SELECT greatest(indexes.position, removals.position)
    FROM vector_indexes AS indexes LEFT JOIN vector_removals AS removals USING (generation) WHERE generation = %s
"""

TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND pg_table_is_visible(pg_class.oid) AND starts_with(relname, 'vectors_' || %s || '_')
"""

REMOVE_ALL = "DELETE FROM vector_indexes WHERE name = %s"

COUNT = """
    INSERT INTO vector_tenants (generation, tenant, samples)
    SELECT %(generation)s, tenant, more
    FROM unnest(%(tenants)s::text[], %(more)s::bigint[]) AS counted (tenant, more)
    ON CONFLICT (generation, tenant) DO UPDATE SET samples = vector_tenants.samples + excluded.samples
    RETURNING tenant, samples
"""

STATE = """
    SELECT samples, EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(%(graph)s) AND indisvalid)
    FROM vector_tenants WHERE generation = %(generation)s AND tenant = %(tenant)s
"""

LARGE = "SELECT tenant, samples FROM vector_tenants WHERE generation = %s AND samples >= %s"

GRAPHS = """
    SELECT indexes.relname, indisvalid FROM pg_index
    JOIN pg_class AS indexes ON indexes.oid = indexrelid JOIN pg_am ON pg_am.oid = indexes.relam
    WHERE indrelid = to_regclass(%s) AND amname = 'hnsw'
"""

# A plan that sorts would read the whole tenant; just-in-time compilation takes longer than what it saves.
APPROXIMATELY = """
    SELECT set_config('hnsw.ef_search', %s, true), set_config('enable_sort', 'off', true),
        set_config('jit', 'off', true)
"""

ITERATIVELY = "SET LOCAL hnsw.iterative_scan = strict_order"

EXACTLY = "SET LOCAL jit = off"

BUILDING = """
    SELECT set_config('lock_timeout', '0', false),
        set_config('max_parallel_maintenance_workers', %(workers)s, false),
        set_config(
            'maintenance_work_mem',
            greatest(pg_size_bytes(current_setting('maintenance_work_mem')), %(bytes)s::bigint) / 1024 || 'kB', false
        )
"""


def table_name(name: str, generation: str) -> str:
    """What the table of a generation is called."""
    return f"vectors_{name}_{generation}"


def graph_name(table: str, tenant: str) -> str:
    """What the HNSW index of a tenant is called, within PostgreSQL's 63 characters."""
    return f"{table}_{hashlib.sha256(tenant.encode()).hexdigest()[:16]}"


def create_table(table: str, dimensions: int) -> Composed:
    """Statements that create the table of a generation.

    Vectors are not compressed, which would gain nothing, and stay in the row up to about 2,000 dimensions: a scan then
    reads one table. There are no statistics of them, which would outlive the deletion of people.
    """
    return SQL(
        """
        CREATE TABLE {table} (
            key bigint PRIMARY KEY,
            tenant text COLLATE "C" NOT NULL,
            vector vector({dimensions}) NOT NULL
        ) WITH (toast_tuple_target = 8160);
        ALTER TABLE {table} ALTER COLUMN vector SET STORAGE EXTERNAL, ALTER COLUMN vector SET STATISTICS 0;
        CREATE INDEX ON {table} (tenant);
        """
    ).format(table=Identifier(table), dimensions=Literal(dimensions))


def drop_table(table: str) -> Composed:
    """Drop it if it is there."""
    return SQL("DROP TABLE IF EXISTS {}").format(Identifier(table))


def analyze(table: str) -> Composed:
    """Tell the planner how large each tenant is."""
    return SQL("ANALYZE {}").format(Identifier(table))


def delete(table: str) -> Composed:
    """Delete samples by key; gives how many each tenant lost."""
    return SQL(
        """
        WITH gone AS (DELETE FROM {} WHERE key = ANY (%s::bigint[]) RETURNING tenant)
        SELECT tenant, count(*) FROM gone GROUP BY tenant
        """
    ).format(Identifier(table))


def copy(table: str) -> Composed:
    """Take in what ``copied`` gives."""
    return SQL("COPY {} (key, tenant, vector) FROM STDIN WITH (FORMAT binary)").format(Identifier(table))


def copied(samples: Sequence[tuple[int, str]], vectors: NDArray[np.float32]) -> bytes:
    """Keys, tenants and vectors in the binary format of COPY, in which pgvector's vectors are big-endian.

    Source: PostgreSQL's documentation of COPY, "Binary Format", and ``vector_recv`` of pgvector.
    """
    dimensions = vectors.shape[1]
    size = 4 * dimensions
    values = vectors.astype(">f4").tobytes()
    parts = [b"PGCOPY\n\xff\r\n\0", struct.pack(">ii", 0, 0)]
    for number, (key, tenant) in enumerate(samples):
        name = tenant.encode()
        parts += (
            struct.pack(">hiqi", 3, 8, key, len(name)),
            name,
            struct.pack(">ihh", 4 + size, dimensions, 0),
            values[number * size : (number + 1) * size],
        )
    parts.append(struct.pack(">h", -1))
    return b"".join(parts)


def scan(table: str) -> Composed:
    """The nearest of a tenant, by measuring all: no index orders by a sum."""
    return SQL(
        """
        SELECT key FROM {} WHERE tenant = %(tenant)s
        ORDER BY (vector <-> %(probe)s::vector) + 0, key LIMIT %(k)s::bigint
        """
    ).format(Identifier(table))


def walk(table: str, dimensions: int, half: bool) -> Composed:
    """The nearest of a tenant, by its HNSW index; a few more are measured exactly where it holds half precision."""
    return SQL(
        """
        SELECT key FROM (
            SELECT key, vector FROM {table} WHERE tenant = %(tenant)s
            ORDER BY {vector} <-> {probe} LIMIT %(visited)s::bigint
        ) AS near
        ORDER BY (near.vector <-> %(probe)s::vector) + 0, key LIMIT %(k)s::bigint
        """
    ).format(
        table=Identifier(table),
        vector=_indexed(dimensions, half),
        probe=_indexed(dimensions, half, "%(probe)s::vector"),
    )


def create_graph(table: str, tenant: str, dimensions: int, half: bool, concurrently: bool) -> Composed:
    """Create a tenant's HNSW index."""
    return SQL(
        """
        CREATE INDEX {concurrently} {graph} ON {table} USING hnsw (({vector}) {operators})
        WHERE tenant = {tenant}
        """
    ).format(
        concurrently=SQL("CONCURRENTLY" if concurrently else ""),
        graph=Identifier(graph_name(table, tenant)),
        table=Identifier(table),
        vector=_indexed(dimensions, half),
        operators=SQL("halfvec_l2_ops" if half else "vector_l2_ops"),
        tenant=Literal(tenant),
    )


def drop_graph(graph: str) -> Composed:
    """Drop an HNSW index while others search."""
    return SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(Identifier(graph))


def _indexed(dimensions: int, half: bool, value: LiteralString = "vector") -> Composed:
    if not half:
        return SQL("({})").format(SQL(value))
    return SQL("({}::halfvec({}))").format(SQL(value), Literal(dimensions))
