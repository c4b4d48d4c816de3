"""What every store must do."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Description, Person, Sample, Tombstone
from face_detection.gallery.sql import history, rows
from face_detection.gallery.sql.store import Store, known_id
from face_detection.gallery.sql.tables import ids_of_people
from shared.errors import InvalidRequest, NotFound, QuotaExceeded, SpaceMismatch, StorageError
from tests.contracts.databases import DATABASES
from tests.galleries import open_gallery
from tests.gallery_samples import OTHER_SPACE, SPACE, ids_of, sample, samples, vectors


def test_an_empty_store(store: Store) -> None:
    assert store.last_change() == 0
    assert store.changes(0, 10) == store.feed("t", 0, 10).entries == store.samples("t", "a") == store.add("t", []) == []
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
    assert store.feed("t", 0, 1).entries == [found]


def test_a_person_who_is_stored_again_keeps_key_number_and_date_of_creation(store: Store) -> None:
    assert store.upsert("t", samples("ab")) == 2
    first = store.samples("t", "a")[0]
    time.sleep(0.01)
    replacement = vectors(1, seed=9)[0]
    assert store.upsert("t", [sample("a", replacement, name="new", metadata=None)]) == 3
    second = store.samples("t", "a")[0]
    assert (second.key, second.number, second.change) == (first.key, first.number, 3)
    assert second.person.created_at == first.person.created_at
    assert second.person.updated_at > first.person.updated_at
    assert second.revision > first.revision
    assert (second.person.name, second.person.metadata, second.space) == ("new", None, SPACE)
    np.testing.assert_array_equal(second.vector, replacement)
    assert (store.count("t"), store.count("t", SPACE), store.count("t", OTHER_SPACE)) == (2, 2, 0)


def test_storing_somebody_again_leaves_the_samples_of_other_spaces(store: Store) -> None:
    former = store.add("t", [sample("a", vector) for vector in vectors(8)] + samples("b"))
    seen = former[-1].revision
    assert store.upsert("t", [sample("a", vectors(1, 4)[0], space=OTHER_SPACE, name="new", metadata=1)]) == 18
    own = store.samples("t", "a")
    assert [(one.number, one.space) for one in own] == [(n, SPACE) for n in range(1, 9)] + [(10, OTHER_SPACE)]
    assert {(one.person.name, one.person.samples) for one in own} == {("new", 9)}
    for before, after in zip(former[:8], own[:8], strict=True):
        assert before.key == after.key
        np.testing.assert_array_equal(before.vector, after.vector)
    assert [entry.number for entry in store.feed("t", seen, 20).entries] == [*range(1, 9), 10]
    store.upsert("t", [sample("a", vectors(1, 4, seed=1)[0], space=OTHER_SPACE)])
    assert [one.number for one in store.samples("t", "a")] == [*range(1, 9), 10]
    store.upsert("t", samples("a", seed=5))
    assert [(one.number, one.space) for one in store.samples("t", "a")] == [(1, SPACE), (10, OTHER_SPACE)]
    assert (store.count("t"), store.count("t", SPACE), store.count("t", OTHER_SPACE)) == (3, 2, 1)
    assert store.delete("t", "a")
    assert (store.count("t"), store.count("t", OTHER_SPACE)) == (1, 0)


def test_one_batch_stores_samples_of_several_spaces(store: Store) -> None:
    store.add("t", samples("ab"))
    batch = [sample("a", vectors(1, 4)[0], space=OTHER_SPACE), sample("c"), sample("a", name="last")]
    store.upsert("t", batch)
    assert [(one.space, one.person.name) for one in store.samples("t", "a")] == [(SPACE, "last"), (OTHER_SPACE, "last")]
    assert [one.space for one in store.samples("t", "c")] == [SPACE]
    numbers = [change.number for change in store.changes(0, 10)]
    assert numbers == sorted(set(numbers))


def test_an_embedding_of_another_space_leaves_the_former_one(store: Store) -> None:
    store.add("t", samples("ab"))
    before = store.sample("t", 1)
    store.replace("t", 1, OTHER_SPACE, vectors(1, 4)[0], Description("Ada", None))
    after, kept = store.samples("t", "a")
    assert (after.key, after.number, after.space) == (before.key, 1, OTHER_SPACE)
    assert (kept.number, kept.space, kept.person.name) == (3, SPACE, "Ada")
    np.testing.assert_array_equal(kept.vector, before.vector)
    np.testing.assert_array_equal(after.vector, vectors(1, 4)[0])
    assert len({entry.revision for entry in store.feed("t", 0, 10).entries}) == 3
    assert store.add("t", samples("b"))[0].number == 4


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
    assert [type(entry) for entry in store.feed("t", 0, 10).entries].count(Tombstone) == 3
    assert store.count("t") == 2


def test_a_sample_gets_another_embedding(store: Store) -> None:
    store.add("t", [sample("a", vector) for vector in vectors(2)])
    before = store.sample("t", 2)
    store.replace("t", 2, SPACE, vectors(1, seed=7)[0])
    after = store.sample("t", 2)
    assert (after.key, after.person.name) == (before.key, before.person.name)
    assert (after.change, after.revision > before.revision) == (3, True)
    np.testing.assert_array_equal(after.vector, vectors(1, seed=7)[0])
    store.replace("t", 2, SPACE, vectors(1, seed=8)[0], Description("Ada", [1], None))
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
    seen = store.feed("t", 0, 10).entries[-1].revision
    store.describe("t", "a", Description("Ada", {"new": True}, None))
    person = store.get("t", "a")
    assert (person.name, person.metadata, person.action, person.samples) == ("Ada", {"new": True}, None, 2)
    assert [entry.number for entry in store.feed("t", seen, 10).entries] == [1, 2]
    assert [change.number for change in store.changes(3, 10)] == [4, 5]
    with pytest.raises(InvalidRequest):
        store.describe("t", "a", Description("Ada", float("nan")))


def test_what_is_not_said_anew_stays(store: Store) -> None:
    store.upsert("t", samples("a"))

    def described() -> tuple[object, ...]:
        person = store.get("t", "a")
        return person.name, person.metadata, person.action

    store.describe("t", "a", Description(name="Ada"))
    assert described() == ("Ada", {"of": "a"}, "action of a")
    store.describe("t", "a", Description(metadata=None))
    assert described() == ("Ada", None, "action of a")
    store.describe("t", "a", Description(action=None))
    assert described() == ("Ada", None, None)
    store.replace("t", 1, SPACE, vectors(1)[0], Description(metadata=[1], action="go"))
    assert described() == ("Ada", [1], "go")


def test_concurrent_descriptions_are_merged(store: Store) -> None:
    store.upsert("t", samples("a"))

    def describe(description: Description) -> None:
        start.wait()
        store.describe("t", "a", description)

    with ThreadPoolExecutor(2) as pool:
        for number in range(50):
            start = threading.Barrier(2)
            both = Description(name=f"{number}"), Description(metadata=number)
            for done in [pool.submit(describe, one) for one in both]:
                done.result()
            person = store.get("t", "a")
            assert (person.name, person.metadata) == (f"{number}", number)


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
    assert [(entry.number, type(entry)) for entry in store.feed("t", 0, 9).entries] == [(1, Tombstone), (2, Tombstone)]


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


def test_people_without_a_sample_of_a_space(store: Store) -> None:
    assert store.people_without(SPACE) == {}
    store.add("t", samples("abb"))
    store.add("t", [sample(id, vectors(1, 4)[0], space=OTHER_SPACE) for id in "bccd"])
    store.add("u", samples("a"))
    assert store.people_without(SPACE) == store.people_without(SPACE, "t") == {"t": 2}
    assert store.people_without(OTHER_SPACE) == {"t": 1, "u": 1}
    assert store.people_without("neither/1", "t") == {"t": 4}
    assert store.people_without(SPACE, "u") == store.people_without(OTHER_SPACE, "nobody") == {}
    store.delete("t", "c")
    store.upsert("t", samples("d"))
    assert store.people_without(SPACE) == {}


def test_a_quota_is_of_each_space(store: Store) -> None:
    store.upsert("t", samples("abc"), quota=3)
    others = [sample(id, vectors(1, 4)[0], space=OTHER_SPACE) for id in "abcd"]
    store.upsert("t", others[:3], quota=3)
    with pytest.raises(QuotaExceeded):
        store.add("t", others[3:], quota=3)
    assert (store.count("t", SPACE), store.count("t", OTHER_SPACE)) == (3, 3)


def test_a_feed_tells_nothing_of_other_tenants(store: Store) -> None:
    store.upsert("u", samples("xyz"))
    store.upsert("t", samples("ab"))
    store.upsert("u", samples("x", seed=1))
    store.delete("t", "a")
    feed = store.feed("t", 0, 10).entries
    assert [entry.number for entry in feed] == [2, 1]
    assert [type(entry) for entry in feed] == [Sample, Tombstone]
    revisions = [entry.revision for entry in feed]
    assert revisions == sorted(set(revisions))
    assert store.feed("t", revisions[0], 10).entries == feed[1:]
    assert store.feed("t", 0, 1).entries == feed[:1]
    assert store.feed("t", revisions[1], 10).entries == []


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


def test_positions(store: Store) -> None:
    assert store.position() == (0, 0)
    assert store.has_passed(0)
    positions = []
    for id in "abc":
        store.upsert("t", samples([id, f"other {id}"]))
        positions.append(store.position())
    assert [position.change for position in positions] == [2, 4, 6]
    assert not store.delete("t", "nobody") and store.upsert("t", []) == 6
    assert store.position() == positions[-1]
    store.delete("t", "a")
    with pytest.raises(NotFound):
        store.describe("t", "a", Description("b", None))
    store.compact()
    assert store.position().change == store.last_change() == 7
    assert all(store.has_passed(position.mark) for position in [*positions, store.position()])
    assert not store.has_passed(positions[0].mark + 1)


def test_old_marks_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = []
    monkeypatch.setattr(history, "KEPT", 3)
    for id in "abcdef":
        store.upsert("t", samples(id))
        marks.append(store.position().mark)
    assert [store.has_passed(mark) for mark in marks] == [False] * 3 + [True] * 3


def test_compacting_keeps_everything(store: Store) -> None:
    store.upsert("t", samples(map(str, range(50))))
    for number in range(0, 50, 2):
        store.delete("t", str(number))
    page, changes, feed = store.page("t", 100), store.changes(0, 100), store.feed("t", 0, 100).entries
    store.compact()
    assert store.page("t", 100) == page
    assert [change[:4] for change in store.changes(0, 100)] == [change[:4] for change in changes]
    assert store.feed("t", 0, 100).entries == feed
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


@pytest.mark.parametrize("seed", range(4))
def test_who_follows_the_cursors_gets_everything_once(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a page: the number of entries or their bytes."""
    most = 4000
    monkeypatch.setattr(rows, "PAGE_BYTES", most)
    chance = random.Random(seed)
    metadata = [None, {"x": "y" * 5000}, *("y" * chance.randrange(3000) for _ in range(60))]
    chance.shuffle(metadata)
    names = ["n" * chance.randrange(300) for _ in metadata]
    ids = [f"{i:03}" for i in range(62)]
    store.upsert("t", [sample(id, name=name, metadata=one) for id, name, one in zip(ids, names, metadata, strict=True)])
    store.delete("t", "007")
    people: list[Person] = []
    after: str | None = ""
    while after is not None:
        page = store.page("t", chance.randrange(1, 9), after)
        size = sum(len(str(person.metadata)) + len(person.name) for person in page.people)
        assert size < most or len(page.people) == 1
        people += page.people
        after = page.next
    assert [person.id for person in people] == ids[:7] + ids[8:]
    assert [person.metadata for person in people] == metadata[:7] + metadata[8:]
    entries: list[Sample | Tombstone] = []
    more = True
    while more:
        feed = store.feed("t", entries[-1].revision if entries else 0, chance.randrange(1, 9))
        entries += feed.entries
        more = feed.more
    assert [entry.number for entry in entries] == [*(i for i in range(1, 63) if i != 8), 8]


