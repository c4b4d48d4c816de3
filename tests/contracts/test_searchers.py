"""What every searcher must do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.servers.waiting import wait_until
from face_detection.extraction.client import ServedModel
from face_detection.gallery import Gallery
from face_detection.gallery.remote import follower, other_spaces
from face_detection.gallery.remote.index import lock_to_apply
from face_detection.gallery.remote.searcher import RemoteSearcher
from face_detection.gallery.search import memory
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.search.searcher import Nearest, Neighbour, Searcher
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from face_detection.recognition.identification import Identifier
from face_detection.recognition.quality import Quality
from shared.errors import InvalidRequest, SearchUnavailable, SpaceMismatch
from shared.geometry import Box, Face
from shared.models import CATALOGUE, Metric
from shared.settings import FrontSettings
from tests.contracts.databases import copied
from tests.contracts.vector_indexes import VECTOR_INDEXES
from tests.gallery_samples import OTHER_SPACE, SPACE, brute_force, key_of, sample, samples, vectors

OpenSearcher = Callable[..., Searcher]
"""Opens a searcher for a gallery, an embedding space, a metric and, where they are not 8, dimensions."""


class ApproximateIndex(MemoryIndex):
    """Is approximate whenever it can be: from a block of samples on, whose codes are waited for."""

    def __init__(self, store: Store, space: str, metric: Metric) -> None:
        super().__init__(store, space, metric, approximate_above=1)

    def nearest(
        self, tenant: str, probes: NDArray[np.float32], k: int = 1, position: Position | None = None
    ) -> Nearest:
        self.refresh()
        while (building := self._building) is not None:
            building.join()
        return super().nearest(tenant, probes, k, position)


class CaughtUpIndex(RemoteSearcher):
    """Searches when the index has everything, so that nothing is overlaid unless it is changed meanwhile."""

    def nearest(
        self, tenant: str, probes: NDArray[np.float32], k: int = 1, position: Position | None = None
    ) -> Nearest:
        last = self._store.last_change()
        deadline = time.monotonic() + 60
        while self._follower.pending().base < last:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return super().nearest(tenant, probes, k, position)


def name_of(space: str, metric: Metric) -> str:
    """What an index elsewhere is called, as one of the same gallery as those of other spaces."""
    return "0123456789" + hashlib.blake2b(f"{space} {metric}".encode(), digest_size=5).hexdigest()


def in_memory(index: Callable[[Store, str, Metric], Searcher]) -> Callable[[pytest.FixtureRequest], OpenSearcher]:
    return lambda request: lambda gallery, space, metric, dimensions=8: index(gallery.store, space, metric)


def elsewhere(kind: str, searcher: type[RemoteSearcher]) -> Callable[[pytest.FixtureRequest], OpenSearcher]:
    """A searcher over an index of the kind."""

    def make(request: pytest.FixtureRequest) -> OpenSearcher:
        place = VECTOR_INDEXES[kind](request)

        def open_one(gallery: Gallery, space: str, metric: Metric, dimensions: int = 8) -> Searcher:
            name = name_of(space, metric)
            index = place.open(name, dimensions, space, metric)
            return searcher(gallery.store, gallery.locks, f"search-{name}", index, space, dimensions, metric, 1_000_000)

        return open_one

    return make


SEARCHERS = {
    "memory": in_memory(MemoryIndex),
    "memory, in small blocks": in_memory(MemoryIndex),
    "memory, approximate": in_memory(ApproximateIndex),
    **{kind: elsewhere(kind, RemoteSearcher) for kind in VECTOR_INDEXES},
    **{f"{kind}, caught up": elsewhere(kind, CaughtUpIndex) for kind in VECTOR_INDEXES},
}


@pytest.fixture
def database(shared_database: str) -> str:
    return shared_database


@pytest.fixture(params=SEARCHERS)
def open_searcher(
    request: pytest.FixtureRequest, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenSearcher]:
    monkeypatch.setattr(follower, "_PAUSE", 0.01)
    if request.param.startswith("memory, "):
        monkeypatch.setattr(memory, "BLOCK", 16)
    open_one = SEARCHERS[request.param](request)
    opened: list[Searcher] = []

    def open_and_keep(*arguments: Any) -> Searcher:
        opened.append(open_one(gallery, *arguments))
        return opened[-1]

    yield open_and_keep
    for searcher in opened:
        searcher.close()


def stored_vectors(store: Store, tenant: str) -> dict[int, NDArray[np.float32]]:
    return {
        change.key: change.vector
        for change in store.changes(0, 1_000_000)
        if change.tenant == tenant and change.space == SPACE and change.vector is not None
    }


def assert_same(found: list[Neighbour], expected: list[Neighbour]) -> None:
    assert [neighbour.key for neighbour in found] == [neighbour.key for neighbour in expected]
    assert [neighbour.distance for neighbour in found] == pytest.approx([n.distance for n in expected], rel=1e-6)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("k", [1, 3, 500])
def test_nearest_is_what_measuring_every_sample_finds(
    store: Store, open_searcher: OpenSearcher, metric: Metric, k: int
) -> None:
    store.upsert("t", [sample(str(i), 5 * vector) for i, vector in enumerate(vectors(300, 128, seed=1))])
    store.upsert("u", [sample(str(i), 5 * vector) for i, vector in enumerate(vectors(40, 128, seed=2))])
    for number in range(0, 300, 7):
        store.delete("t", str(number))
    searcher = open_searcher(SPACE, metric, 128)
    probes = 5 * vectors(20, 128, seed=3)
    for tenant in "tu":
        rows = stored_vectors(store, tenant)
        for probe, found in zip(probes, searcher.nearest(tenant, probes, k), strict=True):
            assert_same(found, brute_force(rows, probe, metric, k))
    assert (searcher.size("t"), searcher.size("u"), searcher.size("v")) == (257, 40, 0)


def test_nothing_to_find(store: Store, open_searcher: OpenSearcher) -> None:
    searcher = open_searcher(SPACE, Metric.COSINE)
    assert searcher.nearest("t", vectors(2)) == [[], []]
    assert (searcher.applied, searcher.size("t")) == (0, 0)
    store.upsert("t", samples("ab"))
    assert searcher.nearest("u", vectors(2)) == [[], []]
    assert searcher.nearest("t", vectors(0)) == []
    store.clear("t")
    assert searcher.nearest("t", vectors(2), 3) == [[], []]
    assert (searcher.applied, searcher.size("t")) == (4, 0)


@pytest.mark.parametrize("metric", Metric)
def test_a_search_sees_what_was_committed_before_it(store: Store, open_searcher: OpenSearcher, metric: Metric) -> None:
    searcher = open_searcher(SPACE, metric)
    one, two = vectors(2)
    store.upsert("t", [sample("a", one)])
    key = key_of(store, "t", "a")
    assert searcher.nearest("t", one[np.newaxis]) == [[Neighbour(key, 0.0)]]
    store.upsert("t", [sample("a", two)])
    assert searcher.nearest("t", two[np.newaxis], 5) == [[Neighbour(key, 0.0)]]
    assert searcher.applied == store.last_change() == 2
    store.delete("t", "a")
    assert searcher.nearest("t", two[np.newaxis]) == [[]]
    store.upsert("t", [sample("a", one)])
    key = key_of(store, "t", "a")
    assert searcher.nearest("t", one[np.newaxis]) == [[Neighbour(key, 0.0)]]


def test_a_search_may_be_told_how_far_the_database_is(store: Store, open_searcher: OpenSearcher) -> None:
    searcher = open_searcher(SPACE, Metric.COSINE)
    one, two = vectors(2)
    store.upsert("t", [sample("a", one)])
    former = store.position()
    key = key_of(store, "t", "a")
    assert searcher.nearest("t", one[np.newaxis], 1, former) == [[Neighbour(key, 0.0)]]
    store.upsert("t", [sample("a", two)])
    assert searcher.nearest("t", two[np.newaxis], 1, store.position()) == [[Neighbour(key, 0.0)]]
    # What another search has seen meanwhile is not forgotten.
    assert searcher.nearest("t", two[np.newaxis], 1, former) == [[Neighbour(key, 0.0)]]


def test_refreshing_is_idempotent_and_leaves_nothing_behind(store: Store, open_searcher: OpenSearcher) -> None:
    searcher = open_searcher(SPACE, Metric.COSINE)
    store.upsert("t", samples("abc"))
    for _ in range(2):
        searcher.refresh()
        assert (searcher.applied, searcher.size("t")) == (3, 3)
    store.clear("t")
    searcher.refresh()
    assert (searcher.applied, searcher.size("t")) == (6, 0)


def test_samples_of_other_spaces_are_not_found(store: Store, open_searcher: OpenSearcher) -> None:
    here, elsewhere = open_searcher(SPACE, Metric.COSINE), open_searcher(OTHER_SPACE, Metric.COSINE, 4)
    store.upsert("t", samples("ab"))
    assert len(here.nearest("t", vectors(1), 9)[0]) == 2
    former = {key_of(store, "t", id) for id in "ab"}
    store.upsert("t", [sample("a", vectors(1, 4)[0], space=OTHER_SPACE)])
    assert {n.key for n in here.nearest("t", vectors(1), 9)[0]} == former
    assert [n.key for n in elsewhere.nearest("t", vectors(1, 4), 9)[0]] == [key_of(store, "t", "a", OTHER_SPACE)]
    store.replace("t", store.samples("t", "b")[0].number, OTHER_SPACE, vectors(1, 4)[0])
    for searcher, space, probe in ((here, SPACE, vectors(1)), (elsewhere, OTHER_SPACE, vectors(1, 4))):
        assert {n.key for n in searcher.nearest("t", probe, 9)[0]} == {key_of(store, "t", id, space) for id in "ab"}


@pytest.mark.parametrize("later", [0, 2, 7])
def test_a_database_that_an_older_copy_has_replaced(
    gallery: Gallery, database: str, open_searcher: OpenSearcher, later: int
) -> None:
    """Keys and numbers of changes are used again then, for other people."""
    store = gallery.store
    store.upsert("t", samples("ab"))
    put_back = copied(database)
    known, unknown = vectors(6, seed=1), vectors(8, seed=2)
    store.upsert("t", [sample(f"x{n}", vector) for n, vector in enumerate(known[:3])])
    searcher = open_searcher(SPACE, Metric.COSINE)
    assert len(searcher.nearest("t", known[:1], 9)[0]) == 5
    put_back()
    store.upsert("t", [sample(f"y{n}", vector) for n, vector in enumerate(unknown[:later])])

    def has_begun_anew() -> bool:
        try:
            searcher.refresh()
            return searcher.applied == 2 + later
        except SearchUnavailable:  # while an index elsewhere is made again
            return False

    wait_until(has_begun_anew)
    rows = stored_vectors(store, "t")
    assert len(rows) == searcher.size("t") == 2 + later
    for probe in (*known, *unknown):
        (found,) = searcher.nearest("t", probe[np.newaxis], 9)
        assert_same(found, brute_force(rows, probe, Metric.COSINE, 9))


@pytest.mark.parametrize("kind", VECTOR_INDEXES)
def test_who_is_deleted_leaves_the_index_of_a_former_model(
    kind: str, gallery: Gallery, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_PAUSE", 0.01)
    monkeypatch.setattr(other_spaces, "_PAUSE", 0.01)
    monkeypatch.setattr(other_spaces, "_REST", 0.05)
    place = VECTOR_INDEXES[kind](request)
    names = {space: name_of(space, Metric.COSINE) for space in (SPACE, OTHER_SPACE)}

    def opened(space: str, dimensions: int) -> closing[RemoteSearcher]:
        index = place.open(names[space], dimensions, space, Metric.COSINE)
        lock = lock_to_apply(names[space])
        return closing(
            RemoteSearcher(gallery.store, gallery.locks, lock, index, space, dimensions, Metric.COSINE, 1_000_000)
        )

    store = gallery.store
    store.upsert("t", samples("abcdef"))
    keys = {id: key_of(store, "t", id) for id in "abcdef"}
    with opened(SPACE, 8):
        wait_until(lambda: place.keys(names[SPACE]) == set(keys.values()))
    store.delete("t", "a")  # while nobody serves
    with opened(OTHER_SPACE, 4) as other:
        wait_until(lambda: place.keys(names[SPACE]) == {keys[id] for id in "bcdef"})
        store.delete("t", "b")
        store.upsert("t", [sample("c", vectors(1, 4)[0], space=OTHER_SPACE)])
        store.upsert("t", [sample("d", vectors(1, seed=7)[0])])
        wait_until(lambda: place.keys(names[SPACE]) == {keys[id] for id in "ef"})
        wait_until(lambda: place.keys(names[OTHER_SPACE]) == {key_of(store, "t", "c", OTHER_SPACE)})
        # Fronts with either model at once.
        with opened(SPACE, 8) as former_one:
            near = former_one.nearest("t", vectors(1, seed=7), 9)[0]
            assert {one.key for one in near} == {key_of(store, "t", id) for id in "cdef"}
            assert near[0] == Neighbour(key_of(store, "t", "d"), 0.0)
            wait_until(lambda: place.keys(names[SPACE]) == {key_of(store, "t", id) for id in "cdef"})
            for id in "ce":
                store.delete("t", id)
            wait_until(lambda: place.keys(names[OTHER_SPACE]) == set())
            wait_until(lambda: place.keys(names[SPACE]) == {key_of(store, "t", id) for id in "df"})
            assert other.nearest("t", vectors(1, 4), 9) == [[]]
            assert len(former_one.nearest("t", vectors(1), 9)[0]) == 2


def test_ties_go_to_the_smaller_key(store: Store, open_searcher: OpenSearcher) -> None:
    vector = vectors(1, 128)[0]
    others = vectors(300, 128, seed=4)
    store.upsert("t", [sample(str(i), vector if i % 50 == 17 else others[i]) for i in range(300)])
    store.upsert("t", [sample("17", others[17]), sample("17", vector)])  # now the last row, yet the smallest key
    searcher = open_searcher(SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN, 128)
    expected = [Neighbour(key_of(store, "t", str(i)), 0.0) for i in range(17, 300, 50)]
    for k in (1, 2, 6):
        assert searcher.nearest("t", np.stack([vector, 3 * vector]), k)[0] == expected[:k]


def test_unusable_probes(store: Store, open_searcher: OpenSearcher) -> None:
    store.upsert("t", samples("ab"))
    searcher = open_searcher(SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    for dimensions in (7, 9):
        for tenant in "tu":
            with pytest.raises(SpaceMismatch):
                searcher.nearest(tenant, vectors(1, dimensions))
    for value in (np.nan, np.inf, 3e38):
        with pytest.raises(InvalidRequest):
            searcher.nearest("t", np.full((1, 8), value, np.float32))
    zero_and_other = np.stack([np.zeros(8, np.float32), vectors(1)[0]])
    assert [len(found) for found in searcher.nearest("t", zero_and_other, 2)] == [0, 2]
    raw = open_searcher(SPACE, Metric.EUCLIDEAN)
    assert [len(found) for found in raw.nearest("t", zero_and_other, 2)] == [2, 2]


@pytest.mark.parametrize("metric", Metric)
def test_extreme_lengths_are_compared(store: Store, open_searcher: OpenSearcher, metric: Metric) -> None:
    rows = [vector * scale for vector, scale in zip(vectors(4), (1e-20, 1e-3, 1e3, 1e17), strict=True)]
    rows = [row.astype(np.float32) for row in rows]
    store.upsert("t", [sample(str(i), row) for i, row in enumerate(rows)])
    searcher = open_searcher(SPACE, metric)
    for probe in rows:
        found = searcher.nearest("t", probe[np.newaxis], 4)[0]
        assert_same(found, brute_force(stored_vectors(store, "t"), probe, metric, 4))
        assert found[0].distance == 0.0


def test_a_sample_that_is_replaced_all_the_time_is_always_found(store: Store, open_searcher: OpenSearcher) -> None:
    """No search sees the sample missing, twice, or with a vector that it never had."""
    versions = vectors(40, 64, seed=6)
    store.upsert("t", [sample(f"other {i}", -versions[i]) for i in range(20)])
    store.upsert("t", [sample("a", versions[0])])
    key = key_of(store, "t", "a")
    searcher = open_searcher(SPACE, Metric.COSINE, 64)
    possible = np.array(
        [brute_force({key: version}, versions[0], Metric.COSINE, 1)[0].distance for version in versions]
    )
    finished = threading.Event()

    def replace() -> None:
        try:
            for _ in range(3):
                for version in versions:
                    store.upsert("t", [sample("a", version)])
        finally:
            finished.set()

    def search() -> int:
        searches = 0
        while not finished.is_set():
            found = searcher.nearest("t", versions[:1], 30)[0]
            assert len(found) == 21
            distances = [neighbour.distance for neighbour in found if neighbour.key == key]
            assert len(distances) == 1
            assert np.abs(possible - distances[0]).min() < 1e-9
            searches += 1
        return searches

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(search) for _ in range(3)]
        pool.submit(replace).result()
        assert all(reader.result() > 0 for reader in readers)
    assert searcher.nearest("t", versions[-1:])[0] == [Neighbour(key, 0.0)]
    assert searcher.size("t") == 21


MODEL, OTHER_MODEL = (ServedModel(CATALOGUE[name], "1", 8, "onnx", "cpu") for name in ("facenet", "sface"))
FACE = Face(Box(0, 0, 9, 9), np.zeros((5, 2), np.float32), 1.0)
QUALITY = Quality(100, 1, 1, 0, 128, 50, 0, 0, 0, 1, 1)


@pytest.fixture
def identifier(gallery: Gallery, open_searcher: OpenSearcher) -> Iterator[Identifier]:
    metrics = Metrics()
    journal = Journal(gallery.events, gallery.answers, gallery.directory, 30, metrics)
    identifier = Identifier(
        gallery.store,
        gallery.directory,
        journal,
        lambda space, dimensions, metric: open_searcher(space, metric, dimensions),
        FrontSettings(),
        metrics,
    )
    yield identifier
    identifier.close()


def when_looked_up(store: Store, monkeypatch: pytest.MonkeyPatch, *changes: Callable[[], object]) -> None:
    """Let others make changes between a search and the look-ups that follow it."""
    waiting, look_up = list(changes), store.by_keys

    def by_keys(*arguments: Any) -> Any:
        if waiting:
            waiting.pop(0)()
        return look_up(*arguments)

    monkeypatch.setattr(store, "by_keys", by_keys)


@pytest.mark.parametrize("rule", ["nearest", "vote"])
@pytest.mark.parametrize("closest", [0, 2])
def test_somebody_whose_nearest_samples_are_deleted_during_the_search_keeps_the_name(
    store: Store, identifier: Identifier, monkeypatch: pytest.MonkeyPatch, rule: Any, closest: int
) -> None:
    (probe,), steps = vectors(1, 128), 0.01 * vectors(12, 128, seed=1)
    own = store.add("t", [sample("a", probe + n * step, space=MODEL.space) for n, step in enumerate(steps)])
    store.add("t", [sample("b", -probe, space=MODEL.space)])
    searching = (FACE,), (QUALITY,), MODEL, probe[np.newaxis], None, rule, closest
    (before,) = identifier.find("t", *searching)
    assert (before.person.id if before.person else None, before.distance) == ("a", 0.0)
    when_looked_up(
        store,
        monkeypatch,
        lambda: [store.delete_sample("t", one.number) for one in own[:2]],
        lambda: [store.delete_sample("t", one.number) for one in own[2:4]],
    )
    (after,) = identifier.find("t", *searching)
    assert after.sample is not None
    assert (after.sample.number, after.sample.person.name) == (5, "name of a")
    assert [one.sample.person.id for one in after.closest] == ["a", "b"][:closest]


def test_a_name_goes_with_its_own_distance(
    store: Store, identifier: Identifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest sample becomes somebody else's photo during the search; the next one is still the first's."""
    near, next_one, far = vectors(1, 128)[0], vectors(1, 128)[0] + 0.05, -vectors(1, 128)[0]
    store.upsert("t", [sample("a", near, space=MODEL.space), sample("b", next_one, space=MODEL.space)])
    identifier.find("t", [FACE], [QUALITY], MODEL, near[np.newaxis])
    when_looked_up(store, monkeypatch, lambda: store.upsert("t", [sample("a", far, space=MODEL.space, name="new")]))
    (found,) = identifier.find("t", [FACE], [QUALITY], MODEL, near[np.newaxis])
    assert found.person is not None and found.person.id == "b"
    assert found.distance is not None and found.distance > 0.0


def test_another_model_leaves_searches_their_searcher(store: Store, identifier: Identifier) -> None:
    store.upsert("t", [sample("a", vectors(1, 128)[0], space=one.space) for one in (MODEL, OTHER_MODEL)])
    end = time.monotonic() + 0.5

    def search(model: ServedModel) -> int:
        count = 0
        while time.monotonic() < end:
            (found,) = identifier.find("t", [FACE], [QUALITY], model, vectors(1, 128))
            assert found.person is not None
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(search, [MODEL, OTHER_MODEL] * 2))
