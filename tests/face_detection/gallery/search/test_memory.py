from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from face_detection.gallery import Gallery
from face_detection.gallery.people import Change
from face_detection.gallery.search import memory, snapshot
from face_detection.gallery.search.distances import prepare
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql.store import Store
from shared.errors import StorageError
from shared.models import Metric
from tests.galleries import remove_tombstones
from tests.gallery_samples import SPACE, brute_force, sample, samples, vectors


@pytest.fixture
def store(gallery: Gallery) -> Store:
    return gallery.store


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

    def changes(since: int, limit: int, begun: int) -> Sequence[Change]:
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


def forget(gallery: Gallery, *ids: str) -> None:
    """Delete people, and the tombstones that tell of them."""
    for id in ids:
        gallery.store.delete("t", id)
    gallery.store.upsert("t", samples(["later"]))
    remove_tombstones(gallery)


def test_an_index_that_comes_too_late_for_deletions_is_filled_anew(
    gallery: Gallery, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, 100)
    store.upsert("u", samples("abc"))
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN, approximate_above=1)
    index.refresh()
    store.clear("u")
    forget(gallery, *(str(n) for n in range(0, 100, 3)))
    rows = {one.key: one.vector for one in store.changes(0, 1000, store.last_change()) if one.vector is not None}
    probes = vectors(7, seed=99)
    expected = [brute_force(rows, probe, Metric.TENFOLD_UNIT_EUCLIDEAN, 3) for probe in probes]
    assert index.nearest("t", probes, 3) == expected
    assert (index.size("t"), index.size("u"), index.nearest("u", probes)) == (67, 0, [[]] * 7)
    assert "it is filled anew" in caplog.text
    store.delete("t", "1")
    assert index.nearest("t", probes, 100)[0][-1] and index.size("t") == 66


def test_an_index_that_is_filled_anew_is_searched_as_it_was_until_it_is_complete(
    gallery: Gallery, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 100)
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    index.refresh()
    monkeypatch.setattr(memory, "_LOAD_CHUNK", 30)
    applied, probes, changes = index.applied, vectors(100), store.changes
    before = index.search("t", probes, 1)
    forget(gallery, "0", "1", "2")
    calls = []

    def fail_at_the_third(since: int, limit: int, begun: int) -> Sequence[Change]:
        calls.append(since)
        assert index.search("t", probes, 1) == before
        if len(calls) == 3:
            raise StorageError("The disk that holds the database failed.")
        return changes(since, limit, begun)

    with monkeypatch.context() as watched:
        watched.setattr(store, "changes", fail_at_the_third)
        with pytest.raises(StorageError):
            index.refresh()
        assert (index.applied, index.search("t", probes, 1)) == (applied, before)
        index.refresh()
    assert calls == [100, 0, 33, 33, 63, 93]
    assert (index.applied, index.size("t")) == (store.last_change(), 98)
    assert [near[0].key for near in index.search("t", probes[3:], 1)] == list(range(4, 101))


def test_a_new_index_reads_no_tombstones(gallery: Gallery, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 100)
    for n in range(90):
        store.delete("t", str(n))
    read, changes = [], store.changes

    def watched(*wanted: int) -> Sequence[Change]:
        read.extend(found := changes(*wanted))
        return found

    monkeypatch.setattr(store, "changes", watched)
    index = MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    index.refresh()
    assert (len(read), index.size("t"), index.applied) == (10, 10, store.last_change())


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
