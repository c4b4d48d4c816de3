"""What the collections of every database must do."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.collections import MAX_COLLECTIONS, Collection, Contents, tenant_of
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql import collections
from shared.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from shared.models import Metric
from tests.contracts.databases import SHARED
from tests.gallery_samples import OTHER_SPACE, SPACE, ids_of, sample, samples, vectors


def names(gallery: Gallery, tenant: str = "t") -> list[str]:
    return [collection.name for collection in gallery.collections.page(tenant).collections]


def seen(person: str | None) -> NewEvent:
    kind = EventKind.RECOGNISED if person else EventKind.UNKNOWN
    return NewEvent(1, kind, person, None, Occasion(), b"\xff\xd8")


@pytest.fixture
def visitors(gallery: Gallery) -> Collection:
    return gallery.collections.create("t", "visitors")


def test_a_tenant_has_the_default_collection_alone(gallery: Gallery) -> None:
    assert names(gallery) == ["default"]
    default = gallery.collections.get("t", "default")
    assert default.gallery == "t" and default.created_at == gallery.directory.tenant("t").created_at
    gallery.store.add("t", samples(["a", "b", "a"]))
    assert gallery.collections.contents(default) == Contents(2, 3)
    assert names(gallery, "nobody") == []


def test_collections_come_in_pages_by_name(gallery: Gallery) -> None:
    created = [gallery.collections.create("t", name) for name in ("b", "a.1", "Z_-")]
    assert len({one.gallery for one in created}) == 3 and {tenant_of(one.gallery) for one in created} == {"t"}
    assert names(gallery) == ["Z_-", "a.1", "b", "default"] and names(gallery, "u") == ["default"]
    first = gallery.collections.page("t", 3)
    assert first.next == first.collections[-1].name
    last = gallery.collections.page("t", 3, first.next)
    assert [one.name for one in (*first.collections, *last.collections)] == names(gallery) and last.next is None
    assert gallery.collections.get("t", "b") == created[0]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ü", "a" * 256, "a\n", "'; DROP TABLE collections--"])
def test_names_that_are_not_allowed(gallery: Gallery, name: str) -> None:
    with pytest.raises(InvalidRequest):
        gallery.collections.create("t", name)
    with pytest.raises(NotFound):
        gallery.collections.get("t", name)


def test_what_is_created_twice_or_for_nobody(
    gallery: Gallery, visitors: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("visitors", "default"):
        with pytest.raises(Conflict):
            gallery.collections.create("t", name)
    for tenant in ("nobody", visitors.gallery):
        with pytest.raises(NotFound):
            gallery.collections.create(tenant, "visitors")
    assert MAX_COLLECTIONS > 1
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 1)
    with pytest.raises(Conflict):
        gallery.collections.create("t", "more")
    assert names(gallery) == ["default", "visitors"]


def test_collections_know_nothing_of_each_other(gallery: Gallery, visitors: Collection) -> None:
    store = gallery.store
    store.add("t", [sample("a", name="Ann")])
    store.add(visitors.gallery, [sample("a", name="Another"), sample("b")])
    assert (ids_of(store, "t"), ids_of(store, visitors.gallery)) == (["a"], ["a", "b"])
    assert store.get("t", "a").name == "Ann" and store.get(visitors.gallery, "a").name == "Another"
    gallery.events.append([("t", seen(None)), (visitors.gallery, seen("a"))])
    assert [event.person for event in gallery.events.page("t", 9)] == [None]
    assert [event.person for event in gallery.events.page(visitors.gallery, 9)] == ["a"]
    assert store.people_without(OTHER_SPACE) == store.people_without(OTHER_SPACE, "t") == {"t": 3}
    assert store.clear("t") == 1 and ids_of(store, visitors.gallery) == ["a", "b"]


def test_settings_are_those_of_the_tenant(gallery: Gallery, visitors: Collection) -> None:
    gallery.directory.update_tenant("t", settings={"neighbours": 9})
    expected = TenantSettings(neighbours=9)
    assert gallery.directory.settings(visitors.gallery) == gallery.directory.settings("t") == expected
    assert gallery.directory.settings_and_position(visitors.gallery)[0] == expected
    kept = gallery.directory.settings_of_galleries()
    assert kept[visitors.gallery] == kept["t"] == expected and kept["u"] == TenantSettings()


def test_a_quota_counts_all_collections_of_the_tenant(gallery: Gallery, visitors: Collection) -> None:
    store = gallery.store
    store.add("t", samples("ab"))
    store.add("u", samples("abcdef"))
    store.add(visitors.gallery, samples("c"), quota=3)
    for place in ("t", visitors.gallery):
        with pytest.raises(QuotaExceeded):
            store.add(place, samples("d"), quota=3)
    with pytest.raises(QuotaExceeded):
        gallery.collections.copy_person(gallery.collections.get("t", "default"), visitors, "a", quota=3)
    assert store.count("t") + store.count(visitors.gallery) == 3


def test_a_person_is_copied_with_all_samples(gallery: Gallery, visitors: Collection) -> None:
    store, default = gallery.store, gallery.collections.get("t", "default")
    one, two = vectors(2)
    store.add("t", [sample("a", one), sample("a", two), sample("a", two[:4], space=OTHER_SPACE)])
    assert gallery.collections.copy_person(default, visitors, "a") == 3
    person = store.get(visitors.gallery, "a")
    origin = store.get("t", "a")
    assert (person.name, person.metadata, person.action) == (origin.name, origin.metadata, origin.action)
    copies, originals = store.samples(visitors.gallery, "a"), store.samples("t", "a")
    assert [copy.space for copy in copies] == [original.space for original in originals]
    for copy, original in zip(copies, originals, strict=True):
        np.testing.assert_array_equal(copy.vector, original.vector)
    with pytest.raises(Conflict):
        gallery.collections.copy_person(default, visitors, "a")
    with pytest.raises(NotFound):
        gallery.collections.copy_person(default, visitors, "nobody")
    store.delete("t", "a")
    assert ids_of(store, visitors.gallery) == ["a"]


def test_a_deleted_collection_is_gone_with_all_that_it_had(gallery: Gallery, visitors: Collection) -> None:
    store, default = gallery.store, gallery.collections.get("t", "default")
    store.add("t", samples("a"))
    store.add(visitors.gallery, samples("ab"))
    gallery.events.append([("t", seen("a")), (visitors.gallery, seen("a")), (visitors.gallery, seen(None))])
    before = store.last_change()
    gallery.collections.delete("t", "visitors")
    assert [(change.tenant, change.vector) for change in store.changes(before, 9)] == [(visitors.gallery, None)] * 2
    assert names(gallery) == ["default"] and ids_of(store, "t") == ["a"]
    assert ids_of(store, visitors.gallery) == gallery.events.page(visitors.gallery, 9) == []
    for call in (
        lambda: gallery.collections.delete("t", "visitors"),
        lambda: gallery.collections.copy_person(default, visitors, "a"),
        lambda: store.add(visitors.gallery, samples("c")),
    ):
        with pytest.raises(NotFound):
            call()
    gallery.events.append([(visitors.gallery, seen(None))])
    assert gallery.events.page(visitors.gallery, 9) == []
    again = gallery.collections.create("t", "visitors")
    assert again.gallery != visitors.gallery and gallery.collections.contents(again) == Contents(0, 0)


def test_the_default_collection_stays(gallery: Gallery) -> None:
    with pytest.raises(Conflict):
        gallery.collections.delete("t", "default")


def test_a_tenant_is_deleted_with_its_collections(gallery: Gallery, visitors: Collection) -> None:
    gallery.store.add(visitors.gallery, samples("a"))
    with pytest.raises(Conflict):
        gallery.directory.delete_tenant("t")
    gallery.store.clear(visitors.gallery)
    gallery.events.append([(visitors.gallery, seen(None))])
    gallery.directory.delete_tenant("t")
    assert gallery.events.page(visitors.gallery, 9) == []
    gallery.directory.create_tenant("t", "t", TenantSettings())
    assert names(gallery) == ["default"]


def test_an_index_follows_collections(gallery: Gallery, visitors: Collection) -> None:
    store, (probe, other) = gallery.store, vectors(2)
    store.add("t", [sample("a", other)])
    gallery.store.add(visitors.gallery, [sample("b", probe)])
    with closing(MemoryIndex(store, SPACE, Metric.EUCLIDEAN)) as index:

        def found(place: str) -> list[int]:
            (neighbours,) = index.nearest(place, probe[np.newaxis], 5)
            return [one.key for one in neighbours]

        (theirs,), (ours,) = store.samples(visitors.gallery, "b"), store.samples("t", "a")
        assert (found("t"), found(visitors.gallery)) == ([ours.key], [theirs.key])
        gallery.collections.delete("t", "visitors")
        assert (found("t"), found(visitors.gallery)) == ([ours.key], [])


@pytest.mark.parametrize("database", SHARED, indirect=True)
def test_another_process_sees_them(database: str, gallery: Gallery, visitors: Collection) -> None:
    with closing(open_gallery(database)) as other:
        assert other.collections.get("t", "visitors") == visitors
