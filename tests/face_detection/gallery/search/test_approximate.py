from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from face_detection.app import create_app
from face_detection.gallery.search import memory, snapshot
from face_detection.gallery.search.approximate import CANDIDATES, MOST_NEIGHBOURS, Codes
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.search.searcher import Neighbour
from face_detection.gallery.sql.store import Store
from shared.errors import SettingsError
from shared.models import Metric
from shared.settings import FrontSettings
from tests.galleries import open_store
from tests.gallery_samples import SPACE, brute_force, key_of, sample, vectors

pytestmark = pytest.mark.slow

METRIC = Metric.TENFOLD_UNIT_EUCLIDEAN
DIMENSIONS = 64
ABOVE = 2000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK", 64)


@pytest.fixture
def store() -> Iterator[Store]:
    store = open_store(":memory:")
    yield store
    store.close()


def people(count: int, photos: int, seed: int = 0) -> NDArray[np.float32]:
    """(photos, count, DIMENSIONS), of which each person's are near to one another."""
    centres = vectors(count, DIMENSIONS, seed)
    return centres + 0.5 * vectors(photos * count, DIMENSIONS, seed + 1).reshape(photos, count, DIMENSIONS)


def enrol(store: Store, rows: NDArray[np.float32], prefix: str = "", tenant: str = "t") -> None:
    store.upsert(tenant, [sample(f"{prefix}{number}", row) for number, row in enumerate(rows)])


def stored(store: Store) -> dict[int, NDArray[np.float32]]:
    return {change.key: change.vector for change in store.changes(0, 1_000_000) if change.vector is not None}


def settle(index: MemoryIndex) -> None:
    """Return when no codes are being built or due."""
    index.refresh()
    while (building := index._building) is not None:
        building.join()


def opened(store: Store, metric: Metric = METRIC, above: int = ABOVE) -> MemoryIndex:
    index = MemoryIndex(store, SPACE, metric, above)
    settle(index)
    return index


@pytest.mark.parametrize("metric", Metric)
def test_above_the_size_the_search_is_approximate_and_finds_who_is_enrolled(store: Store, metric: Metric) -> None:
    rows = people(1000, 4)
    enrol(store, rows[:3].reshape(-1, DIMENSIONS))
    index = opened(store, metric)
    found = index.nearest("t", rows[3], 3)
    by_key = stored(store)
    expected = [brute_force(by_key, probe, metric, 3) for probe in rows[3]]
    assert not found.exact
    assert sum(one == other for one, other in zip(found, expected, strict=True)) >= 980
    assert sum(one[0] == other[0] for one, other in zip(found, expected, strict=True)) >= 999


def test_at_the_size_and_below_it_the_search_is_exact(store: Store) -> None:
    enrol(store, vectors(ABOVE, DIMENSIONS))
    index = opened(store)
    probe = vectors(1, DIMENSIONS, seed=9)
    assert index.nearest("t", probe).exact
    enrol(store, vectors(1, DIMENSIONS, seed=1), "one more ")
    settle(index)
    assert not index.nearest("t", probe).exact
    store.delete("t", "7")
    assert index.nearest("t", probe).exact
    assert index.nearest("nobody", probe).exact
    assert opened(store, above=0).nearest("t", probe).exact


def test_many_neighbours_are_found_exactly(store: Store) -> None:
    enrol(store, vectors(3000, DIMENSIONS))
    index = opened(store)
    probes = vectors(3, DIMENSIONS, seed=9)
    assert not index.nearest("t", probes, MOST_NEIGHBOURS).exact
    found = index.nearest("t", probes, MOST_NEIGHBOURS + 1)
    assert found.exact
    by_key = stored(store)
    assert found == [brute_force(by_key, probe, METRIC, MOST_NEIGHBOURS + 1) for probe in probes]


def test_until_the_codes_are_built_the_search_is_exact_and_nobody_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    build = Codes.build

    def slow_build(rows: NDArray[np.float32], stop: Callable[[], bool]) -> Codes | None:
        reached.set()
        assert go_on.wait(30)
        return build(rows, stop)

    monkeypatch.setattr(Codes, "build", slow_build)
    rows = vectors(3000, DIMENSIONS)
    enrol(store, rows)
    index = MemoryIndex(store, SPACE, METRIC, ABOVE)
    index.refresh()
    assert reached.wait(30)
    by_key = stored(store)
    found = index.nearest("t", rows[:5])
    assert found.exact and found == [brute_force(by_key, row, METRIC, 1) for row in rows[:5]]
    enrol(store, rows[:1] + 1, "new ")  # while they are built
    store.delete("t", "3")
    for _ in range(2):
        assert index.nearest("t", rows[:1] + 1) == [[Neighbour(key_of(store, "t", "new 0"), 0.0)]]
        assert index.nearest("t", rows[3:4], 3) == [brute_force(stored(store), rows[3], METRIC, 3)]
        go_on.set()
        settle(index)
    assert not index.nearest("t", rows[:1]).exact