def test_pages_of_samples(store: Store) -> None:
    store.add("t", [sample("a", vector) for vector in vectors(5)] + samples("b"))
    assert [one.number for one in store.samples("t", "a", limit=2)] == [1, 2]
    assert [one.number for one in store.samples("t", "a", 2, 2)] == [3, 4]
    assert [one.number for one in store.samples("t", "a", 4)] == [5]
    assert list(store.samples("t", "a", 5)) == []


def test_samples_of_all_people_come_by_number(store: Store) -> None:
    store.add("t", [sample("b", vector) for vector in vectors(3)] + samples("a"))
    store.add("u", samples("x"))
    assert store.delete_sample("t", 2)
    assert [(one.number, one.person.id) for one in store.after_number("t", -1, 2)] == [(1, "b"), (3, "b")]
    assert [(one.number, one.person.id) for one in store.after_number("t", 3, 9)] == [(4, "a")]
    assert list(store.after_number("t", 4, 9)) == []


METADATA: dict[str, object] = {
    "ann": {"department": "Sales", "floor": 3, "tags": ["vip", "staff"], "boss": None, "on": True},
    "bea": {"department": "Sales", "floor": 3.0, "address": {"city": "Zürich", "zip": "8001"}},
    "cid": {"department": "sales", "floor": "3", "on": "true", "boss": "null"},
    "dan": {"address": [{"city": "Bern"}, {"city": "Basel"}], "a.b": {"c": 1}, 'q"\\': 'q"\\'},
    "eve": "Sales",
    "fay": None,
    "gus": {"big": 1234567890123456789, "floor": False, "address": {"city": "Zu\u0308rich"}, "n\0": "\0"},
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"department": "Sales"}, "ann bea"),
        ({"floor": "3"}, "ann bea cid"),
        ({"floor": "3.0"}, "ann bea"),
        ({"floor": '"3"'}, "cid"),
        ({"floor": "false"}, "gus"),
        ({"floor": "0"}, ""),
        ({"on": "true"}, "ann cid"),
        ({"on": "1"}, ""),
        ({"boss": "null"}, "ann cid"),
        ({"tags": "staff"}, "ann"),
        ({"tags": "sta"}, ""),
        ({"address.city": "Zürich"}, "bea gus"),
        ({"address.city": "Basel"}, "dan"),
        ({"address.zip": "8001"}, "bea"),
        ({"address": "8001"}, ""),
        ({"a.b.c": "1"}, "dan"),
        ({'q"\\': 'q"\\'}, "dan"),
        ({"": "Sales"}, "eve"),
        ({"": "null"}, "fay"),
        ({"big": "1234567890123456789"}, "gus"),
        ({"big": "1234567890123456788"}, ""),
        ({"department": "Sales", "floor": "3", "tags": "vip"}, "ann"),
        ({"department": "%"}, ""),
        ({"nothing": "null"}, ""),
    ],
)
def test_people_by_their_metadata(store: Store, asked: dict[str, str], found: str) -> None:
    store.upsert("t", [sample(id, name="", metadata=metadata) for id, metadata in METADATA.items()])
    store.upsert("u", [sample("zoe", metadata=METADATA["ann"])])
    conditions = [Condition.of(path or None, value) for path, value in asked.items()]
    assert [person.id for person in store.page("t", 100, metadata=conditions).people] == found.split()
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        page = store.page("t", 1, after, "a", conditions)
        ids += [person.id for person in page.people]
        after = page.next
    assert ids == [id for id in found.split() if "a" in id]


