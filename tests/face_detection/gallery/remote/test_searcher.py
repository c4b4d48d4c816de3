"""The searcher over an index elsewhere, with an index whose every weakness can be chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.servers.waiting import wait_until
from face_detection.gallery import Gallery
from face_detection.gallery.people import Change
from face_detection.gallery.remote import follower
from face_detection.gallery.remote.follower import rebuild
from face_detection.gallery.remote.index import Candidates, GalleryIndexes, IndexState
from face_detection.gallery.remote.searcher import RemoteSearcher
from face_detection.gallery.search.distances import prepare
from face_detection.gallery.search.searcher import Neighbour
from shared.errors import SearchUnavailable
from shared.models import Metric
from tests.gallery_samples import OTHER_SPACE, SPACE, brute_force, key_of, sample, samples, vectors

METRIC = Metric.TENFOLD_UNIT_EUCLIDEAN
TURN = "search-test"

Rows = dict[int, tuple[str, NDArray[np.float32]]]


class Server:
    """What outlives the handles: rows by key, the position, and whether it can be reached."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.published: Contents = Contents()
        self.is_away = False
        self.applications = 0


class Contents:
    def __init__(self) -> None:
        self.rows: Rows = {}
        self.position = 0
        self.begun = 0


class OnlyIndex:
    """``GalleryIndexes`` of a gallery that never had another model."""

    own = "test"

    def __init__(self, server: Server) -> None:
        self._server = server

    def states(self) -> Sequence[IndexState]:
        contents = self._server.published
        return [IndexState(self.own, max(contents.position, contents.begun), leftovers=False)]

    def remove(self, name: str, changes: Sequence[Change], position: int) -> None:
        raise AssertionError(name)

    def drop_leftovers(self, name: str) -> None:
        raise AssertionError(name)

    def drop(self, name: str) -> None:
        assert name == self.own
        self._server.published = Contents()


