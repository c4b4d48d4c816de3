"""A PostgreSQL database that is busy, full of connections, read-only, away, or dies."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest

from deploy.servers.postgres import PostgresServer
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.people import NewSample
from face_detection.gallery.postgres import connections, session
from face_detection.gallery.postgres.failures import translation
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql.store import Store
from shared.errors import StartupError, StorageError, StorageUnavailable
from shared.models import Metric
from tests.face_detection.gallery.sqlite import test_durability as durability
from tests.galleries import open_gallery, open_store
from tests.gallery_samples import SPACE, ids_of, samples, vectors


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    yield store
    store.close()


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()[0][0]


def test_another_transaction_that_does_not_end(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.3)
    store = open_store(postgres_url)
    store.upsert("t", samples("a"))
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM counter FOR UPDATE")
        started = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            for writer in [pool.submit(store.upsert, "t", samples("b")) for _ in range(4)]:
                with pytest.raises(StorageUnavailable, match="busy"):
                    writer.result()
            assert (store.count("t"), store.last_change()) == (1, 1)
        assert time.monotonic() - started < 3
    assert store.upsert("t", samples("b")) == 2
    store.close()


def test_a_statement_that_takes_too_long(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "STATEMENT_TIMEOUT", 0.2)
    opened = connections.Connections(postgres_url)
    with pytest.raises(StorageUnavailable, match="busy"), opened.reading() as connection:
        connection.execute("SELECT pg_sleep(30)")
    with opened.patient() as connection:
        connection.execute("SELECT pg_sleep(0.4)")
    with pytest.raises(StorageUnavailable, match="busy"), opened.writing() as connection:
        connection.execute("SELECT pg_sleep(30)")
    opened.close()


def test_threads_share_few_connections(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    store = open_store(postgres_url)
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda _: store.count("t"), range(200))) == [0] * 200
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert ask(postgres_url, others) in (1, 2)
    store.close()


def test_a_standby_or_a_read_only_database(postgres_url: str, store: Store) -> None:
    store.upsert("t", samples("a"))
    name = postgres_url.rsplit("/", 1)[1]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    other = open_store(postgres_url)
    assert other.count("t") == 1
    with pytest.raises(StorageError, match="read-only") as raised:
        other.upsert("t", samples("b"))
    assert raised.type is StorageError
    other.close()


def test_connections_that_the_server_ends(postgres_url: str, store: Store) -> None:
    """An administrator, a proxy or a restart ends idle connections: nobody notices."""
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: store.count("t"), range(40)))
        ask(postgres_url, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(0.2)
        store.upsert("t", samples("a"))
    assert store.last_change() == 3


def test_the_server_goes_and_comes_back(postgres: PostgresServer, store: Store) -> None:
    store.upsert("t", samples("a"))
    for take_down in (postgres.stop, postgres.kill):
        take_down()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(StorageUnavailable, match="cannot be reached"):
                store.count("t")
            with pytest.raises(StorageUnavailable, match="cannot be reached"):
                store.upsert("t", samples("b"))
            assert time.monotonic() - started < 2
        postgres.start()
        assert (store.count("t"), store.last_change()) == (1, 1)
    assert store.upsert("t", samples("b")) == 2


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session._CONNECTING, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(StartupError, match="cannot be opened"):
            open_gallery(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/name")
        assert time.monotonic() - started < 10


def test_a_server_that_freezes(postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its disk hangs: the connections stay, and no limit of the server's is kept."""
    monkeypatch.setattr(session, "STATEMENT_TIMEOUT", 1.0)
    monkeypatch.setattr(session, "_GRACE", 0.5)
    monkeypatch.setitem(session._CONNECTING, "connect_timeout", 2)
    store = open_store(postgres_url)
    store.upsert("t", samples("a"))
    with postgres.frozen():
        for call in (lambda: store.count("t"), lambda: store.upsert("t", samples("b")), store.last_change):
            started = time.monotonic()
            with pytest.raises(StorageUnavailable, match="cannot be reached"):
                call()
            assert time.monotonic() - started < 6
    assert (store.count("t"), store.upsert("t", samples("b"))) == (1, 2)
    store.close()