def test_times_that_are_known_from_elsewhere(store: Store) -> None:
    old = {"created_at": "2020-02-02T02:02:02.020+00:00", "updated_at": "2021-02-02T02:02:02.020+00:00"}
    store.add("t", [sample("a", **old), sample("b")])
    store.upsert("t", [sample("b", **old), sample("c", **old), sample("d")])
    for id in "abc":
        person = store.get("t", id)
        assert (person.created_at, person.updated_at) == (old["created_at"], old["updated_at"])
    assert store.get("t", "d").created_at > "2026"
    store.upsert("t", [sample("a")])
    assert store.get("t", "a").created_at == old["created_at"]
    assert store.get("t", "a").updated_at > "2026"


def test_searching_without_regard_to_case_and_accents(store: Store) -> None:
    names = {"a1": "Ägnes Müller", "b1": "Σοφία", "C1": "김민수", "d1": "50% off_"}
    store.upsert("t", [sample(id, name=name) for id, name in names.items()])
    store.upsert("u", [sample("z", name="Agnes")])

    def found(text: str, limit: int = 10, after: str | None = None) -> list[str]:
        return [person.id for person in store.page("t", limit, after, text).people]

    for text, ids in (
        ("AGNES", ["a1"]),
        ("muller", ["a1"]),
        ("σοφια", ["b1"]),
        (unicodedata.normalize("NFD", "민수"), ["C1"]),
        ("c1", ["C1"]),
        ("0%", ["d1"]),
        ("%", ["d1"]),
        ("_", ["d1"]),
        ("x", []),
        ("1", ["C1", "a1", "b1", "d1"]),
    ):
        assert found(text) == ids, text
    page = store.page("t", 2, None, "1")
    assert (len(page.people), page.next, found("1", 2, page.next)) == (2, "a1", ["b1", "d1"])
    assert found("muller", after="a1") == []
    store.describe("t", "a1", Description("Zoë"))
    store.add("t", [sample("e1", name="Noël")])
    assert (found("zoe"), found("agnes"), found("noel")) == (["a1"], [], ["e1"])
    store.describe("t", "a1", Description(metadata=1))
    assert found("ZOË") == ["a1"]


