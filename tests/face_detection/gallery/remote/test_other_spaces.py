"""Upkeep of the indexes that a gallery has of other models, in every kind of index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from face_detection.gallery import Gallery
from face_detection.gallery.remote import other_spaces
from face_detection.gallery.remote.index import VectorIndex, lock_to_apply, lock_to_rebuild
from face_detection.gallery.remote.other_spaces import OtherSpaces, drop_former
from tests.contracts.vector_indexes import FORMER, NAME, VECTOR_INDEXES, Place
from tests.galleries import open_gallery
from tests.gallery_samples import OTHER_SPACE, key_of, samples

IDS = [str(number) for number in range(20)]


@pytest.fixture(params=VECTOR_INDEXES)
def place(request: pytest.FixtureRequest) -> Place:
    return VECTOR_INDEXES[request.param](request)


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.setattr(other_spaces, "_PAUSE", 0.0)
    monkeypatch.setattr(other_spaces, "_REST", 0.0)
    gallery = open_gallery(":memory:")
    gallery.store.upsert("t", samples(IDS))
    yield gallery
    gallery.close()


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