FOLLOWER = """
import sys
from face_detection.gallery import open_gallery

store = open_gallery(sys.argv[1]).store
seen = {}
print("ready", flush=True)
while len(seen) < 600:
    last = store.last_change()
    for change in store.changes(0, 10_000):
        seen.setdefault(change.number, last)
    numbers = sorted(seen)
    # Whoever saw the last number sees everything below it, at once and for ever.
    assert numbers == list(range(1, numbers[-1] + 1)) if numbers else True, "a gap"
    assert not numbers or numbers[-1] >= last
"""


@pytest.mark.slow
def test_no_change_appears_below_one_that_was_seen(postgres_url: str) -> None:
    """Three processes write people who are new, while a fourth reads: it must never see a gap."""
    follower = durability.start(FOLLOWER, postgres_url)
    assert follower.stdout is not None and follower.stdout.readline() == "ready\n"
    writers = [durability.start(durability.APPENDER, postgres_url, tenant) for tenant in ("t", "u", "v")]
    writers += [durability.start(durability.APPENDER, postgres_url, tenant) for tenant in ("w", "x", "y")]
    answers = []
    for writer in writers:
        output, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        answers += [int(line) for line in output.split()]
    assert sorted(answers) == list(range(5, 6 * 20 * 5 + 1, 5))
    assert follower.wait(60) == 0
    follower.stdout.close()


@pytest.mark.slow
def test_an_index_follows_another_process(postgres_url: str, store: Store) -> None:
    index = MemoryIndex(store, SPACE, Metric.COSINE)
    probe = vectors(5)[4:]
    with durability.start(durability.APPENDER, postgres_url, "t") as appender:
        assert appender.stdout is not None
        for batch, _ in enumerate(appender.stdout):
            found = index.nearest("t", probe, 100)[0]
            assert len([neighbour for neighbour in found if neighbour.distance == 0.0]) >= batch + 1
            assert index.size("t") >= (batch + 1) * 5
    assert index.size("t") == 100


@pytest.mark.slow
def test_acknowledged_batches_survive_kill_9(postgres: PostgresServer, postgres_url: str) -> None:
    """kill -9 of the writing process, and in every second round of PostgreSQL itself while it writes."""
    moments = random.Random(5)
    acknowledged: dict[int, int] = {}
    deleted: set[int] = set()
    started: set[int] = set()
    next_batch = 0
    for round in range(6):
        if round % 2:
            answers = kill_server_at_random(postgres, postgres_url, next_batch, moments.uniform(0.1, 0.6))
        else:
            answers = durability.kill_writer_at_random(postgres_url, next_batch, moments.uniform(0.0, 0.4))
        for name, answer in answers:
            if answer == "deleted":
                deleted.add(int(name))
            else:
                acknowledged[int(name)] = int(answer)
        last = max(acknowledged)
        started |= {last, last + 1}  # a deletion or a batch may have been committed and not been answered
        next_batch = last + 2

        store = open_store(postgres_url)
        ids, changes = ids_of(store, "t"), store.changes(0, 1_000_000)
        assert store.last_change() == changes[-1].number
        by_number = {
            sample.change: sample.person.id
            for sample in store.by_keys("t", [change.key for change in changes]).values()
        }
        store.close()
        present: dict[int, int] = {}
        for id in ids:
            present[int(id[:5])] = present.get(int(id[:5]), 0) + 1
        whole = durability.BATCH
        for batch in acknowledged:
            allowed = {whole - 1} if batch in deleted else {whole, whole - 1} if batch in started else {whole}
            assert present.pop(batch) in allowed
        assert set(present) <= started
        assert set(present.values()) <= {whole, whole - 1}
        for batch, number in acknowledged.items():
            assert by_number[number] == f"{batch:05}-{whole - 1:02}"
    assert len(acknowledged) > 10


