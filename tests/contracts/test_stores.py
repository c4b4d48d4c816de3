"""What every store must do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from face_detection.gallery.store import Description, Sample, Store, Tombstone
from shared.errors import InvalidRequest, NotFound, QuotaExceeded, SpaceMismatch, StorageError
from tests.contracts.databases import DATABASES
from tests.galleries import open_store
from tests.gallery_samples import OTHER_SPACE, SPACE, ids_of, sample, samples, vectors


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    store = open_store(DATABASES[request.param](request))
    yield store
    store.close()


def test_an_empty_store(store: Store) -> None:
    assert store.last_change() == 0
    assert store.changes(0, 10) == store.feed("t", 0, 10) == store.samples("t", "a") == store.add("t", []) == []
    assert store.count("t") == store.count("t", SPACE) == store.clear("t") == store.upsert("t", []) == 0
    assert not store.delete("t", "a")
    assert not store.delete_sample("t", 1)
    page = store.page("t", 10)
    assert (list(page.people), page.next) == ([], None)
    assert store.by_keys("t", [1, 2]) == store.by_keys("t", []) == {}
    for call in (
        lambda: store.get("t", "a"),
        lambda: store.sample("t", 1),
        lambda: store.describe("t", "a", Description("b", None)),
        lambda: store.replace("t", 1, SPACE, vectors(1)[0]),
    ):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize(
    "metadata", [None, "text", 1.5, True, [], {"a": [None, {"ü\x00": "\ud800\x00"}]}, "'; DROP TABLE--"]
)
def test_a_person_comes_back_as_stored(store: Store, metadata: object) -> None:
    vector = vectors(1, 128)[0]
    before = datetime.now(UTC).replace(microsecond=0)
    store.upsert("t", [sample("a'\x01ü😀", vector, name="", metadata=metadata)])
    person = store.get("t", "a'\x01ü😀")
    assert (person.id, person.name, person.metadata, person.samples) == ("a'\x01ü😀", "", metadata, 1)
    assert person.created_at == person.updated_at
    assert before <= datetime.fromisoformat(person.created_at) <= datetime.now(UTC)
    (found,) = store.samples("t", person.id)
    assert (found.number, found.change, found.space, found.person) == (1, 1, SPACE, person)
    assert found.vector.dtype == np.float32
    np.testing.assert_array_equal(found.vector, vector)
    now = datetime.now(UTC).timestamp()
    assert before.timestamp() <= found.revision / 1e6 <= now + 1
    assert store.sample("t", 1) == found
    assert store.by_keys("t", [found.key]) == {found.key: found}
    assert list(store.page("t", 1).people) == [person]
    assert store.feed("t", 0, 1) == [found]


def test_a_person_who_is_stored_again_keeps_key_number_and_date_of_creation(store: Store) -> None:
    assert store.upsert("t", samples("ab")) == 2
    first = store.samples("t", "a")[0]
    time.sleep(0.01)
    replacement = vectors(1, 4, seed=9)[0]
    assert store.upsert("t", [sample("a", replacement, name="new", metadata=None, space=OTHER_SPACE)]) == 3
    second = store.samples("t", "a")[0]
    assert (second.key, second.number, second.change) == (first.key, first.number, 3)
    assert second.person.created_at == first.person.created_at
    assert second.person.updated_at > first.person.updated_at
    assert second.revision > first.revision
    assert (second.person.name, second.person.metadata, second.space) == ("new", None, OTHER_SPACE)
    np.testing.assert_array_equal(second.vector, replacement)
    assert (store.count("t"), store.count("t", SPACE), store.count("t", OTHER_SPACE)) == (2, 1, 1)


def test_of_equal_ids_in_one_batch_the_last_stays(store: Store) -> None:
    assert store.upsert("t", [sample("a", name="first"), sample("b"), sample("a", name="last")]) == 2
    assert store.get("t", "a").name == "last"
    assert (store.get("t", "a").samples, store.count("t")) == (1, 2)


def test_people_get_further_samples(store: Store) -> None:
    store.upsert("t", samples("a"))
    one, two, three = vectors(3, seed=4)
    added = store.add("t", [sample("b", one, name="Bea"), sample("a", two, name="not taken"), sample("b", three)])
    assert [(s.number, s.person.id, s.person.name, s.person.samples) for s in added] == [
        (2, "b", "Bea", 2),
        (3, "a", "name of a", 2),
        (4, "b", "Bea", 2),
    ]
    assert [s.number for s in store.samples("t", "b")] == [2, 4]
    np.testing.assert_array_equal(store.samples("t", "b")[1].vector, three)
    assert (store.count("t"), store.last_change()) == (4, 4)
    assert [c.number for c in store.changes(0, 10)] == [1, 2, 3, 4]


def test_storing_somebody_again_takes_away_all_but_one_sample(store: Store) -> None:
    store.add("t", [sample("a", vector) for vector in vectors(4)])
    store.upsert("t", [sample("b", vectors(1)[0]), sample("a", vectors(1, seed=3)[0])])
    (left,) = store.samples("t", "a")
    assert left.number == 1
    np.testing.assert_array_equal(left.vector, vectors(1, seed=3)[0])
    assert [type(entry) for entry in store.feed("t", 0, 10)].count(Tombstone) == 3
    assert store.count("t") == 2


def test_a_sample_gets_another_embedding(store: Store) -> None:
    store.add("t", [sample("a", vector) for vector in vectors(2)])
    before = store.sample("t", 2)
    store.replace("t", 2, SPACE, vectors(1, seed=7)[0])
    after = store.sample("t", 2)
    assert (after.key, after.person.name) == (before.key, before.person.name)
    assert (after.change, after.revision > before.revision) == (3, True)
    np.testing.assert_array_equal(after.vector, vectors(1, seed=7)[0])
    store.replace("t", 2, SPACE, vectors(1, seed=8)[0], Description("Ada", [1]))
    described = store.sample("t", 2)
    assert (described.person.name, described.person.metadata, described.person.action) == ("Ada", [1], None)
    np.testing.assert_array_equal(described.vector, vectors(1, seed=8)[0])
    with pytest.raises(SpaceMismatch):
        store.replace("t", 2, SPACE, vectors(1, 3)[0], Description("not taken", None))
    assert store.sample("t", 2) == described
    with pytest.raises(SpaceMismatch):
        store.replace("t", 2, SPACE, vectors(1, 3)[0])
    with pytest.raises(NotFound):
        store.replace("u", 2, SPACE, vectors(1)[0])


def test_a_new_description_is_a_change_of_every_sample(store: Store) -> None:
    store.add("t", [sample("a", vector) for vector in vectors(2)] + samples("b"))
    seen = store.feed("t", 0, 10)[-1].revision
    store.describe("t", "a", Description("Ada", {"new": True}))
    person = store.get("t", "a")
    assert (person.name, person.metadata, person.action, person.samples) == ("Ada", {"new": True}, None, 2)
    assert [entry.number for entry in store.feed("t", seen, 10)] == [1, 2]
    assert [change.number for change in store.changes(3, 10)] == [4, 5]
    with pytest.raises(InvalidRequest):
        store.describe("t", "a", Description("Ada", float("nan")))


def test_deleting_a_person(store: Store) -> None:
    store.upsert("t", samples("ab"))
    store.add("t", samples("a", seed=2))
    before = store.samples("t", "a")
    assert store.delete("t", "a")
    assert not store.delete("t", "a")
    with pytest.raises(NotFound):
        store.get("t", "a")
    assert ids_of(store, "t") == ["b"]
    assert (store.count("t"), store.samples("t", "a")) == (1, [])
    assert store.by_keys("t", [one.key for one in before]) == {}
    assert store.last_change() == 5
    store.upsert("t", samples("a"))
    after = store.samples("t", "a")[0]
    assert after.key not in {one.key for one in before}
    assert after.number == 4


def test_deleting_the_last_sample_deletes_the_person(store: Store) -> None:
    store.add("t", samples("a") + samples("a", seed=1))
    assert not store.delete_sample("u", 1)
    assert store.delete_sample("t", 1)
    assert not store.delete_sample("t", 1)
    assert store.get("t", "a").samples == 1
    assert store.delete_sample("t", 2)
    with pytest.raises(NotFound):
        store.get("t", "a")
    assert [(entry.number, type(entry)) for entry in store.feed("t", 0, 9)] == [(1, Tombstone), (2, Tombstone)]


def test_clearing_gives_every_sample_its_own_number(store: Store) -> None:
    store.upsert("t", samples("abc"))
    store.upsert("u", samples("a"))
    store.delete("t", "b")
    assert store.clear("t") == 2
    assert store.clear("t") == 0
    assert store.count("t") == 0
    assert ids_of(store, "u") == ["a"]
    assert [(c.number, c.tenant, c.vector is None) for c in store.changes(0, 10)] == [
        (4, "u", False),
        (5, "t", True),
        (6, "t", True),
        (7, "t", True),
    ]


def test_a_quota_is_kept_and_a_batch_beyond_it_changes_nothing(store: Store) -> None:
    store.upsert("t", samples("abc"), quota=3)
    store.upsert("u", samples("abc"), quota=3)
    for refused in (
        lambda: store.upsert("t", samples("cd"), quota=3),
        lambda: store.add("t", samples("a"), quota=3),
    ):
        with pytest.raises(QuotaExceeded):
            refused()
    assert (ids_of(store, "t"), store.count("t"), store.last_change()) == (["a", "b", "c"], 3, 6)
    store.upsert("t", samples("abc", seed=1), quota=3)
    store.delete("t", "a")
    store.add("t", samples("d"), quota=3)


def test_a_feed_tells_nothing_of_other_tenants(store: Store) -> None:
    store.upsert("u", samples("xyz"))
    store.upsert("t", samples("ab"))
    store.upsert("u", samples("x", seed=1))
    store.delete("t", "a")
    feed = store.feed("t", 0, 10)
    assert [entry.number for entry in feed] == [2, 1]
    assert [type(entry) for entry in feed] == [Sample, Tombstone]
    revisions = [entry.revision for entry in feed]
    assert revisions == sorted(set(revisions))
    assert store.feed("t", revisions[0], 10) == feed[1:]
    assert store.feed("t", 0, 1) == feed[:1]
    assert store.feed("t", revisions[1], 10) == []


def test_tenants_are_separate(store: Store) -> None:
    store.upsert("t", [sample("a", name="t's")])
    store.upsert("u", [sample("a", name="u's")])
    mine, other = store.samples("t", "a")[0], store.samples("u", "a")[0]
    assert (mine.person.name, other.person.name) == ("t's", "u's")
    assert (mine.number, other.number) == (1, 1)
    assert mine.key != other.key
    assert list(store.by_keys("t", [mine.key, other.key])) == [mine.key]
    assert store.delete("t", "a")
    assert not store.delete("t", "a")
    assert store.samples("u", "a") == [other]
    assert store.count("") == store.count("T") == 0


def test_pages_are_ordered_and_survive_changes_between_them(store: Store) -> None:
    names = ["é", "z", "a", "Z", "10", "9", "a b", "😀", "\uffff"]
    store.upsert("t", samples(names))
    assert ids_of(store, "t") == sorted(names)
    first = store.page("t", 4)
    assert [person.id for person in first.people] == sorted(names)[:4]
    store.delete("t", sorted(names)[3])
    store.delete("t", sorted(names)[4])
    store.upsert("t", samples(["!"]))
    rest = store.page("t", 4, first.next)
    assert [person.id for person in rest.people] == sorted(names)[5:]
    assert rest.next is None


def test_pages_of_a_search(store: Store) -> None:
    store.upsert(
        "t", [sample(id, name=name) for id, name in (("1", "Ann Lee"), ("2", "Bob"), ("lee", "x"), ("4", "100%"))]
    )

    def found(text: str, limit: int = 10) -> list[str]:
        return [person.id for person in store.page("t", limit, text=text).people]

    assert found("LEE") == ["1", "lee"]
    assert found("lee", 1) == ["1"]
    assert [person.id for person in store.page("t", 1, "1", "lee").people] == ["lee"]
    assert found("%") == ["4"]
    assert found("nobody") == []
    assert found("") == ["1", "2", "4", "lee"]


def test_changes_come_in_order_and_in_parts(store: Store) -> None:
    store.upsert("t", samples("abc"))
    store.upsert("u", [sample("a", vectors(1, 4)[0], space=OTHER_SPACE)])
    store.upsert("t", samples("b", seed=5))
    store.delete("t", "a")
    everything = store.changes(0, 100)
    assert [change.number for change in everything] == [3, 4, 5, 6]
    assert [change.number for change in store.changes(0, 2)] == [3, 4]
    assert [change.number for change in store.changes(4, 2)] == [5, 6]
    assert store.changes(6, 2) == []
    elsewhere, replaced, deleted = everything[1:]
    assert (elsewhere.tenant, elsewhere.space) == ("u", OTHER_SPACE)
    (mine,) = store.samples("t", "b")
    assert replaced.key == mine.key
    assert replaced.vector is not None
    np.testing.assert_array_equal(replaced.vector, mine.vector)
    assert (deleted.tenant, deleted.space, deleted.vector) == ("t", None, None)


def test_a_refused_batch_changes_nothing(store: Store) -> None:
    store.upsert("t", samples("a"))
    batch = [sample("b"), sample("c", vectors(1, 3)[0])]
    with pytest.raises(SpaceMismatch):
        store.upsert("t", batch)
    with pytest.raises(SpaceMismatch):
        store.upsert("t", batch[1:])
    with pytest.raises(SpaceMismatch):
        store.upsert("t", [batch[0], sample("c", vectors(1, 3)[0], space=OTHER_SPACE), sample("d", vectors(1, 3)[0])])
    assert ids_of(store, "t") == ["a"]
    assert store.last_change() == 1
    store.upsert("t", [sample("c", vectors(1, 3)[0], space=OTHER_SPACE)])


def test_nobody_is_stored_for_a_tenant_that_does_not_exist(store: Store) -> None:
    for call in (
        lambda: store.upsert("nobody", samples("a")),
        lambda: store.upsert("nobody", samples("a"), quota=0),
        lambda: store.add("nobody", samples("ab")),
        lambda: store.add("T", samples("a")),
    ):
        with pytest.raises(NotFound, match=r"^There is no such company\.$"):
            call()
    assert (store.last_change(), store.count("nobody"), list(store.page("nobody", 1).people)) == (0, 0, [])
    store.upsert("t", [sample("a", vectors(1, 3)[0])])  # no dimensions were taken down for the space either


def test_text_that_is_not_unicode_is_refused(store: Store) -> None:
    for call in (
        lambda: store.get("t", "\ud800"),
        lambda: store.delete("t", "\ud800"),
        lambda: store.page("t", 1, "\ud800"),
        lambda: store.upsert("\ud800", samples("a")),
        lambda: store.count("t", "\ud800"),
    ):
        with pytest.raises(InvalidRequest):
            call()
    assert store.last_change() == 0


def test_compacting_keeps_everything(store: Store) -> None:
    store.upsert("t", samples(map(str, range(50))))
    for number in range(0, 50, 2):
        store.delete("t", str(number))
    page, changes, feed = store.page("t", 100), store.changes(0, 100), store.feed("t", 0, 100)
    store.compact()
    assert store.page("t", 100) == page
    assert [change[:4] for change in store.changes(0, 100)] == [change[:4] for change in changes]
    assert store.feed("t", 0, 100) == feed
    assert store.upsert("t", samples("a")) == 76


def test_threads_share_a_store(store: Store) -> None:
    """Every writer's batches are whole at any time, and every change has its own number."""
    finished = threading.Event()
    last_changes: list[int] = []

    def write(tenant: str) -> None:
        for seed in range(15):
            last_changes.append(store.upsert(tenant, [sample(f"{seed}-{i}", v) for i, v in enumerate(vectors(7))]))

    def read() -> None:
        seen = 0
        while not finished.is_set():
            assert all(store.count(tenant) % 7 == 0 for tenant in "tuv")
            assert store.last_change() >= seen
            seen = store.last_change()
            assert all(person.name == f"name of {person.id}" for person in store.page("t", 20).people)

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for writer in [pool.submit(write, tenant) for tenant in "tuv"]:
                writer.result()
        finally:
            finished.set()
        for reader in readers:
            reader.result()
    assert sorted(last_changes) == list(range(7, 3 * 15 * 7 + 1, 7))
    assert [change.number for change in store.changes(0, 1000)] == list(range(1, 3 * 15 * 7 + 1))


def test_a_closed_store_says_so(store: Store) -> None:
    store.upsert("t", samples("a"))
    store.close()
    for call in (lambda: store.count("t"), lambda: store.upsert("t", samples("b")), store.last_change, store.compact):
        with pytest.raises(StorageError):
            call()
    store.close()
