"""What every store must do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from face_detection.gallery import open_store
from face_detection.gallery.store import Store
from shared.errors import InvalidRequest, NotFound, SpaceMismatch, StorageError
from tests.gallery_samples import OTHER_SPACE, SPACE, ids_of, sample, samples, vectors

BACKENDS: dict[str, Callable[[Path], Store]] = {
    "sqlite file": lambda folder: open_store(str(folder / "gallery.db")),
    "sqlite memory": lambda folder: open_store(":memory:"),
}


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = BACKENDS[request.param](tmp_path)
    yield store
    store.close()


def test_an_empty_store(store: Store) -> None:
    assert store.last_change() == 0
    assert store.changes(0, 10) == []
    assert store.count("t") == store.count("t", SPACE) == store.clear("t") == store.upsert("t", []) == 0
    assert not store.delete("t", "a")
    page = store.page("t", 10)
    assert (list(page.records), page.next) == ([], None)
    assert store.by_keys("t", [1, 2]) == store.by_keys("t", []) == {}
    with pytest.raises(NotFound):
        store.get("t", "a")


@pytest.mark.parametrize("metadata", [None, "text", 1.5, True, [], {"a": [None, {"ü": "\ud800"}]}, "'; DROP TABLE--"])
def test_a_sample_comes_back_as_it_was_stored(store: Store, metadata: object) -> None:
    vector = vectors(1, 128)[0]
    before = datetime.now(UTC).replace(microsecond=0)
    store.upsert("t", [sample("a'\x00ü😀", vector, name="", metadata=metadata)])
    found = store.get("t", "a'\x00ü😀")
    assert (found.id, found.name, found.metadata, found.space) == ("a'\x00ü😀", "", metadata, SPACE)
    assert found.vector.dtype == np.float32
    np.testing.assert_array_equal(found.vector, vector)
    assert found.created_at == found.updated_at
    assert before <= datetime.fromisoformat(found.created_at) <= datetime.now(UTC)
    assert [vars(r) for r in store.page("t", 1).records] == [vars(r) for r in store.by_keys("t", [found.key]).values()]
    assert store.page("t", 1).records[0].change == found.change == 1


def test_a_replaced_sample_keeps_its_key_and_its_date_of_creation(store: Store) -> None:
    assert store.upsert("t", samples("ab")) == 2
    first = store.get("t", "a")
    time.sleep(0.01)
    replacement = vectors(1, 4, seed=9)[0]
    assert store.upsert("t", [sample("a", replacement, name="new", metadata=None, space=OTHER_SPACE)]) == 3
    second = store.get("t", "a")
    assert (second.key, second.created_at, second.change) == (first.key, first.created_at, 3)
    assert second.updated_at > first.updated_at
    assert (second.name, second.metadata, second.space) == ("new", None, OTHER_SPACE)
    np.testing.assert_array_equal(second.vector, replacement)
    assert (store.count("t"), store.count("t", SPACE), store.count("t", OTHER_SPACE)) == (2, 1, 1)


def test_of_equal_ids_in_one_batch_the_last_stays(store: Store) -> None:
    assert store.upsert("t", [sample("a", name="first"), sample("b"), sample("a", name="last")]) == 3
    assert store.get("t", "a").name == "last"
    assert [(change.number, change.id) for change in store.changes(0, 10)] == [(2, "b"), (3, "a")]


def test_deleting(store: Store) -> None:
    store.upsert("t", samples("ab"))
    before = store.get("t", "a")
    assert store.delete("t", "a")
    assert not store.delete("t", "a")
    with pytest.raises(NotFound):
        store.get("t", "a")
    assert ids_of(store, "t") == ["b"]
    assert store.count("t") == 1
    assert store.by_keys("t", [before.key]) == {}
    assert store.last_change() == 3
    store.upsert("t", samples("a"))
    after = store.get("t", "a")
    assert (after.key, after.change) == (before.key, 4)


def test_clearing_gives_every_sample_its_own_number(store: Store) -> None:
    store.upsert("t", samples("abc"))
    store.upsert("u", samples("a"))
    store.delete("t", "b")
    assert store.clear("t") == 2
    assert store.clear("t") == 0
    assert store.count("t") == 0
    assert ids_of(store, "u") == ["a"]
    assert [(c.number, c.tenant, c.id, c.vector is None) for c in store.changes(0, 10)] == [
        (4, "u", "a", False),
        (5, "t", "b", True),
        (6, "t", "a", True),
        (7, "t", "c", True),
    ]


def test_tenants_are_separate(store: Store) -> None:
    store.upsert("t", [sample("a", name="t's")])
    store.upsert("u", [sample("a", name="u's")])
    mine, other = store.get("t", "a"), store.get("u", "a")
    assert (mine.name, other.name) == ("t's", "u's")
    assert mine.key != other.key
    assert list(store.by_keys("t", [mine.key, other.key])) == [mine.key]
    assert store.delete("t", "a")
    assert not store.delete("t", "a")
    assert store.get("u", "a") == other
    assert store.count("") == store.count("T") == 0


def test_pages_are_ordered_and_survive_changes_between_them(store: Store) -> None:
    names = ["é", "z", "a", "Z", "10", "9", "a b", "😀", "\uffff"]
    store.upsert("t", samples(names))
    assert ids_of(store, "t") == sorted(names)
    first = store.page("t", 4)
    assert [record.id for record in first.records] == sorted(names)[:4]
    store.delete("t", sorted(names)[3])
    store.delete("t", sorted(names)[4])
    store.upsert("t", samples(["!"]))
    rest = store.page("t", 4, first.next)
    assert [record.id for record in rest.records] == sorted(names)[5:]
    assert rest.next is None


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
    assert (elsewhere.tenant, elsewhere.id, elsewhere.space) == ("u", "a", OTHER_SPACE)
    assert replaced.key == store.get("t", "b").key
    assert replaced.vector is not None
    np.testing.assert_array_equal(replaced.vector, store.get("t", "b").vector)
    assert (deleted.tenant, deleted.id, deleted.space, deleted.vector) == ("t", "a", None, None)


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
    records, changes = store.page("t", 100), store.changes(0, 100)
    store.compact()
    assert store.page("t", 100) == records
    assert [change[:5] for change in store.changes(0, 100)] == [change[:5] for change in changes]
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
            assert all(record.name == f"name of {record.id}" for record in store.page("t", 20).records)

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
