"""Indexes elsewhere that are behind: of other models, or with deletions missed which are no longer known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from deploy.servers.waiting import wait_until
from face_detection.gallery import Gallery
from face_detection.gallery.remote import follower, other_spaces
from face_detection.gallery.remote.follower import rebuild
from face_detection.gallery.remote.index import VectorIndex, lock_to_apply, lock_to_rebuild
from face_detection.gallery.remote.other_spaces import OtherSpaces, drop_former
from face_detection.gallery.remote.searcher import RemoteSearcher
from face_detection.gallery.sql.store import Store
from shared.errors import CursorExpired
from shared.models import Metric
from tests.contracts.vector_indexes import FORMER, NAME, Place
from tests.galleries import open_gallery, remove_tombstones
from tests.gallery_samples import OTHER_SPACE, SPACE, key_of, samples, vectors

IDS = [f"{number:02}" for number in range(20)]
METRIC = Metric.TENFOLD_UNIT_EUCLIDEAN


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.setattr(follower, "_PAUSE", 0.01)
    monkeypatch.setattr(other_spaces, "_PAUSE", 0.0)
    monkeypatch.setattr(other_spaces, "_REST", 0.0)
    gallery = open_gallery(":memory:")
    gallery.store.upsert("t", samples(IDS))
    yield gallery
    gallery.close()


Open = Callable[[], RemoteSearcher]


@pytest.fixture
def searcher(gallery: Gallery, place: Place) -> Iterator[Open]:
    """Opens searchers, each as another process would."""
    opened: list[RemoteSearcher] = []

    def open_one() -> RemoteSearcher:
        lock = lock_to_apply(NAME)
        opened.append(RemoteSearcher(gallery.store, gallery.locks, lock, place.open(), SPACE, 8, METRIC, 1_000_000))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def keys(store: Store) -> set[int]:
    """Those of all samples there are."""
    return {one.key for id in IDS for one in store.samples("t", id)}


def forget(gallery: Gallery, *ids: str) -> None:
    """Delete people, and the tombstones that tell of them."""
    for id in ids:
        gallery.store.delete("t", id)
    gallery.store.upsert("t", samples(["later"]))
    remove_tombstones(gallery)


def follows(place: Place, store: Store, searcher: RemoteSearcher) -> bool:
    wait_until(lambda: searcher.lag == 0)
    return place.keys(NAME) == keys(store) | {store.samples("t", "later")[0].key}


def test_one_that_comes_too_late_is_made_anew(
    gallery: Gallery, store: Store, place: Place, searcher: Open, caplog: pytest.LogCaptureFixture
) -> None:
    first = searcher()
    wait_until(lambda: place.keys(NAME) == keys(store))
    first.close()
    forget(gallery, *IDS[:18])
    late = searcher()
    assert follows(place, store, late)
    probes = vectors(20)
    assert [[one.key for one in near] for near in late.nearest("t", probes[18:], 1)] == [[19], [20]]
    assert {one.key for near in late.nearest("t", probes[:18], 3) for one in near} == keys(store) | {21}
    assert caplog.text.count("the search index has missed deletions and is made anew") == 1


def test_one_that_is_being_made_is_none_that_comes_too_late(
    gallery: Gallery, store: Store, place: Place, searcher: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever began with it has died; its position is before the horizon, but deletions up to the beginning are none
    that it could have missed."""
    forget(gallery, *IDS[:5])
    index = place.open()
    begun = index.begin(store.last_change())
    some = store.changes(0, 7, begun)
    assert [change.vector is None for change in some] == [False] * 7
    index.apply(some, 0, some[-1].number)
    assert index.position() < store.horizon()
    store.delete("t", "06")
    assert follows(place, store, searcher())
    assert "made anew" not in caplog.text and "made again" not in caplog.text


def test_what_was_deleted_since_one_was_begun_can_be_missed(
    gallery: Gallery, store: Store, place: Place, searcher: Open, caplog: pytest.LogCaptureFixture
) -> None:
    index = place.open()
    begun = index.begin(store.last_change())
    some = store.changes(0, 7, begun)
    index.apply(some, 0, some[-1].number)
    forget(gallery, *IDS[:5])
    assert follows(place, store, searcher())
    assert "the search index has missed deletions and is made anew" in caplog.text


def test_nothing_but_tombstones(gallery: Gallery, store: Store, place: Place, searcher: Open) -> None:
    store.clear("t")
    index = searcher()
    wait_until(lambda: index.lag == 0)
    assert place.open().position() == store.last_change()
    assert index.nearest("t", vectors(1)) == [[]]


def test_a_rebuild_leaves_out_what_is_deleted(gallery: Gallery, store: Store, place: Place) -> None:
    forget(gallery, *IDS[:5])
    store.delete("t", "06")
    index = place.open()
    index.apply([], 0, 0)
    assert rebuild(store, gallery.locks, lock_to_apply(NAME), index) == store.last_change()
    assert place.keys(NAME) == keys(store) | {store.samples("t", "later")[0].key}


def test_what_is_being_rebuilt_is_not_dropped_as_well(
    gallery: Gallery, store: Store, place: Place, searcher: Open
) -> None:
    index = place.open()
    index.apply(store.changes(0, 100), 0, store.last_change())
    forget(gallery, *IDS[:5])
    with gallery.locks.take(lock_to_rebuild(lock_to_apply(NAME))) as taken:
        assert taken
        late = searcher()
        fresh = index.fresh()
        changes = store.changes(0, 100, store.last_change())
        fresh.apply(changes, 0, changes[-1].number)
        fresh.publish()
    assert follows(place, store, late)


