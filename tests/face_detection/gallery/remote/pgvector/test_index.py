"""What is particular to vectors in pgvector; ``contracts`` has what it shares with other indexes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from deploy.servers.postgres import PostgresServer
from face_detection.gallery.people import Change
from face_detection.gallery.postgres import connections
from face_detection.gallery.postgres.session import Session
from face_detection.gallery.remote.pgvector import graphs as pgvector_graphs
from face_detection.gallery.remote.pgvector import statements as sql
from face_detection.gallery.remote.pgvector.extension import Version, version_of
from face_detection.gallery.remote.pgvector.index import PgvectorIndex
from shared.errors import SearchUnavailable, SettingsError, StartupError
from shared.models import Metric
from tests.contracts.test_vector_indexes import UNIT, assert_nearest, deleted, keys_in, prepare, replay, stored
from tests.contracts.vector_indexes import NAME, pgvector_database
from tests.galleries import open_store
from tests.gallery_samples import SPACE, samples, vectors

Open = Callable[..., PgvectorIndex]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return pgvector_database(request)


@pytest.fixture
def open_index(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr(pgvector_graphs, "KNOWN_FOR", 0.0)
    monkeypatch.setattr(pgvector_graphs, "PAUSE", 0.05)
    monkeypatch.setattr(pgvector_graphs, "RETRY", 0.05)
    with ExitStack() as closing:

        def open(
            dimensions: int = 8, exact_below: int = 0, url: str = url, metric: Metric = UNIT, candidates: int = 200
        ) -> PgvectorIndex:
            index = PgvectorIndex(url, NAME, dimensions, SPACE, metric, candidates, exact_below)
            closing.callback(index.close)
            return index

        yield open


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def change(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def graphs(url: str) -> dict[str, bool]:
    """HNSW indexes by what they are for, and whether they are valid."""
    statement = """
        SELECT pg_get_expr(indpred, indrelid), indisvalid FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam WHERE amname = 'hnsw'
    """
    return {str(predicate): bool(valid) for predicate, valid in query(url, statement)}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_exact(index: PgvectorIndex, tenant: str = "t", dimensions: int = 8) -> bool:
    return index.nearest(tenant, vectors(1, dimensions), 1).exact


@pytest.mark.parametrize(
    ("version", "dimensions", "unit_length", "half"),
    [
        ("0.5.0", 128, True, False),
        ("0.6.2", 2000, True, False),
        ("0.6.2", 2001, True, None),
        ("0.7.0", 128, True, True),
        ("0.8.5", 4000, True, True),
        ("0.8.5", 4096, True, None),
        ("1.0", 128, True, True),
        ("0.8.5", 128, False, False),
        ("0.10.0", 2001, False, None),
    ],
)
def test_what_an_hnsw_index_holds(version: str, dimensions: int, unit_length: bool, half: bool | None) -> None:
    assert version_of(version).graph(dimensions, unit_length) is half


def test_versions() -> None:
    assert version_of("0.10.1") == Version(0, 10) > version_of("0.8.0")
    assert [version_of(text).iterative for text in ("0.7.4", "0.8.0", "0.10.0", "1.0")] == [False, True, True, True]


@pytest.mark.parametrize("half", [False, True])
def test_large_tenants_are_searched_by_their_own_hnsw_index_and_small_ones_are_not(
    url: str, open_index: Open, half: bool
) -> None:
    index = open_index(64, exact_below=300, metric=UNIT if half else Metric.EUCLIDEAN)
    replay(index, stored(vectors(400, 64)) + stored(vectors(299, 64, seed=1), "u", first=401))
    until(lambda: not is_exact(index, "t", 64))
    assert is_exact(index, "u", 64)
    assert graphs(url) == {"(tenant = 't'::text)": True}

    table = str(query(url, "SELECT 'vectors_' || name || '_' || generation FROM vector_indexes")[0][0])
    holds_half = "halfvec" in str(query(url, "SELECT indexdef FROM pg_indexes"))
    assert holds_half == (half and version_of(str(query(url, "SELECT extversion FROM pg_extension")[-1][0])).minor > 6)
    graph = sql.graph_name(table, "t")
    values = {"tenant": "t", "probe": str(vectors(1, 64)[0].tolist()), "k": 3, "visited": 19}
    with Session.open(url, 10.0) as session:
        for statement, used in ((sql.walk(table, 64, holds_half), True), (sql.scan(table), False)):
            explain = sql.SQL("EXPLAIN {}").format(statement)
            for _ in range(8):  # the last ones are prepared
                with session.transaction():
                    session.execute(sql.APPROXIMATELY if used else "SET LOCAL enable_seqscan = off", ("200",) * used)
                    plan = "\n".join(row[0] for row in session.execute(explain, values).fetchall())
                assert (graph in plan) == used, plan

    def scans() -> Any:
        time.sleep(1.1)  # sessions tell the statistics once in a second, after their next statement
        index.position()
        return dict(query(url, "SELECT indexrelname, idx_scan::int FROM pg_stat_user_indexes"))[graph]

    before = scans()
    probes = prepare(vectors(5, 64, seed=3), UNIT)
    index.nearest("u", probes, 3)
    index.nearest("t", probes, 1001)
    assert scans() == before
    index.nearest("t", probes, 3)
    assert scans() == before + 5


def test_several_probes_and_what_the_index_holds_since(open_index: Open) -> None:
    index = open_index(64)
    rows = vectors(700, 64)
    replay(index, stored(rows[:400]))
    until(lambda: not is_exact(index, "t", 64))
    replay(index, stored(rows[400:], first=401))
    prepared = prepare(rows, UNIT)
    found = index.nearest("t", prepared[::7], 5)
    assert not found.exact
    assert [keys[0] for keys in found.keys] == list(range(1, 701, 7))
    assert_nearest(found, dict(enumerate(prepared, 1)), prepared[::7], 5)


@pytest.mark.parametrize("metric", Metric)
def test_extreme_lengths_in_an_hnsw_index(open_index: Open, metric: Metric) -> None:
    """Their squares stay within single precision, of which half precision would hold none."""
    index = open_index(128, metric=metric)
    raw = vectors(60, 128)
    raw *= (np.logspace(-20, np.log10(9e17), 60) / np.linalg.norm(raw, axis=1))[:, np.newaxis]
    replay(index, stored(raw))
    until(lambda: not is_exact(index, "t", 128))
    rows = prepare(raw, metric)
    for probes in (rows, -rows):
        found = index.nearest("t", probes, 60)
        assert not found.exact
        assert all(sorted(keys) == list(range(1, 61)) for keys in found.keys)
    assert [keys[0] for keys in index.nearest("t", rows[30:], 1).keys] == list(range(31, 61))


def test_names_of_tenants_are_no_sql(url: str, open_index: Open) -> None:
    index = open_index()
    tenants = ["", "50% o'clock", 'a"b\\', "{x} %s $1", "ü" * 100]
    for number, tenant in enumerate(tenants):
        replay(index, stored(vectors(50), tenant, first=1 + 50 * number))
    for number, tenant in enumerate(tenants):
        until(lambda tenant=tenant: not is_exact(index, tenant))  # type: ignore[misc]
        assert keys_in(index, tenant) == set(range(1 + 50 * number, 51 + 50 * number))
    assert len(graphs(url)) == 5


def test_an_hnsw_index_goes_when_its_tenant_has_become_small(url: str, open_index: Open) -> None:
    index = open_index(exact_below=40)
    replay(index, stored(vectors(50)))
    until(lambda: not is_exact(index))
    replay(index, [deleted(100 + key, key) for key in range(1, 12)])
    assert is_exact(index)
    assert list(graphs(url)) == ["(tenant = 't'::text)"]  # it may grow again
    replay(index, [deleted(200 + key, key) for key in range(12, 40)])
    replay(index, stored(vectors(50), "u", first=300))
    until(lambda: not is_exact(index, "u"))
    assert list(graphs(url)) == ["(tenant = 'u'::text)"]


def test_what_was_deleted_from_an_hnsw_index_hides_nothing(open_index: Open) -> None:
    """Those that were deleted are nearest by far, and more than HNSW looks at."""
    index = open_index(candidates=32)
    near = vectors(1) + 1e-3 * vectors(600, seed=1)
    replay(index, stored(np.concatenate([near, -near[:40] + vectors(40, seed=2)])))
    until(lambda: not is_exact(index))
    replay(index, [deleted(1000 + key, key) for key in range(1, 601)])
    found = index.nearest("t", prepare(vectors(1), UNIT), 10)
    assert len(found.keys[0]) == 10 and min(found.keys[0]) > 600
    assert not found.exhausted[0]


@pytest.mark.slow
def test_an_hnsw_index_that_is_given_up_is_made_anew(url: str, open_index: Open) -> None:
    index = open_index(128)
    replay(index, stored(vectors(12_000, 128)))
    building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'building%'"
    until(lambda: query(url, building) == [(1,)])
    started = time.monotonic()
    assert is_exact(index, "t", 128)  # nobody waits for it
    index.apply(stored(vectors(1, 128), first=12_001), 12_000, 12_001)
    index.close()
    assert time.monotonic() - started < 10
    assert graphs(url) == {"(tenant = 't'::text)": False}
    other = open_index(128)
    until(lambda: not is_exact(other, "t", 128))
    assert graphs(url) == {"(tenant = 't'::text)": True}


def test_one_process_makes_hnsw_indexes_at_a_time(url: str, open_index: Open) -> None:
    index = open_index()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s::bigint)", (pgvector_graphs._LOCK,))
        replay(index, stored(vectors(50)))
        for _ in range(10):
            assert is_exact(index)
            time.sleep(0.05)
        assert graphs(url) == {}
    until(lambda: not is_exact(index))


def test_no_hnsw_index_is_made_while_many_changes_come(
    url: str, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_index()
    monkeypatch.setattr(pgvector_graphs, "PAUSE", 2.0)
    monkeypatch.setattr(pgvector_graphs, "PACE", 0.5)  # one change in a pause is many
    row, number, end = vectors(1), 0, time.monotonic() + 3 * 2.0
    while time.monotonic() < end:
        number += 1
        index.apply(stored(row, first=number), number - 1, number)
        assert is_exact(index)
    until(lambda: not is_exact(index))


@pytest.mark.slow
def test_a_server_with_little_shared_memory(
    url: str, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container has 64 MB; here the index asks for more than any machine has."""
    monkeypatch.setattr(pgvector_graphs, "_LEAST_MEMORY", 1 << 40)
    monkeypatch.setattr(pgvector_graphs, "_MOST_MEMORY", 1 << 40)
    index = open_index(128, exact_below=1000).fresh()
    try:
        replay(index, stored(vectors(18_000, 128)))  # enough for PostgreSQL to use several processes
        index.publish()
    finally:
        index.close()
    assert "too little shared memory" in caplog.text
    assert graphs(url) == {"(tenant = 't'::text)": True}


