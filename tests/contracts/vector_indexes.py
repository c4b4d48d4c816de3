"""Every kind of index of vectors outside of the process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from deploy.servers.milvus import MilvusServer
from deploy.servers.postgres import PostgresServer
from face_detection.gallery.remote.index import VectorIndex
from shared.models import Metric
from tests.gallery_samples import SPACE

NAME = "0123456789abcdef"
FORMER = "0123456789fedcba"
"""Another index of the same gallery."""


class Open(Protocol):
    """Opens one more handle, as another process would; it is closed after the test."""

    def __call__(
        self,
        name: str = NAME,
        dimensions: int = 8,
        space: str = SPACE,
        metric: Metric = Metric.TENFOLD_UNIT_EUCLIDEAN,
        exact_below: int = 20_000,
    ) -> VectorIndex: ...


@dataclass(frozen=True)
class Place:
    """Where indexes of one kind are: empty at first, and gone after the test.

    Attributes:
        open: see ``Open``.
        lose: deletes the data of every index behind its back, as a disk or an administrator does.
        keys: of all samples of which anything is stored for an index of that name, in parts that are not published too.
        killed: kill -9 of the server, which is back at the end of the context; None where it is no process.
    """

    open: Open
    lose: Callable[[], None]
    keys: Callable[[str], set[int]]
    killed: Callable[[], AbstractContextManager[None]] | None = None


def pgvector_database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty PostgreSQL database, in which the extension can be created."""
    server: PostgresServer = request.getfixturevalue("postgres")
    with psycopg.connect(server.url()) as connection:
        extensions = connection.execute("SELECT name FROM pg_available_extensions WHERE name = 'vector'").fetchall()
    if not extensions:
        pytest.skip("needs PostgreSQL with the extension vector: pip install -r requirements-dev.txt (pgserver)")
    name = f"vectors_{secrets.token_hex(4)}"
    url = server.database(name)
    request.addfinalizer(lambda: server.drop(name))
    return url


def _pgvector(request: pytest.FixtureRequest) -> Place:
    from face_detection.gallery.remote.pgvector.index import PgvectorIndex

    url = pgvector_database(request)
    server: PostgresServer = request.getfixturevalue("postgres")

    def open(
        name: str = NAME,
        dimensions: int = 8,
        space: str = SPACE,
        metric: Metric = Metric.TENFOLD_UNIT_EUCLIDEAN,
        exact_below: int = 20_000,
    ) -> VectorIndex:
        index = PgvectorIndex(url, name, dimensions, space, metric, candidates=200, exact_below=exact_below)
        request.addfinalizer(index.close)
        return index

    def lose() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            tables = connection.execute(
                r"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'vectors\_%'"
            ).fetchall()
            for (table,) in tables:
                connection.execute(SQL("DROP TABLE {}").format(Identifier(table)))

    def keys(name: str) -> set[int]:
        with psycopg.connect(url, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND starts_with(relname, %s)", (f"vectors_{name}_",)
            ).fetchall()
            found = [connection.execute(SQL("SELECT key FROM {}").format(Identifier(table))) for (table,) in tables]
            return {key for cursor in found for (key,) in cursor.fetchall()}

    return Place(open, lose, keys, server.killed)


def _milvus(request: pytest.FixtureRequest) -> Place:
    server: MilvusServer = request.getfixturevalue("milvus")
    from pymilvus import MilvusClient

    from face_detection.gallery.remote.milvus.index import MilvusIndex

    # Milvus Lite has no staleness to wait for.
    request.getfixturevalue("monkeypatch").setattr(MilvusIndex, "settling", 0.0)
    database = f"vectors_{secrets.token_hex(4)}"

    def administer(work: Callable[[MilvusClient], None]) -> None:
        client = MilvusClient(server.url, dedicated=True)
        try:
            work(client)
        finally:
            client.close()

    def lose() -> None:
        def drop_collections(client: MilvusClient) -> None:
            client.use_database(database)
            for collection in client.list_collections():
                for alias in client.list_aliases(collection)["aliases"]:
                    client.drop_alias(alias)
                client.drop_collection(collection)

        administer(drop_collections)

    administer(lambda client: client.create_database(database))
    request.addfinalizer(lambda: administer(lambda client: client.drop_database(database)))
    request.addfinalizer(lose)

    def open(
        name: str = NAME,
        dimensions: int = 8,
        space: str = SPACE,
        metric: Metric = Metric.TENFOLD_UNIT_EUCLIDEAN,
        exact_below: int = 20_000,
    ) -> VectorIndex:
        url = f"{server.url}/{database}"
        index = MilvusIndex(url, None, name, dimensions, space, metric, candidates=200, partitions=4)
        request.addfinalizer(index.close)
        return index

    def keys(name: str) -> set[int]:
        found: set[int] = set()

        def read(client: MilvusClient) -> None:
            client.use_database(database)
            for collection in client.list_collections():
                if collection.startswith(f"faces_{name}_"):
                    rows = client.query(collection, filter="key > 0", output_fields=["key"], consistency_level="Strong")
                    found.update(row["key"] for row in rows)

        administer(read)
        return found

    return Place(open, lose, keys, server.killed)


VECTOR_INDEXES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "pgvector": _pgvector,
    "milvus": _milvus,
}