def test_the_latest_samples_are_found_and_deleted_ones_are_not(store: Store) -> None:
    rows = people(1000, 3)
    enrol(store, rows.reshape(-1, DIMENSIONS))
    index = opened(store)
    codes = index._snapshots["t"].codes
    replacing = vectors(100, DIMENSIONS, seed=50)
    for number, new in enumerate(replacing):
        old = rows[0, number : number + 1]
        key = key_of(store, "t", str(number))
        assert index.nearest("t", old) == [[Neighbour(key, 0.0)]]
        if number % 2:
            store.delete("t", str(number))
        else:
            store.upsert("t", [sample(str(number), new)])
            assert index.nearest("t", new[np.newaxis]) == [[Neighbour(key, 0.0)]]
        found = index.nearest("t", old, 3)
        assert not found.exact
        assert found == [brute_force(stored(store), old[0], METRIC, 3)]
    assert index._snapshots["t"].codes is codes


def test_where_most_candidates_were_deleted_the_search_is_exact(store: Store) -> None:
    crowded = vectors(1, DIMENSIONS, seed=9)
    crowd = (crowded + 0.01 * vectors(CANDIDATES, DIMENSIONS, seed=10)).astype(np.float32)
    enrol(store, crowd, "crowd ")
    enrol(store, vectors(3000, DIMENSIONS))
    index = opened(store)
    probes = np.concatenate([crowded, vectors(1, DIMENSIONS, seed=11)])
    for number in range(CANDIDATES):
        store.delete("t", f"crowd {number}")
    index.refresh()
    assert index._snapshots["t"].codes is not None
    assert index.nearest("t", probes[:1], 3).exact
    assert not index.nearest("t", probes, 3).exact
    by_key = stored(store)
    assert index.nearest("t", probes, 3) == [brute_force(by_key, probe, METRIC, 3) for probe in probes]


def test_codes_are_built_anew_once_a_sixteenth_of_the_rows_have_none(store: Store) -> None:
    enrol(store, vectors(3200, DIMENSIONS))
    index = opened(store)
    first = index._snapshots["t"].codes
    assert first is not None and first.end == 3200
    enrol(store, vectors(200, DIMENSIONS, seed=1), "more ")
    settle(index)
    assert index._snapshots["t"].codes is first
    enrol(store, vectors(64, DIMENSIONS, seed=2), "even more ")
    settle(index)
    second = index._snapshots["t"].codes
    assert second is not None and second.end == 3456
    rows = vectors(3200, DIMENSIONS)[::99]
    assert index.nearest("t", rows) == [[Neighbour(key_of(store, "t", str(n)), 0.0)] for n in range(0, 3200, 99)]


def test_after_rows_have_moved_the_search_is_exact_until_codes_fit_again(store: Store) -> None:
    rows = vectors(4000, DIMENSIONS)
    enrol(store, rows)
    index = opened(store)
    store.upsert("t", [sample(str(number), rows[number]) for number in range(1500)])
    index.refresh()  # drops more than a quarter
    assert len(index._snapshots["t"].rows) == 4000
    expected = [[Neighbour(key_of(store, "t", str(number)), 0.0)] for number in range(0, 4000, 99)]
    assert index.nearest("t", rows[::99]) == expected
    settle(index)
    found = index.nearest("t", rows[::99])
    assert found == expected and not found.exact


def test_codes_of_rows_that_have_moved_or_gone_are_thrown_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()
    build = Codes.build
    built: list[Codes | None] = []

    def slow_build(rows: NDArray[np.float32], stop: Callable[[], bool]) -> Codes | None:
        reached.set()
        assert go_on.wait(30)
        built.append(build(rows, stop))
        return built[-1]

    monkeypatch.setattr(Codes, "build", slow_build)
    rows = vectors(4000, DIMENSIONS)
    enrol(store, rows)
    index = MemoryIndex(store, SPACE, METRIC, ABOVE)
    index.refresh()
    assert reached.wait(30)
    store.upsert("t", [sample(str(number), rows[number]) for number in range(1500)])
    index.refresh()
    go_on.set()
    settle(index)
    assert built[0] is None and built[1] is index._snapshots["t"].codes is not None
    go_on.clear()
    reached.clear()
    enrol(store, rows[:1000], "more ")
    index.refresh()
    assert reached.wait(30)
    store.clear("t")
    index.refresh()
    go_on.set()
    settle(index)
    assert len(built) == 3 and built[2] is None
    assert index.nearest("t", rows[:1]) == [[]]