def test_more_dimensions_than_an_hnsw_index_takes(url: str, open_index: Open) -> None:
    index = open_index(4096)
    rows = vectors(30, 4096)
    replay(index, stored(rows))
    found = index.nearest("t", prepare(rows, UNIT), 1)
    assert found.exact and [keys[0] for keys in found.keys] == list(range(1, 31))
    assert graphs(url) == {}


def test_processes_that_read_at_different_times_apply_at_once(url: str, open_index: Open) -> None:
    """What was read first and is written last changes nothing, and the numbers of samples stay right."""
    rows = vectors(900, seed=4)
    old = stored(rows[:300]) + stored(rows[300:400], "u", first=301)
    new = [*old[150:], *(Change(400 + key, "t", key, SPACE, rows[500 + key]) for key in range(1, 100))]
    new += [deleted(400 + key, key) for key in range(100, 151)]
    for _ in range(5):
        with ExitStack() as closing, ThreadPoolExecutor(2) as pool:
            early, late = open_index(exact_below=10**6), open_index(exact_below=10**6)
            closing.callback(early.close)
            closing.callback(late.close)
            tasks = [
                pool.submit(lambda index=early: [index.apply(old[:end], 0, end) for end in range(10, 401, 10)]),  # type: ignore[misc]
                pool.submit(lambda index=late: index.apply(new, 0, 550)),  # type: ignore[misc]
            ]
            for task in tasks:
                task.result()
            present = {key: rows[500 + key] for key in range(1, 100)} | {key: rows[key - 1] for key in range(151, 301)}
            present = dict(zip(present, prepare(np.stack(list(present.values())), UNIT), strict=True))
            assert_nearest(late.nearest("t", vectors(3), 1000), present, vectors(3), 1000)
            assert keys_in(early) == set(present)
            assert early.position() == 550
            counts = "SELECT tenant, samples FROM vector_tenants ORDER BY tenant"
            assert query(url, counts) == [("t", 249), ("u", 100)]
            change(url, "DROP TABLE vector_removals, vector_tenants, vector_indexes")