def kill_server_at_random(postgres: PostgresServer, url: str, first_batch: int, seconds: float) -> list[list[str]]:
    """Let a writer work for a moment, kill PostgreSQL and start it again; the complete lines that were printed."""
    writer = subprocess.Popen(
        [sys.executable, "-c", durability.WRITER, url, str(first_batch)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=durability.ROOT,
        text=True,
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(seconds)
    postgres.kill()
    output, errors = writer.communicate(timeout=60)
    assert "StorageUnavailable: The database cannot be reached." in errors
    postgres.start()
    return [line.split() for line in (first + output).splitlines(keepends=True) if line.endswith("\n")]


def test_compacting_leaves_no_remains_in_the_tables(postgres: PostgresServer, postgres_url: str) -> None:
    gallery = open_gallery(postgres_url)
    store = gallery.store
    embeddings = vectors(300, 128, seed=3)
    ids = [f"id of person {i:03}" for i in range(300)]
    rng = np.random.default_rng(0)
    store.upsert(
        "t",
        [
            NewSample(id, "n" * int(rng.integers(1, 300)), f"metadata of {id}", SPACE, vector)
            for id, vector in zip(ids, embeddings, strict=True)
        ],
    )
    crops = [rng.bytes(3000) for _ in ids]
    events = [NewEvent(1, EventKind.ENROLLED, id, None, Occasion(), crop) for id, crop in zip(ids, crops, strict=True)]
    gallery.events.append([("t", event) for event in events])
    for id in ids[:100]:
        store.delete("t", id)

    def remaining(remains: list[bytes]) -> set[int]:
        files = postgres.files(postgres_url.rsplit("/", 1)[1])
        return {i for i, part in enumerate(remains) if part in files}

    parts_of_vectors = [vector.tobytes()[64:128] for vector in embeddings]
    parts_of_crops = [crop[64:128] for crop in crops]
    assert remaining(parts_of_vectors) > set(range(100, 300))
    store.compact()
    assert remaining(parts_of_vectors) == remaining(parts_of_crops) == set(range(100, 300))
    assert remaining([f"metadata of {id}".encode() for id in ids]) == set(range(100, 300))
    store.clear("t")
    store.compact()
    assert remaining(parts_of_vectors) == remaining([b"id of person"]) == remaining(parts_of_crops) == set()
    gallery.close()


def test_what_a_repetition_may_help() -> None:
    passing = [psycopg.OperationalError, psycopg.errors.TooManyConnections, psycopg.errors.CannotConnectNow]
    passing += [psycopg.errors.AdminShutdown, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable]
    lasting = [psycopg.errors.DiskFull, psycopg.errors.DataCorrupted, psycopg.errors.ReadOnlySqlTransaction]
    lasting += [psycopg.errors.InvalidPassword, psycopg.errors.UndefinedTable, psycopg.InterfaceError]
    assert {type(translation(kind())) for kind in passing} == {StorageUnavailable}
    assert {type(translation(kind())) for kind in lasting} == {StorageError}


@pytest.mark.parametrize(
    ("kind", "found", "advice"),
    [
        (psycopg.errors.DiskFull, "The disk that holds the database is full.", "Make room"),
        (psycopg.errors.ReadOnlySqlTransaction, "The database is read-only.", "name the primary server"),
        (psycopg.errors.DataCorrupted, "The database is damaged.", "restore a backup"),
        (psycopg.errors.IndexCorrupted, "The database is damaged.", "REINDEX"),
        (psycopg.errors.IoError, "The disk that holds the database failed.", "log of the database server"),
        (psycopg.errors.InsufficientPrivilege, "The database user lacks a right.", "OWNER TO"),
        (psycopg.errors.TooManyConnections, "The database has no free connection.", "max_connections"),
        (psycopg.OperationalError, "The database cannot be reached.", "its server runs"),
    ],
)
def test_what_is_advised(kind: type[psycopg.Error], found: str, advice: str) -> None:
    meaning = translation(kind())
    assert meaning.text == found and advice in meaning.advice
