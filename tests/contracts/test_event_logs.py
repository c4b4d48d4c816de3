"""What every event log must do."""

from __future__ import annotations

import random

import pytest

from face_detection.gallery import Gallery
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventFilter, EventKind, NewEvent, Occasion
from shared.errors import InvalidRequest, NotFound, StorageError
from tests.gallery_samples import samples

HERE = Occasion("key", 7, -3.7, 38.5)


@pytest.fixture
def gallery(gallery: Gallery) -> Gallery:
    gallery.store.upsert("t", samples("ab"))
    gallery.store.upsert("u", samples("a"))
    return gallery


def seen(person: str | None, at: int = 1, crop: bytes | None = None, distance: float | None = 0.5) -> NewEvent:
    return NewEvent(at, EventKind.RECOGNISED if person else EventKind.UNKNOWN, person, distance, HERE, crop)


def test_an_event_comes_back_as_it_was_logged(gallery: Gallery) -> None:
    assert list(gallery.events.page("t", 10)) == []
    gallery.events.append([("t", seen("a", 5)), ("t", NewEvent(6, EventKind.ENROLLED, "b", None, Occasion(), b"jpeg"))])
    enrolled, recognised = gallery.events.page("t", 10)
    assert (recognised.number, recognised.at, recognised.kind, recognised.person, recognised.name) == (
        (1, 5, EventKind.RECOGNISED, "a", "name of a")
    )
    assert (recognised.distance, recognised.occasion, recognised.has_crop) == (0.5, HERE, False)
    assert (enrolled.number, enrolled.distance, enrolled.occasion, enrolled.has_crop) == (2, None, Occasion(), True)
    assert gallery.events.crop("t", 2) == b"jpeg"
    for tenant, number in (("t", 1), ("t", 3), ("u", 2)):
        with pytest.raises(NotFound):
            gallery.events.crop(tenant, number)


def test_pages_and_filters(gallery: Gallery) -> None:
    gallery.events.append([("t", seen(person, at)) for at, person in enumerate(["a", None, "b", "a", None])])
    gallery.events.append([("u", seen("a"))])

    def numbers(**wanted: object) -> list[int]:
        limit, before = wanted.pop("limit", 10), wanted.pop("before", None)
        which = EventFilter(**wanted)  # type: ignore[arg-type]
        return [event.number for event in gallery.events.page("t", limit, before, which)]  # type: ignore[arg-type]

    assert numbers() == [5, 4, 3, 2, 1]
    assert numbers(limit=2) == [5, 4]
    assert numbers(limit=2, before=4) == [3, 2]
    assert numbers(person="a") == [4, 1]
    assert numbers(person="a", before=4) == [1]
    assert numbers(person="nobody") == []
    assert numbers(kind=EventKind.UNKNOWN) == [5, 2]
    assert numbers(kind=EventKind.UNKNOWN, person="a") == []
    assert [event.number for event in gallery.events.page("u", 10)] == [1]


@pytest.mark.parametrize("seed", range(3))
def test_events_of_a_time_a_device_a_person_and_a_kind(gallery: Gallery, seed: int) -> None:
    chance = random.Random(seed)
    logged = [
        NewEvent(
            chance.randrange(20),  # in no order: processes write when they come to it
            chance.choice(list(EventKind)),
            chance.choice(["a", "b", None]),
            None,
            Occasion(device=chance.choice([None, 7, 8])),
        )
        for _ in range(60)
    ]
    gallery.events.append([("t", event) for event in logged])
    gallery.events.append([("u", seen("a", 5))])
    for _ in range(40):
        which = EventFilter(
            person=chance.choice(["a", "b", None, None]),
            kind=chance.choice([*EventKind, None, None]),
            device=chance.choice([7, 8, None, None]),
            since=chance.choice([None, chance.randrange(20)]),
            until=chance.choice([None, chance.randrange(20)]),
        )
        expected = [
            number
            for number, event in enumerate(logged, 1)
            if which.person in (None, event.person)
            and which.kind in (None, event.kind)
            and which.device in (None, event.occasion.device)
            and (which.since is None or event.at >= which.since)
            and (which.until is None or event.at < which.until)
        ]
        found: list[int] = []
        while page := gallery.events.page("t", 7, found[-1] if found else None, which):
            found += [event.number for event in page]
        assert found == expected[::-1], which


def test_events_go_with_the_person(gallery: Gallery) -> None:
    gallery.events.append([("t", seen("a")), ("t", seen("b")), ("t", seen(None)), ("u", seen("a"))])
    gallery.store.delete("t", "a")
    assert [event.person for event in gallery.events.page("t", 10)] == [None, "b"]
    gallery.store.delete_sample("t", 2)
    assert [event.person for event in gallery.events.page("t", 10)] == [None]
    gallery.store.clear("u")
    assert list(gallery.events.page("u", 10)) == []


def test_events_of_people_who_are_gone_are_dropped(gallery: Gallery) -> None:
    gallery.store.delete("t", "a")
    gallery.events.append([("t", seen("a")), ("t", seen("b"))])
    assert [event.person for event in gallery.events.page("t", 10)] == ["b"]


def test_events_of_tenants_who_are_gone_are_dropped(gallery: Gallery) -> None:
    gallery.events.append([("v", seen(None))])
    gallery.directory.delete_tenant("v")
    gone = [("v", seen(None, 2, b"jpeg")), ("v", seen("a", 2)), ("nobody", seen(None, 2))]
    gallery.events.append([*gone, ("t", seen("a", 3)), *gone, ("u", seen("a", 4))])
    assert [event.at for tenant in "tu" for event in gallery.events.page(tenant, 10)] == [3, 4]
    gallery.directory.create_tenant("v", "V", TenantSettings())
    assert list(gallery.events.page("v", 10)) == list(gallery.events.page("nobody", 10)) == []
    gallery.events.append([("v", seen(None, 5))])
    assert [event.at for event in gallery.events.page("v", 10)] == [5]


def test_purging(gallery: Gallery) -> None:
    gallery.events.append([("t", seen("a", at)) for at in (1, 2, 3)] + [("u", seen("a", 1))])
    assert gallery.events.purge("t", 3) == 2
    assert [event.at for event in gallery.events.page("t", 10)] == [3]
    assert len(gallery.events.page("u", 10)) == 1


def test_failures_are_translated(gallery: Gallery) -> None:
    with pytest.raises(InvalidRequest):
        gallery.events.page("t", 1, which=EventFilter(person="\ud800"))
    gallery.close()
    with pytest.raises(StorageError):
        gallery.events.append([("t", seen("a"))])


def test_numbers_are_never_used_again(gallery: Gallery) -> None:
    def log(tenant: str, person: str | None) -> int:
        gallery.events.append([(tenant, seen(person))])
        return gallery.events.page(tenant, 1)[0].number

    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    assert [log("t", "a"), log("t", None), log("t", "b"), log("1042", None)] == [1, 2, 3, 1]
    gallery.store.delete("t", "b")
    assert log("t", None) == 4
    assert gallery.events.purge("t", 2) == 3
    assert log("t", "a") == 5
    gallery.store.clear("t")
    assert log("t", None) == 6
    gallery.events.append([("t", seen("nobody")), ("t", seen(None)), ("u", seen("a"))])
    assert [event.number for event in gallery.events.page("t", 2)] == [7, 6]
    assert [event.number for event in gallery.events.page("u", 2)] == [1]
    gallery.directory.delete_tenant("1042")
    gallery.directory.create_tenant("1042", "Another", TenantSettings())
    assert log("1042", None) == 2
