"""What is particular to the gallery in PostgreSQL; ``contracts`` has what it shares with SQLite."""

from __future__ import annotations

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from psycopg import Connection

from deploy.servers.postgres import PostgresServer
from face_detection.gallery.postgres import migrations
from face_detection.gallery.postgres.connections import Connections
from face_detection.gallery.postgres.session import pyformat
from face_detection.gallery.sql import statements
from face_detection.gallery.sql.database import Wordings, listed
from face_detection.gallery.sql.store import Store
from face_detection.gallery.sqlite import migrations as sqlite_migrations
from shared.errors import InvalidRequest, SettingsError, StartupError
from tests.galleries import open_gallery, open_store
from tests.gallery_samples import OTHER_SPACE, ids_of, sample, samples, vectors


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def change(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def test_vectors_are_little_endian_float32_and_names_are_plain_text(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.upsert("t", [sample("a", np.array([1.0, -2.5], np.float32), name="Ada", metadata={"ü": 1})])
    store.close()
    rows = query(postgres_url, "SELECT name, metadata, vector FROM people JOIN samples ON person = people.key")
    assert rows == [("Ada", r'{"\u00fc":1}', bytes.fromhex("0000803f 000020c0"))]


def test_a_tombstone_keeps_no_personal_data(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.upsert("t", samples("ab"))
    store.delete("t", "a")
    store.clear("t")
    store.close()
    rows = query(postgres_url, "SELECT tenant, number, change, person, space, vector FROM samples ORDER BY change")
    assert rows == [("t", 1, 3, None, None, None), ("t", 2, 4, None, None, None)]
    assert query(postgres_url, "SELECT * FROM people") == []


def test_long_embeddings(postgres_url: str) -> None:
    """4,096 dimensions are more than a page of PostgreSQL holds."""
    store = open_store(postgres_url)
    long = vectors(3, 4096)
    store.upsert("t", [sample(str(number), vector) for number, vector in enumerate(long)])
    for stored, vector in zip(store.changes(0, 10), long, strict=True):
        assert stored.vector is not None
        np.testing.assert_array_equal(stored.vector, vector)
    store.close()


def test_ids_are_ordered_by_code_point_whatever_the_collation_of_the_database(postgres_url: str) -> None:
    rows = query(
        postgres_url,
        """
        SELECT relname || '.' || attname FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid JOIN pg_collation ON pg_collation.oid = attcollation
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND collname = 'C' ORDER BY 1
        """,
    )
    columns = {str(row[0]) for row in rows}
    assert {"people.id", "people.name", "people.tenant", "samples.tenant", "tenants.id", "events.tenant"} <= columns


def test_values_that_the_database_cannot_hold(postgres_url: str) -> None:
    store = open_store(postgres_url)
    for refused in (
        lambda: store.get("t", "\0"),
        lambda: store.page("t", 1, text="a\0"),
        lambda: store.upsert("\0", samples("a")),
        lambda: store.sample("t", 2**63),
        lambda: store.feed("t", 2**80, 1).entries,
    ):
        with pytest.raises(InvalidRequest, match="NUL character, or a number"):
            refused()
    assert store.last_change() == 0
    store.close()


@pytest.fixture
def filled(postgres_url: str) -> str:
    gallery = open_gallery(postgres_url)
    for tenant in "tuv":
        names = [f"{i}" for i in range(1000)]
        gallery.store.upsert(tenant, samples(names))
        gallery.store.upsert(tenant, [sample(name, vectors(1, 4)[0], space=OTHER_SPACE) for name in names[::10]])
    gallery.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return postgres_url


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("GET", "people_tenant_id_key"),
        ("GET", "samples_of_person"),
        ("PAGE", "people_tenant_id_key"),
        ("PAGE", "samples_of_person"),
        ("SAMPLES", "samples_of_person"),
        ("BY_KEYS", "samples_pkey"),
        ("BY_NUMBER", "samples_tenant_number_key"),
        ("BY_NUMBERS", "samples_tenant_number_key"),
        ("COUNT", "samples_present"),
        ("COUNT_SPACE", "samples_present"),
        ("LAST", "samples_tenant_number_key"),
        ("LAST", "samples_tenant_revision_key"),
        ("CHANGES", "samples_change_key"),
        ("FEED", "samples_tenant_revision_key"),
        ("SAMPLE_KEY", "samples_tenant_number_key"),
        ("SAMPLES_OF_PEOPLE", "people_tenant_id_key"),
        ("SAMPLES_OF_PEOPLE", "samples_of_person"),
        ("HAS_SAMPLES", "samples_of_person"),
        ("TOUCH", "samples_of_person"),
        ("BURY_PERSON", "samples_of_person"),
        ("BURY_KEYS", "samples_pkey"),
        ("CHANGE_VECTORS", "samples_pkey"),
        ("DELETE_EVENTS", "events_of_person"),
    ],
)
def test_every_query_uses_an_index(filled: str, statement: str, index: str) -> None:
    wordings: str | Wordings = getattr(statements, statement)
    sql = pyformat(wordings if isinstance(wordings, str) else wordings["postgres"])
    values = dict.fromkeys(re.findall(r"%\((\w+)\)", sql)) | {"tenant": "t", "id": "7", "after": "7", "limit": 10}
    values |= {"person": 7, "number": 7, "since": 500, "before": 10**18, "space": "s"}
    values |= listed([7, 8]) | {"keys": "[7, 8]", "change": 10**6, "revision": 10**17}
    if statement == "CHANGE_VECTORS":
        values |= {"key": [7, 8], "space": [1, 1], "vector": [b"1", b"2"], "position": [1, 2]}
    with psycopg.connect(filled) as connection:
        rows = connection.execute(f"EXPLAIN {sql}".encode(), values).fetchall()
        plan = "\n".join(row[0] for row in rows)
        if index not in plan:  # a small table is rather read from end to end
            connection.execute("SET enable_seqscan = off")
            rows = connection.execute(f"EXPLAIN {sql}".encode(), values).fetchall()
            plan = "\n".join(row[0] for row in rows)
    assert index in plan
    assert "Seq Scan on samples" not in plan
    assert "Seq Scan on people" not in plan


def test_migrations_have_the_names_of_those_of_sqlite() -> None:
    assert [step.__name__ for step in migrations.STEPS] == [step.__name__ for step in sqlite_migrations.STEPS]


def test_an_old_database_is_migrated_and_keeps_its_samples(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(postgres_url)
    store.upsert("t", samples("a"))
    store.close()

    def add_colour(connection: Connection) -> None:
        connection.execute("ALTER TABLE samples ADD COLUMN colour text")

    def fail(connection: Connection) -> None:
        connection.execute("ALTER TABLE samples ADD COLUMN size text")
        connection.execute("SELECT * FROM nowhere")

    def columns() -> set[object]:
        statement = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'samples'::regclass"
        return {row[0] for row in query(postgres_url, statement)}

    with monkeypatch.context() as newer:
        newer.setattr(migrations, "STEPS", (*migrations.STEPS, add_colour, fail))
        with pytest.raises(StartupError, match="nowhere"):
            open_store(postgres_url)
        assert not columns() & {"colour", "size"}
        newer.setattr(migrations, "STEPS", migrations.STEPS[:-1])
        for _ in range(2):
            store = open_store(postgres_url)
            assert ids_of(store, "t") == ["a"]
            store.close()
        assert "colour" in columns()

    with pytest.raises(StartupError, match=r"newer release \(it has add_colour\)"):
        open_store(postgres_url)


def test_those_who_start_together_migrate_once(postgres: PostgresServer) -> None:
    url = postgres.database("together")
    start = threading.Barrier(6)

    def open_and_write(number: int) -> Store:
        start.wait(30)
        store = open_store(url)
        store.upsert("t", samples([str(number)]))
        return store

    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(open_and_write, range(6)))
    assert query(url, "SELECT count(*) FROM migrations") == [(len(migrations.STEPS),)]
    assert stores[0].last_change() == 6
    for store in stores:
        store.close()
    postgres.drop("together")


PASSWORD = "s3cret"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://gallery:{PASSWORD}/x@host/name",
        f"postgresql://gallery:1/{PASSWORD}@host/name",
        f"postgresql://gallery:a@{PASSWORD}@host/name",
        f"postgresql://gallery:%{PASSWORD}@host/name",
        f"postgresql://host:{PASSWORD}/name",
        f"postgresql://host:99999/name?password={PASSWORD}",
        f"postgresql://host/name?pasword={PASSWORD}",
        f"postgresql://host/name?{PASSWORD}",
    ],
)
def test_an_address_that_cannot_be_understood_is_not_quoted(address: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE is no address of a PostgreSQL database") as failure:
        open_gallery(address)
    assert PASSWORD not in str(failure.value)
    assert failure.value.__cause__ is None


def test_a_database_that_cannot_be_opened(postgres: PostgresServer, postgres_url: str) -> None:
    password = postgres_url.split(":")[2].split("@")[0]
    wrong_password = postgres_url.replace(password, PASSWORD)
    nothing_there = postgres_url.replace(f":{postgres.port}/", ":1/")
    latin = postgres.url("latin")
    change_outside_a_transaction(postgres.url(), "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    for url, reason in (
        (wrong_password, "password authentication failed"),
        (nothing_there, "Connection refused"),
        (postgres.url("nowhere"), '"nowhere" does not exist'),
        (latin, "its encoding is LATIN1"),
    ):
        with pytest.raises(StartupError, match=reason) as failure:
            open_gallery(url)
        assert str(failure.value).startswith("DATABASE=postgresql://gallery@127.0.0.1:")
        assert PASSWORD not in str(failure.value) and password not in str(failure.value)
    postgres.drop("latin")


def change_outside_a_transaction(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_another_kind_of_address() -> None:
    with pytest.raises(SettingsError, match="DATABASE must be a path") as failure:
        open_gallery(f"mysql://user:{PASSWORD}@host/name")
    assert PASSWORD not in str(failure.value)


def test_the_driver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StartupError, match=r"pip install -r requirements-postgres\.txt"):
        open_gallery("postgresql://host/name")


def test_an_answered_change_is_on_disk_whatever_the_database_is_set_to(postgres_url: str) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    change(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    change(postgres_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    assert query(postgres_url, "SHOW synchronous_commit") == [("off",)]
    connections = Connections(postgres_url)
    with connections.writing() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchall() == [("on",)]
        assert connection.execute("SHOW transaction_isolation").fetchall() == [("read committed",)]
    connections.close()
