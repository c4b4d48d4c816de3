"""What a killed process leaves behind, and several processes on one database."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.people import NewSample
from face_detection.gallery.search.memory import MemoryIndex
from shared.models import Metric
from tests.conftest import ROOT
from tests.galleries import open_gallery, open_store
from tests.gallery_samples import SPACE, ids_of, vectors

pytestmark = pytest.mark.processes

BATCH = 50

WRITER = f"""
import sys
from tests.galleries import open_store
from tests.gallery_samples import samples

store = open_store(sys.argv[1])
batch = int(sys.argv[2])
while True:
    print(batch, store.upsert("t", samples(f"{{batch:05}}-{{i:02}}" for i in range({BATCH}))), flush=True)
    if batch % 3 == 0:
        store.delete("t", f"{{batch:05}}-00")
        print(batch, "deleted", flush=True)
    batch += 1
"""

APPENDER = """
import sys
from tests.galleries import open_store
from tests.gallery_samples import samples

store = open_store(sys.argv[1])
for batch in range(20):
    print(store.upsert(sys.argv[2], samples(f"{batch}-{i}" for i in range(5))), flush=True)
store.close()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, cwd=ROOT, text=True, start_new_session=True
    )


def kill_writer_at_random(database: str, first_batch: int, seconds: float) -> list[list[str]]:
    """Let a writer work for a moment after its first batch, kill it; the complete lines that it printed."""
    with start(WRITER, database, str(first_batch)) as writer:
        assert writer.stdout is not None
        output = writer.stdout.readline()
        time.sleep(seconds)
        writer.kill()
        output += writer.stdout.read()
    return [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
def test_acknowledged_batches_survive_kill_9(tmp_path: Path) -> None:
    database = str(tmp_path / "gallery.db")
    moments = random.Random(5)
    acknowledged: dict[int, int] = {}
    deleted: set[int] = set()
    started: set[int] = set()
    next_batch = 0
    for _ in range(8):
        for name, answer in kill_writer_at_random(database, next_batch, moments.uniform(0.0, 0.4)):
            if answer == "deleted":
                deleted.add(int(name))
            else:
                acknowledged[int(name)] = int(answer)
        last = max(acknowledged)
        started |= {last, last + 1}  # a deletion or a batch may have been committed and not been answered
        next_batch = last + 2

        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        store = open_store(database)
        try:
            ids = ids_of(store, "t")
            changes = store.changes(0, 1_000_000)
            assert store.last_change() == changes[-1].number
            samples_by_key = store.by_keys("t", [change.key for change in changes])
        finally:
            store.close()
        present: dict[int, int] = {}
        for id in ids:
            present[int(id[:5])] = present.get(int(id[:5]), 0) + 1
        for batch in acknowledged:
            allowed = {BATCH - 1} if batch in deleted else {BATCH, BATCH - 1} if batch in started else {BATCH}
            assert present.pop(batch) in allowed
        assert set(present) <= started
        assert set(present.values()) <= {BATCH, BATCH - 1}

        numbers = [change.number for change in changes]
        assert numbers == sorted(set(numbers))
        in_order = [acknowledged[batch] for batch in sorted(acknowledged)]
        assert all(later - earlier >= BATCH for earlier, later in zip(in_order, in_order[1:], strict=False))
        by_number = {sample.change: sample.person.id for sample in samples_by_key.values()}
        for batch, number in acknowledged.items():
            assert by_number[number] == f"{batch:05}-{BATCH - 1:02}"
    assert len(acknowledged) > 50


def create_databases(folder: Path, together: Barrier) -> None:
    for number in range(60):
        together.wait(30)
        open_store(str(folder / f"{number}.db")).close()


@pytest.mark.slow
def test_processes_may_create_a_database_at_the_same_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(5)
    processes = [context.Process(target=create_databases, args=(tmp_path, together)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()


@pytest.mark.slow
def test_processes_that_start_together_share_one_sequence(tmp_path: Path) -> None:
    """Four processes create the same database at the same moment and write at once."""
    database = str(tmp_path / "new" / "gallery.db")
    processes = [start(APPENDER, database, tenant) for tenant in "tuvw"]
    answers = []
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        answers.append([int(line) for line in output.split()])
    for own in answers:
        assert own == sorted(own)
    assert sorted(number for own in answers for number in own) == list(range(5, 4 * 20 * 5 + 1, 5))


@pytest.mark.slow
def test_an_index_follows_another_process(tmp_path: Path) -> None:
    database = str(tmp_path / "gallery.db")
    store = open_store(database)
    try:
        index = MemoryIndex(store, SPACE, Metric.COSINE)
        probe = vectors(5)[4:]
        with start(APPENDER, database, "t") as appender:
            assert appender.stdout is not None
            for batch, _ in enumerate(appender.stdout):
                found = index.nearest("t", probe, 100)[0]
                # Every batch has the probe as its last sample.
                exact = [neighbour for neighbour in found if neighbour.distance == 0.0]
                assert len(exact) >= batch + 1
                assert index.size("t") >= (batch + 1) * 5
        assert index.size("t") == 100
        found_samples = store.by_keys("t", [neighbour.key for neighbour in exact])
        assert {sample.person.id for sample in found_samples.values()} <= {f"{batch}-4" for batch in range(20)}
    finally:
        store.close()


def test_remains_of_deleted_people_are_not_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    gallery = open_gallery(str(path))
    store = gallery.store
    try:
        embeddings = vectors(400, 128, seed=3)
        ids = [f"id of person {i:03}" for i in range(400)]
        rng = np.random.default_rng(0)
        batch = [
            NewSample(id, "n" * int(rng.integers(1, 300)), f"metadata of {id}", SPACE, vector)
            for id, vector in zip(ids, embeddings, strict=True)
        ]
        for start_at in range(0, 400, 20):
            store.upsert("t", batch[start_at : start_at + 20])
        crops = [rng.bytes(3000) for _ in ids]
        events = [
            NewEvent(1, EventKind.ENROLLED, id, None, Occasion(), crop) for id, crop in zip(ids, crops, strict=True)
        ]
        gallery.events.append([("t", event) for event in events])
        store.upsert("t", [NewSample(new.id, "x", None, SPACE, -embeddings[7]) for new in batch[:50]])
        for id in ids[50:150]:
            store.delete("t", id)

        def remaining(remains: Sequence[bytes]) -> set[int]:
            files = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))
            return {i for i, part in enumerate(remains) if part in files}

        parts_of_vectors = [vector.tobytes()[64:128] for vector in embeddings]
        parts_of_crops = [crop[64:128] for crop in crops]
        metadata = [f"metadata of {id}".encode() for id in ids]
        assert remaining(parts_of_vectors) >= set(range(150, 400))
        store.compact()
        assert remaining(parts_of_vectors) == remaining(metadata) == set(range(150, 400))
        assert remaining([id.encode() for id in ids]) == remaining(parts_of_crops) == {*range(50), *range(150, 400)}
        store.clear("t")
        store.compact()
        assert remaining(parts_of_vectors) == remaining([b"id of"]) == remaining(parts_of_crops) == set()
        assert path.stat().st_size < 250_000
    finally:
        gallery.close()