def test_changes_of_many_tenants_in_turn(url: str, open_index: Open) -> None:
    index = open_index(exact_below=10**6)
    rows = vectors(3000)
    replay(index, [Change(key, f"tenant {key % 700}", key, SPACE, rows[key - 1]) for key in range(1, 3001)])
    for number in (0, 1, 699):
        tenant = f"tenant {number}"
        assert keys_in(index, tenant) == set(range(number or 700, 3001, 700))
    probes = prepare(rows[:1], UNIT)
    assert index.nearest("tenant 1", probes, 1).keys == [[1]]
    assert query(url, "SELECT count(*), sum(samples)::int FROM vector_tenants") == [(700, 3000)]


def test_the_catalogue_is_lost_too(url: str, open_index: Open) -> None:
    index = open_index()
    replay(index, stored(vectors(20)))
    change(url, "DROP TABLE vector_removals, vector_tenants, vector_indexes")
    with pytest.raises(SearchUnavailable, match="made anew"):
        index.nearest("t", vectors(1), 1)
    with pytest.raises(SearchUnavailable, match="made anew"):
        index.apply(stored(vectors(1), first=21), 20, 21)
    assert index.position() == 0
    replay(index, stored(vectors(21)))
    assert keys_in(index) == set(range(1, 22))
    index.fresh().close()  # sweeps
    assert len(query(url, r"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'vectors\_%'")) == 2