def _undo_write_alike(url: str) -> None:
    """Take a database back to what it was before people were written alike."""
    if not url.startswith("postgresql"):
        with closing(sqlite3.connect(url)) as database:
            database.executescript(
                """
                DROP INDEX people_search;
                ALTER TABLE people DROP COLUMN search;
                DELETE FROM _sqlite_migrations WHERE name = 'write_alike';
                """
            )
        return
    import psycopg

    with psycopg.connect(url) as database:
        database.execute("ALTER TABLE people DROP COLUMN search")
        database.execute("DELETE FROM migrations WHERE name = 'write_alike'")


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
def test_people_of_former_releases_are_written_alike(kind: str, request: pytest.FixtureRequest) -> None:
    url = DATABASES[kind](request)
    apart, kim = unicodedata.normalize("NFD", "김"), "김"
    both = unicodedata.normalize("NFD", "é")
    gallery = open_gallery(url)
    gallery.store.upsert("t", [sample(apart, name=unicodedata.normalize("NFD", "Zoë")), sample("b", name=" \t")])
    gallery.store.upsert("t", [sample(both), sample("é"), sample("..")])
    gallery.store.upsert("u", [sample(both)])
    gallery.close()
    _undo_write_alike(url)
    for _ in range(2):
        gallery = open_gallery(url)
        people = {person.id: person.name for person in gallery.store.page("t", 10).people}
        assert people == {"..": "name of ..", "b": "b", both: "name of é", "é": "name of é", kim: "Zoë"}
        assert [person.id for person in gallery.store.page("u", 10).people] == ["é"], "it collides with nobody there"
        for text, id in (("zoe", kim), (apart, kim), ("..", "..")):
            assert [person.id for person in gallery.store.page("t", 10, text=text).people] == [id]
        assert gallery.store.count("t") == 5
        assert known_id(gallery.store, "t", both) == both and known_id(gallery.store, "t", apart) == kim
        assert sorted(id for tenant, id in ids_of_people(gallery.tables) if tenant == "u") == ["é"]
        gallery.close()
