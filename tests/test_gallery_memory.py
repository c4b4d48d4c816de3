from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from face_detection.gallery import memory, snapshot
from face_detection.gallery.distances import prepare
from face_detection.gallery.memory import MemoryIndex
from face_detection.gallery.store import Change, Store
from shared.errors import StorageError
from shared.models import Metric
from tests.galleries import open_store
from tests.gallery_samples import SPACE, brute_force, sample, vectors


@pytest.fixture
def store() -> Iterator[Store]:
    store = open_store(":memory:")
    yield store
    store.close()


def fill(store: Store, count: int, dimensions: int = 8) -> None:
    store.upsert("t", [sample(str(i), vector) for i, vector in enumerate(vectors(count, dimensions))])


def assert_complete(index: MemoryIndex, store: Store, probe_count: int = 7) -> None:
    rows = {change.key: change.vector for change in store.changes(0, 100_000) if change.vector is not None}
    dimensions = next(iter(rows.values())).size
    probes = vectors(probe_count, dimensions, seed=99)
    expected = [brute_force(rows, probe, Metric.TENFOLD_UNIT_EUCLIDEAN, 3) for probe in probes]
    assert index.nearest("t", probes, 3) == expected
    assert index.size("t") == len(rows)


def test_loading_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 100)
    for id in ("3", "50", "4"):
        store.upsert("t", [sample(id, vectors(1, seed=int(id))[0])])
    store.delete("t", "20")
    monkeypatch.setattr(memory, "_LOAD_CHUNK", 7)
    assert_complete(MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN), store)


def test_many_probes_are_searched_in_blocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 100)
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    for most_scores in (1, 100, 250, 100_000):
        monkeypatch.setattr(snapshot, "_MOST_SCORES", most_scores)
        assert_complete(index, store, probe_count=11)


def test_dead_rows_are_dropped_once_they_are_more_than_a_quarter(store: Store) -> None:
    fill(store, 100)
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    index.refresh()
    held = []
    for number in range(60):
        store.delete("t", str(number))
        assert_complete(index, store)
        held.append(len(index._snapshots["t"].rows))
    assert held[24:26] == [100, 74]
    assert max(rows - index_size for rows, index_size in zip(held, range(99, 39, -1), strict=True)) == 25
    for seed in range(200):
        store.upsert("t", [sample("70", vectors(1, seed=seed)[0])])
        index.refresh()
        assert len(index._snapshots["t"].rows) <= 40 * 4 / 3 + 1
    assert_complete(index, store)


def test_a_snapshot_never_changes(store: Store) -> None:
    fill(store, 10)
    index = MemoryIndex(store, SPACE, Metric.EUCLIDEAN)
    index.refresh()
    shown = index._snapshots["t"]
    before = [array.copy() for array in (shown.keys, shown.rows, shown.biases)]
    fill(store, 15)
    index.refresh()
    store.delete("t", "1")
    index.refresh()
    store.clear("t")
    index.refresh()
    for array, copy in zip((shown.keys, shown.rows, shown.biases), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_an_index_in_doubt_measures_exactly(store: Store) -> None:
    """Far from the origin, float32 scores cannot tell these apart; the distances still are right."""
    rows = (1e4 + vectors(500, 128)).astype(np.float32)
    store.upsert("t", [sample(str(i), row) for i, row in enumerate(rows)])
    index = MemoryIndex(store, SPACE, Metric.EUCLIDEAN)
    by_key = {change.key: change.vector for change in store.changes(0, 1000) if change.vector is not None}
    for probe in (1e4 + vectors(20, 128, seed=1)).astype(np.float32):
        for k in (1, 3):
            assert index.nearest("t", probe[np.newaxis], k)[0] == brute_force(by_key, probe, Metric.EUCLIDEAN, k)


def test_a_failed_refresh_is_caught_up_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 100)
    monkeypatch.setattr(memory, "_LOAD_CHUNK", 30)
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    answers: Iterator[Sequence[Change] | StorageError] = iter(
        [store.changes(0, 30), StorageError("The disk that holds the database failed.")]
    )

    def changes(since: int, limit: int) -> Sequence[Change]:
        answer = next(answers)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    with monkeypatch.context() as broken:
        broken.setattr(store, "changes", changes)
        with pytest.raises(StorageError):
            index.nearest("t", vectors(1))
    assert (index.applied, index.size("t")) == (30, 30)
    assert_complete(index, store)


def test_a_search_waits_for_a_refresh_that_is_under_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process would answer without a sample that it has already acknowledged."""
    index = MemoryIndex(store, SPACE, Metric.COSINE)
    fill(store, 3)
    reached, go_on = threading.Event(), threading.Event()

    def slow_prepare(rows: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
        reached.set()
        assert go_on.wait(10)
        return prepare(rows, metric)

    with ThreadPoolExecutor(2) as pool:
        with monkeypatch.context() as slow:
            slow.setattr(memory, "prepare", slow_prepare)
            refreshing = pool.submit(index.refresh)
            assert reached.wait(10)
        searching = pool.submit(index.nearest, "t", vectors(1), 9)
        with pytest.raises(TimeoutError):
            searching.result(0.1)
        go_on.set()
        refreshing.result()
        assert len(searching.result()[0]) == 3


def test_searching_adds_little_memory_per_sample(store: Store) -> None:
    fill(store, 5000, dimensions=128)
    index = MemoryIndex(store, SPACE, Metric.COSINE)
    index.refresh()
    builder = index._builders["t"]
    held = builder._rows.nbytes + builder._keys.nbytes + builder._biases.nbytes
    assert held <= 1.5 * 5000 * (128 * 4 + 8 + 4)