def test_a_gallery_and_its_index_in_one_database(postgres_url: str, open_index: Open) -> None:
    index = open_index(url=postgres_url)
    store = open_store(postgres_url)
    store.upsert("t", samples("abc"))
    replay(index, store.changes(0, 10))
    assert keys_in(index) == {1, 2, 3}
    store.close()


def test_another_database_is_not_made_a_gallery(url: str, open_index: Open) -> None:
    open_index()
    tables = query(url, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    own = {"vector_indexes", "vector_tenants", "vector_removals", "vectors"}
    assert {str(name).split("_0123")[0] for (name,) in tables} == own


def test_the_extension_has_to_be_created_by_an_administrator(
    postgres: PostgresServer, url: str, open_index: Open
) -> None:
    name = url.rsplit("/", 1)[1]
    change(url, f"CREATE ROLE {name} LOGIN PASSWORD 'p'; ALTER DATABASE {name} OWNER TO {name}")
    theirs = f"postgresql://{name}:p@127.0.0.1:{postgres.port}/{name}"
    with pytest.raises(StartupError, match="SEARCH_URL=.* run CREATE EXTENSION vector in this database"):
        open_index(url=theirs)
    change(url, "CREATE EXTENSION vector")
    index = open_index(url=theirs)
    replay(index, stored(vectors(50)))
    until(lambda: not is_exact(index))
    fresh = index.fresh()
    replay(fresh, stored(vectors(60)))
    fresh.publish()
    fresh.close()
    assert keys_in(index) == set(range(1, 61))
    index.close()
    change(url, f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}")


def test_an_extension_that_is_too_old(url: str, open_index: Open) -> None:
    change(url, "CREATE EXTENSION vector; UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'")
    with pytest.raises(StartupError, match=r"version 0\.4\.4: install pgvector 0\.5 or later"):
        open_index()


def test_a_server_without_the_extension() -> None:
    folders = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if (folder / "initdb").exists()]
    bare = [
        folder
        for folder in folders
        if not Path(f"/usr/share/postgresql/{folder.parent.name}/extension/vector.control").exists()
    ]
    if not bare:
        pytest.skip("needs a PostgreSQL server without pgvector")
    with PostgresServer(bare[0]) as server, pytest.raises(StartupError, match="does not have the extension vector"):
        PgvectorIndex(server.url(), NAME, 8, SPACE, UNIT, 200, 0)


def test_addresses_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="SEARCH_URL is no address"):
        PgvectorIndex("postgresql://a:b@c@d/e", NAME, 8, SPACE, UNIT, 200, 0)
    with pytest.raises(StartupError, match="SEARCH_URL=postgresql://127.0.0.1:1/x cannot be opened"):
        PgvectorIndex("postgresql://127.0.0.1:1/x", NAME, 8, SPACE, UNIT, 200, 0)
    with pytest.raises(StartupError, match="DATABASE=postgresql://127.0.0.1:1/x cannot be opened"):
        PgvectorIndex("postgresql://127.0.0.1:1/x", NAME, 8, SPACE, UNIT, 200, 0, "DATABASE")


def test_another_transaction_that_does_not_end(url: str, monkeypatch: pytest.MonkeyPatch, open_index: Open) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.3)
    index = open_index()
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM vector_indexes FOR UPDATE")
        with pytest.raises(SearchUnavailable, match="busy"):
            index.apply(stored(vectors(1)), 0, 1)
        assert index.position() == 0
    replay(index, stored(vectors(1)))
    assert keys_in(index) == {1}