def test_a_former_one_that_comes_too_late_is_dropped(
    gallery: Gallery, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    index = place.open(FORMER)
    index.apply(store.changes(0, 100), 0, store.last_change())
    upkeep = OtherSpaces(store, gallery.locks, place.open(NAME, 4, OTHER_SPACE))
    forget(gallery, *IDS[:5])
    with pytest.raises(CursorExpired):
        store.changes(index.position(), 10)
    upkeep.look()
    assert place.keys(FORMER) == set()
    assert "a former search index has missed deletions and is dropped" in caplog.text


def test_a_former_one_that_is_free_of_what_was_deleted_goes_on(
    gallery: Gallery, store: Store, place: Place, searcher: Open, caplog: pytest.LogCaptureFixture
) -> None:
    first = searcher()
    wait_until(lambda: place.keys(NAME) == keys(store))
    first.close()
    for id in IDS[:5]:
        store.delete("t", id)
    OtherSpaces(store, gallery.locks, place.open(FORMER, 4, OTHER_SPACE)).look()
    assert place.keys(NAME) == keys(store)
    forget(gallery)
    assert place.open().position() < store.horizon()
    again = searcher()
    assert follows(place, store, again)
    assert "made a" not in caplog.text


@pytest.fixture
def index(place: Place, gallery: Gallery) -> VectorIndex:
    """That of a former model, which has everybody."""
    index = place.open(FORMER)
    index.apply(gallery.store.changes(0, 1000), 0, gallery.store.last_change())
    return index


@pytest.fixture
def upkeep(place: Place, gallery: Gallery, index: VectorIndex) -> OtherSpaces:
    """Of a process that works with another model."""
    return OtherSpaces(gallery.store, gallery.locks, place.open(NAME, 4, OTHER_SPACE))


def delete(gallery: Gallery, ids: list[str]) -> set[int]:
    """Returns the keys of those who are left."""
    for id in ids:
        gallery.store.delete("t", id)
    return {key_of(gallery.store, "t", id) for id in IDS if gallery.store.samples("t", id)}


def test_a_little_at_a_time(
    place: Place, gallery: Gallery, upkeep: OtherSpaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_spaces, "CHUNK", 2)
    left = delete(gallery, IDS[:5])
    counts = []
    for _ in range(4):
        upkeep.look()
        counts.append(len(place.keys(FORMER)))
    assert counts == [18, 16, 15, 15]
    assert place.keys(FORMER) == left


def test_it_waits_between_two_looks(
    place: Place, gallery: Gallery, upkeep: OtherSpaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_spaces, "_REST", 3600.0)
    upkeep.look()
    delete(gallery, IDS[:5])
    upkeep.look()
    assert len(place.keys(FORMER)) == 20


def test_what_was_written_meanwhile_by_a_process_that_died_is_removed(
    place: Place, gallery: Gallery, index: VectorIndex, upkeep: OtherSpaces
) -> None:
    """It read its changes before somebody was deleted, and wrote them after others had removed what was deleted."""
    gallery.store.upsert("t", samples(["late"]))
    with gallery.locks.take(lock_to_apply(FORMER)) as taken:
        assert taken
        position = index.position()
        changes = gallery.store.changes(position, 100)
        late = key_of(gallery.store, "t", "late")
        left = delete(gallery, ["late", *IDS[:5]])
        upkeep.look()
        assert len(place.keys(FORMER)) == 20  # it is seen to by somebody else
        index.apply(changes, position, changes[-1].number)
        assert late in place.keys(FORMER)
    upkeep.look()
    assert place.keys(FORMER) == left


def test_a_rebuild_keeps_what_it_makes_and_a_killed_one_does_not(
    place: Place, gallery: Gallery, index: VectorIndex, upkeep: OtherSpaces
) -> None:
    changes = gallery.store.changes(0, 1000)
    left = delete(gallery, IDS[:5])
    with gallery.locks.take(lock_to_rebuild(lock_to_apply(FORMER))) as taken:
        assert taken
        fresh = index.fresh()
        fresh.apply(changes, 0, 20)
        upkeep.look()
        upkeep.look()
        assert fresh.position() == 20
        assert len(place.keys(FORMER)) == 20
        fresh.close()
    upkeep.look()
    assert place.keys(FORMER) == left


def test_a_server_that_is_away(
    place: Place, gallery: Gallery, upkeep: OtherSpaces, caplog: pytest.LogCaptureFixture
) -> None:
    assert place.killed is not None
    upkeep.look()
    left = delete(gallery, IDS[:5])
    with place.killed():
        for _ in range(3):
            upkeep.look()
    assert caplog.text.count("what was removed stays in former search indexes for now") == 1
    upkeep.look()
    assert place.keys(FORMER) == left


def test_one_that_is_being_brought_up_to_date_is_not_dropped(
    place: Place, gallery: Gallery, index: VectorIndex
) -> None:
    present = place.open(NAME, 4, OTHER_SPACE)
    with gallery.locks.take(lock_to_apply(FORMER)) as taken:
        assert taken
        assert list(drop_former(gallery.locks, present)) == [(FORMER, "A service is bringing it up to date.")]
    assert len(place.keys(FORMER)) == 20
    assert list(drop_former(gallery.locks, present)) == [(FORMER, "")]
    assert list(drop_former(gallery.locks, present)) == []
    assert place.keys(FORMER) == set()