def test_tenants_take_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = threading.Lock()
    build = Codes.build

    def build_alone(rows: NDArray[np.float32], stop: Callable[[], bool]) -> Codes | None:
        assert busy.acquire(blocking=False)
        try:
            return build(rows, stop)
        finally:
            busy.release()

    monkeypatch.setattr(Codes, "build", build_alone)
    for tenant in "tuv":
        enrol(store, vectors(3000, DIMENSIONS), tenant=tenant)
    enrol(store, vectors(100, DIMENSIONS), tenant="w")
    index = opened(store)
    probe = vectors(1, DIMENSIONS, seed=9)
    assert [index.nearest(tenant, probe).exact for tenant in "tuvw"] == [False, False, False, True]


def test_when_codes_cannot_be_built_the_search_stays_exact(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Codes:
        raise RuntimeError("out of memory")

    enrol(store, vectors(3000, DIMENSIONS))
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(Codes, "build", fail)
        index = opened(store)
        assert index.nearest("t", vectors(1, DIMENSIONS)).exact
    assert "no approximate index" in caplog.text
    enrol(store, vectors(1, DIMENSIONS), "one more ")
    settle(index)
    assert not index.nearest("t", vectors(1, DIMENSIONS)).exact


def test_a_missing_library_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingsError, match=r"pip install -r requirements-approximate\.txt"):
        create_app(FrontSettings(database=":memory:", approximate_above=1))


def test_no_ghost_and_no_miss_while_codes_are_built_all_the_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_STALE", 1 / 100)
    built = []
    build = Codes.build

    def counted_build(rows: NDArray[np.float32], stop: Callable[[], bool]) -> Codes | None:
        built.append(len(rows))
        return build(rows, stop)

    monkeypatch.setattr(Codes, "build", counted_build)
    rows = people(1000, 3).reshape(-1, DIMENSIONS)
    enrol(store, rows)
    index = opened(store)
    keys = [key_of(store, "t", str(number)) for number in range(len(rows))]
    gone: set[int] = set()  # deleted for good
    finished = threading.Event()

    def write() -> None:
        """Delete, replace, enrol, and look for it at once."""
        try:
            for step, new in enumerate(vectors(600, DIMENSIONS, seed=70)):
                if step % 150 == 149:
                    settle(index)  # so that there are several builds, however slow the machine is
                id, old = str(step), rows[step]
                if step % 3 == 0:
                    store.delete("t", id)
                    gone.add(keys[step])
                    assert index.nearest("t", old[np.newaxis])[0][0].key != keys[step]
                elif step % 3 == 1:
                    store.upsert("t", [sample(id, new)])
                    assert index.nearest("t", new[np.newaxis]) == [[Neighbour(keys[step], 0.0)]]
                    assert index.nearest("t", old[np.newaxis])[0][0].distance > 0.0
                else:
                    store.upsert("t", [sample(f"new {id}", new)])
                    assert index.nearest("t", new[np.newaxis]) == [[Neighbour(key_of(store, "t", f"new {id}"), 0.0)]]
        finally:
            finished.set()

    def read(seed: int) -> set[bool]:
        chosen = np.random.default_rng(seed)
        seen = set()
        while not finished.is_set():
            ghosts = frozenset(gone)
            stays = chosen.integers(600, len(rows), 3)
            found = index.nearest("t", rows[stays])
            assert found == [[Neighbour(keys[number], 0.0)] for number in stays]
            touched = index.nearest("t", rows[chosen.integers(0, 600, 3)], 5)
            assert all(len({neighbour.key for neighbour in neighbours}) == 5 for neighbours in touched)
            assert not ghosts & {neighbour.key for neighbours in touched for neighbour in neighbours}
            seen.add(found.exact)
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, seed) for seed in range(2)]
        pool.submit(write).result()
        assert all(False in reader.result() for reader in readers)
    settle(index)
    assert len(built) > 3
    assert index.nearest("t", rows[600:]) == [[Neighbour(key, 0.0)] for key in keys[600:]]
