"""Tombstones go, and whoever has missed what they told is told to start over, in every database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from face_detection.gallery import Gallery
from face_detection.gallery.people import Sample, Tombstone
from face_detection.gallery.sql.history import BATCH
from face_detection.gallery.sql.store import Store, follow
from shared.errors import CursorExpired
from tests.face_detection.api.doors.test_sync import gallery as held_by
from tests.face_detection.api.doors.test_sync import write_at_random
from tests.gallery_samples import sample, samples, vectors

LATER = 2**62
"""A time at which every tombstone is old."""


def tombstones(store: Store, tenant: str = "t") -> list[int]:
    """Numbers of the samples of which a tombstone is left."""
    begun = store.last_revision(tenant)
    return [one.number for one in store.feed(tenant, 0, 1000, begun).entries if isinstance(one, Tombstone)]


def delete(store: Store, *ids: str) -> None:
    for id in ids:
        assert store.delete("t", id)


def remove_all(gallery: Gallery) -> int:
    return sum(iter(lambda: gallery.tombstones.remove(LATER), 0))


def test_only_what_is_old_enough_is_removed_and_a_little_at_a_time(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abcdefg"))
    store.upsert("u", samples("ab"))
    delete(store, "a", "b", "c", "d")
    before = store.feed("t", 0, 100).entries[-1].revision
    delete(store, "e")
    assert gallery.tombstones.remove(before - 10_000_000) == 0
    assert gallery.tombstones.remove(before, limit=2) == 2
    assert tombstones(store) == [3, 4, 5]
    assert gallery.tombstones.remove(before, limit=2) == 1
    assert gallery.tombstones.remove(before, limit=2) == 0
    assert tombstones(store) == [4, 5]
    assert [person.id for person in store.page("t", 10).people] == ["f", "g"]
    assert [person.id for person in store.page("u", 10).people] == ["a", "b"]


def test_what_an_index_has_yet_to_see_stays(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abcd"))
    delete(store, "a", "b", "c")
    assert gallery.tombstones.remove(LATER, known=4) == 0
    assert gallery.tombstones.remove(LATER, known=5) == 1
    assert tombstones(store) == [2, 3]
    assert store.horizon() == 5


def test_nothing_is_numbered_twice(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abc"))
    last, change, revision = store.samples("t", "c")[0], store.last_change(), store.last_revision("t")
    for _ in range(3):
        store.clear("t")
        remove_all(gallery)
        assert store.last_change() > change and store.last_revision("t") > revision
        (new,) = store.add("t", [sample("d")])
        assert new.key > last.key and new.number == last.number + 1
        assert new.change == store.last_change() > change and new.revision == store.last_revision("t") > revision
        last, change, revision = new, new.change, new.revision
    assert len(tombstones(store)) <= 2


def test_a_tombstone_goes_once_others_have_come_after_it(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("ab"))
    delete(store, "b")
    assert remove_all(gallery) == 0
    store.upsert("t", samples("c"))
    assert remove_all(gallery) == 1
    assert tombstones(store) == []


def test_who_comes_later_starts_over(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abcd"))
    at_first = store.last_change(), store.last_revision("t")
    delete(store, "a")
    at_second = store.last_change(), store.last_revision("t")
    delete(store, "b")
    assert store.horizon() == 0
    gallery.tombstones.remove(LATER, limit=1)
    assert store.horizon() == at_second[0]
    for change, revision in ((0, 0), at_first):
        with pytest.raises(CursorExpired):
            store.changes(change, 10)
        with pytest.raises(CursorExpired):
            store.feed("t", revision, 10)
    assert [change.number for change in store.changes(at_second[0], 10)] == [at_second[0] + 1]
    assert [entry.number for entry in store.feed("t", at_second[1], 10).entries] == [2]
    assert store.feed("t", at_second[1] - 1, 10, begun=at_second[1]).entries


def test_who_knew_nothing_when_they_began_misses_nothing(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abcdef"))
    delete(store, "a", "b")
    remove_all(gallery)
    begun, revision = store.last_change(), store.last_revision("t")
    delete(store, "c")
    store.upsert("t", samples("d", seed=1))
    assert [(one.key, one.vector is None) for one in store.changes(0, 10, begun)] == [
        (store.samples("t", id)[0].key, False) for id in "ef"
    ] + [(3, True), (4, False)]
    assert [entry.number for entry in store.feed("t", 0, 10, revision).entries] == [5, 6, 2, 3, 4]
    remove_all(gallery)
    with pytest.raises(CursorExpired):
        store.changes(0, 10, begun)
    with pytest.raises(CursorExpired):
        store.feed("t", 0, 10, revision)


def test_of_nothing_but_tombstones_one_learns_how_far_they_are(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abc"))
    store.clear("t")
    begun = store.last_change()
    assert list(follow(store, 0, begun)) == [([], begun)]
    assert list(follow(store, begun, begun)) == []
    store.upsert("t", samples("de"))
    assert [(len(changes), reached) for changes, reached in follow(store, 0, begun, chunk=1)] == [
        (1, begun + 1),
        (1, begun + 2),
    ]


def test_tenants_have_horizons_of_their_own(gallery: Gallery, store: Store) -> None:
    store.upsert("u", samples("ab"))
    cursor = store.last_revision("u")
    time.sleep(0.001)
    store.upsert("t", samples("abc"))
    delete(store, "a", "b")
    assert remove_all(gallery) == 1
    assert store.feed("u", cursor, 10).entries == []
    assert len(store.feed("u", 0, 10).entries) == 2
    with pytest.raises(CursorExpired):
        store.feed("t", 0, 10)


def test_a_horizon_outlives_its_tenant(gallery: Gallery, store: Store) -> None:
    store.upsert("t", samples("abc"))
    (*_, cursor) = (entry.revision for entry in store.feed("t", 0, 10).entries)
    store.clear("t")
    gallery.directory.delete_tenant("t")
    assert remove_all(gallery) == 2
    with pytest.raises(CursorExpired):
        store.feed("t", cursor, 10)


class Follower:
    """Holds the samples of a tenant, by number, and starts over where it must."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant
        self.held: dict[int, object] = {}
        self.starts = 0
        self._since = self._begun = 0

    def catch_up(self, limit: Callable[[], int], between: Callable[[], object]) -> None:
        while True:
            if not self._since:
                self.held.clear()
                self._begun = self._store.last_revision(self._tenant)
                self.starts += 1
            try:
                feed = self._store.feed(self._tenant, self._since, limit(), self._begun)
            except CursorExpired:
                self._since = 0
                continue
            for entry in feed.entries:
                self._since = entry.revision
                self.held.pop(entry.number, None)
                if isinstance(entry, Sample):
                    described = (entry.person.name, entry.person.metadata)
                    self.held[entry.number] = (entry.revision, *described, entry.vector.tolist())
            between()
            if not feed.more:
                return


@pytest.mark.parametrize("seed", range(3))
def test_followers_hold_the_gallery_whatever_is_removed_meanwhile(gallery: Gallery, store: Store, seed: int) -> None:
    chance = random.Random(seed)
    lazy, often = Follower(store, "t"), Follower(store, "t")
    for step in range(6):
        writer = threading.Thread(target=write_at_random, args=(store, "t", 10 * seed + step, 12))
        writer.start()

        def between() -> None:
            if chance.random() < 0.3:
                gallery.tombstones.remove(LATER, limit=chance.randrange(1, 6))

        for _ in range(3):
            often.catch_up(lambda: chance.randrange(1, 6), between)
        writer.join()
        remove_all(gallery)
    for follower in (lazy, often):
        follower.catch_up(lambda: 3, lambda: None)
        assert follower.held == held_by(store, "t")
    assert often.starts > 1


def test_many_are_removed_batch_by_batch(gallery: Gallery, store: Store) -> None:
    store.upsert("t", [sample(f"{n}", row) for n, row in enumerate(vectors(2500))])
    store.clear("t")
    store.upsert("t", samples("a"))
    assert [gallery.tombstones.remove(LATER) for _ in range(4)] == [BATCH, BATCH, 500, 0]
    assert tombstones(store) == []