class ScannedIndex:
    """A ``VectorIndex`` that measures every row, in whole numbers, and shows changes only after a while."""

    name = "scanned"

    def __init__(self, server: Server, settling: float = 0.0, limit: int = 10_000) -> None:
        self.settling = settling
        self.indexes: GalleryIndexes = OnlyIndex(server)
        self._server = server
        self._limit = limit
        self._own: Contents | None = None

    @property
    def _contents(self) -> Contents:
        if self._server.is_away:
            raise SearchUnavailable("The index is away.")
        return self._own or self._server.published

    def position(self) -> int:
        return self._contents.position

    def begin(self, change: int) -> int:
        contents = self._contents
        contents.begun = max(contents.begun, contents.position) or change
        return contents.begun

    def apply(self, changes: Sequence[Change], since: int, position: int) -> None:
        contents = self._contents
        with self._server.lock:
            if contents.position < since:
                raise SearchUnavailable("The index was lost.")
            self._server.applications += 1
            for change in changes:
                if change.space == SPACE and change.vector is not None:
                    contents.rows[change.key] = change.tenant, prepare(change.vector[np.newaxis], METRIC)[0]
                else:
                    contents.rows.pop(change.key, None)
            contents.position = max(position, contents.position)

    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int) -> Candidates:
        contents = self._contents
        with self._server.lock:
            own = [(key, row) for key, (whose, row) in contents.rows.items() if whose == tenant]
        k = min(k, self._limit)
        keys = []
        for probe in probes:
            near = sorted((round(float(np.linalg.norm(row - probe)), 1), key) for key, row in own)
            keys.append([key for _, key in near[:k]])
        return Candidates(keys, [k >= len(own)] * len(probes), exact=False)

    def fresh(self) -> Self:
        index = type(self)(self._server, self.settling, self._limit)
        index._own = Contents()
        return index

    def complete(self) -> None:
        assert self._own is not None and self._own.position > 0

    def publish(self) -> None:
        assert self._own is not None
        self._server.published, self._own = self._own, None

    def drop(self) -> None:
        self._own = None

    def close(self) -> None:
        self._server = Server()
        self._server.is_away = True


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_PAUSE", 0.01)
    monkeypatch.setattr(follower, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def server() -> Server:
    return Server()


Open = Callable[..., RemoteSearcher]


@pytest.fixture
def searcher(gallery: Gallery, server: Server) -> Iterator[Open]:
    """Opens searchers, each as another process would."""
    opened: list[RemoteSearcher] = []

    def open_one(settling: float = 0.0, limit: int = 10_000, most: int = 1_000_000) -> RemoteSearcher:
        index = ScannedIndex(server, settling, limit)
        opened.append(RemoteSearcher(gallery.store, gallery.locks, TURN, index, SPACE, 8, METRIC, most))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@contextmanager
def turn_held(gallery: Gallery) -> Iterator[None]:
    """Nobody applies changes meanwhile."""
    with ExitStack() as held:
        wait_until(lambda: held.enter_context(gallery.locks.take(TURN)))
        yield


def expected(gallery: Gallery, probes: NDArray[np.float32], k: int) -> list[list[Neighbour]]:
    rows = {
        change.key: change.vector
        for change in gallery.store.changes(0, 1_000_000)
        if change.tenant == "t" and change.space == SPACE and change.vector is not None
    }
    return [brute_force(rows, probe, METRIC, k) for probe in probes]


def test_changes_reach_the_index_and_leave_the_overlay(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples("abc"))
    one, other = searcher(), searcher()
    assert one.nearest("t", vectors(3), 5) == other.nearest("t", vectors(3), 5) == expected(gallery, vectors(3), 5)
    wait_until(lambda: one.lag == other.lag == 0)
    assert server.published.position == 3 and len(server.published.rows) == 3
    wait_until(lambda: one._follower.pending().base == other._follower.pending().base == 3)
    assert not one._follower.pending().touched("t") and one._follower.pending().size("t") == 0
    assert one.nearest("t", vectors(3), 5) == expected(gallery, vectors(3), 5)
    gallery.store.delete("t", "b")
    assert one.nearest("t", vectors(3), 5) == expected(gallery, vectors(3), 5)
    wait_until(lambda: len(server.published.rows) == 2)


def test_what_is_measured_is_the_database_and_not_the_index(gallery: Gallery, server: Server, searcher: Open) -> None:
    """The index rounds distances to a tenth; answers are exact, and so is their order."""
    gallery.store.upsert("t", samples(map(str, range(200))))
    one = searcher()
    wait_until(lambda: one.lag == 0)
    found = one.nearest("t", vectors(20, seed=5), 1)
    assert found == expected(gallery, vectors(20, seed=5), 1) and not found.exact


def test_one_process_applies_what_all_see(gallery: Gallery, server: Server, searcher: Open) -> None:
    several = [searcher() for _ in range(4)]
    for number in range(40):
        gallery.store.upsert("t", samples([str(number)], seed=number))
        probe = vectors(1, seed=number)
        key = key_of(gallery.store, "t", str(number))
        for one in several:
            assert one.nearest("t", probe)[0] == [Neighbour(key, 0.0)]
    wait_until(lambda: all(one.lag == 0 for one in several))
    assert server.applications <= 40


def test_an_overlay_covers_what_the_index_does_not_show_yet(gallery: Gallery, server: Server, searcher: Open) -> None:
    one = searcher(settling=0.3)
    gallery.store.upsert("t", samples("ab"))
    wait_until(lambda: server.published.position == 2)
    server.published.rows.clear()  # as a replica that is behind
    assert one.nearest("t", vectors(2), 2) == expected(gallery, vectors(2), 2)
    assert one.lag == 2
    wait_until(lambda: one.lag == 0)
    wait_until(lambda: one.nearest("t", vectors(2), 2) == [[], []])  # it said that it has them, and is believed


def test_a_lost_index_is_made_again_while_searches_go_on(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples(map(str, range(50))))
    one = searcher()
    wait_until(lambda: one._follower.pending().base == 50)
    server.published = Contents()
    wait_until(lambda: server.published.position == 50)
    assert one.nearest("t", vectors(3), 5) == expected(gallery, vectors(3), 5)
    assert len(server.published.rows) == 50


def test_an_index_that_is_lost_while_changes_are_applied(gallery: Gallery, server: Server, searcher: Open) -> None:
    one = searcher()

    class Losing(Contents):
        @property
        def position(self) -> int:
            return self._position

        @position.setter
        def position(self, number: int) -> None:
            self._position = number
            if number >= 60:
                server.published = Contents()

    server.published = Losing()
    for number in range(100):
        gallery.store.upsert("t", samples([str(number)], seed=number))
    wait_until(lambda: len(server.published.rows) == 100 and one._follower.pending().base == 100)
    assert one.nearest("t", vectors(9), 3) == expected(gallery, vectors(9), 3)


def test_an_index_that_is_away(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples("ab"))
    server.is_away = True
    one = searcher()
    with pytest.raises(SearchUnavailable, match="away"):
        one.nearest("t", vectors(1))
    server.is_away = False
    wait_until(lambda: one._follower._pending is not None)
    assert one.nearest("t", vectors(1)) == expected(gallery, vectors(1), 1)
    server.is_away = True
    with pytest.raises(SearchUnavailable):
        one.nearest("t", vectors(1))
    gallery.store.upsert("t", samples("cd", seed=3))
    server.is_away = False
    assert one.nearest("t", vectors(3, seed=3), 2) == expected(gallery, vectors(3, seed=3), 2)
    wait_until(lambda: one.lag == 0)


def test_a_database_that_was_replaced_by_an_older_one(gallery: Gallery, server: Server, searcher: Open) -> None:
    server.published.position = 7
    one = searcher()
    with pytest.raises(SearchUnavailable, match="rebuilt"):
        one.nearest("t", vectors(1))


def test_an_index_that_is_too_far_behind_is_waited_for(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples(map(str, range(100))))
    with turn_held(gallery):
        one = searcher(most=50)
        with pytest.raises(SearchUnavailable, match="catch up"):
            one.nearest("t", vectors(1))
    wait_until(lambda: one._follower._pending is not None)
    assert one.nearest("t", vectors(1)) == expected(gallery, vectors(1), 1)


def test_near_samples_that_have_all_changed_hide_no_others(gallery: Gallery, server: Server, searcher: Open) -> None:
    """The index knows 300 samples at the probe, which have moved away; the nearest now is far behind them."""
    probe = vectors(1)
    gallery.store.upsert("t", [sample(str(number), probe[0]) for number in range(300)])
    gallery.store.upsert("t", [sample("apart", -probe[0] + vectors(1, seed=2)[0])])
    one, limited = searcher(), searcher(limit=100)
    wait_until(lambda: one.lag == 0 and limited._follower.pending().base == 301)
    with turn_held(gallery):
        gallery.store.upsert("t", [sample(str(number), -probe[0]) for number in range(300)])
        found = one.nearest("t", probe, 3)
        assert found == expected(gallery, probe, 3)
        assert found[0][0].key == key_of(gallery.store, "t", "apart")
        with pytest.raises(SearchUnavailable, match="Too much"):
            limited.nearest("t", probe, 3)


def test_samples_of_another_space(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples("ab"))
    one = searcher()
    wait_until(lambda: one.lag == 0)
    gallery.store.upsert("t", [sample("a", space=OTHER_SPACE)])
    assert one.nearest("t", vectors(1), 5) == expected(gallery, vectors(1), 5)
    gallery.store.replace("t", 2, OTHER_SPACE, vectors(1)[0])
    assert one.nearest("t", vectors(1), 5) == expected(gallery, vectors(1), 5)
    wait_until(lambda: server.published.rows.keys() == {key_of(gallery.store, "t", id) for id in "ab"})
    assert one.size("t") == 2


def test_rebuilding_while_serving(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples(map(str, range(300))))
    one = searcher()
    wait_until(lambda: one.lag == 0)
    server.published.rows.clear()  # damaged: it has nothing of what it says
    assert one.nearest("t", vectors(1)) == [[]]
    finished = threading.Event()

    def enrol() -> int:
        number = 300
        while not finished.is_set():
            gallery.store.upsert("t", samples([str(number)], seed=number))
            assert one.nearest("t", vectors(1, seed=number))[0][0].distance == 0.0
            number += 1
        return number

    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor() as pool:
        enrolling = pool.submit(enrol)
        index = ScannedIndex(server)
        position = rebuild(gallery.store, gallery.locks, TURN, index, lambda *so_far: seen.append(so_far))
        finished.set()
        total = enrolling.result()
    assert 300 <= position <= total and seen[-1][0] == position and all(done <= last for done, last in seen)
    wait_until(lambda: one.lag == 0)
    assert len(server.published.rows) == total
    assert one.nearest("t", vectors(20, seed=9), 4) == expected(gallery, vectors(20, seed=9), 4)


def test_a_rebuild_that_fails_leaves_everything_as_it_was(gallery: Gallery, server: Server, searcher: Open) -> None:
    gallery.store.upsert("t", samples("ab"))
    one = searcher()
    wait_until(lambda: one.lag == 0)
    before = server.published

    def fail(applied: int, last: int) -> None:
        raise SearchUnavailable("The index has gone.")

    with pytest.raises(SearchUnavailable):
        rebuild(gallery.store, gallery.locks, TURN, ScannedIndex(server), fail)
    assert server.published is before
    assert one.nearest("t", vectors(2), 2) == expected(gallery, vectors(2), 2)


def test_one_process_rebuilds_at_a_time(gallery: Gallery, server: Server) -> None:
    gallery.store.upsert("t", samples("ab"))

    def again(applied: int, last: int) -> None:
        with pytest.raises(SearchUnavailable, match="Another process"):
            rebuild(gallery.store, gallery.locks, TURN, ScannedIndex(server))

    for _ in range(2):
        assert rebuild(gallery.store, gallery.locks, TURN, ScannedIndex(server), again) == 2
    assert len(server.published.rows) == 2


def test_random_changes_from_many_threads(gallery: Gallery, server: Server, searcher: Open) -> None:
    """Every search sees what its own thread has written before it, whatever the others and the projectors do."""
    several = [searcher(settling=settling) for settling in (0.0, 0.02)]
    stop = threading.Event()

    def make_again() -> None:
        while not stop.wait(0.1):
            rebuild(gallery.store, gallery.locks, TURN, ScannedIndex(server))

    def work(thread: int) -> None:
        rng = np.random.default_rng(thread)
        mine: dict[str, NDArray[np.float32]] = {}
        for step in range(150):
            id = f"{thread}-{rng.integers(12)}"
            if id in mine and rng.random() < 0.3:
                gallery.store.delete("t", id)
                gone = mine.pop(id)
                found = several[step % 2].nearest("t", gone[np.newaxis])[0]
                assert not found or found[0].distance > 1e-6
            else:
                mine[id] = rng.standard_normal(8).astype(np.float32)
                gallery.store.upsert("t", [sample(id, mine[id])])
                found = several[step % 2].nearest("t", mine[id][np.newaxis])[0]
                assert found == [Neighbour(key_of(gallery.store, "t", id), 0.0)]

    with ThreadPoolExecutor() as pool:
        rebuilding = pool.submit(make_again)
        for working in [pool.submit(work, thread) for thread in range(4)]:
            working.result()
        stop.set()
        rebuilding.result()
    assert several[0].nearest("t", vectors(9, seed=1), 7) == expected(gallery, vectors(9, seed=1), 7)
