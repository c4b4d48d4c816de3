"""Tombstones go by themselves, or by compact, once they are old enough."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.servers.waiting import wait_until
from face_detection import upkeep
from face_detection.cli import main
from face_detection.gallery import Gallery
from face_detection.gallery.sql.history import Tombstones
from face_detection.upkeep import Upkeep
from shared.errors import StorageUnavailable
from tests.conftest import Front
from tests.galleries import open_gallery
from tests.gallery_samples import sample, samples, vectors

DAY = 86_400 * 1_000_000


@pytest.fixture
def gallery(shared_database: str) -> Iterator[Gallery]:
    """With tombstones of five people, and with one that stays."""
    with closing(open_gallery(shared_database)) as gallery:
        gallery.store.upsert("t", samples("abcdef"))
        for id in "abcde":
            gallery.store.delete("t", id)
        yield gallery


def of(gallery: Gallery, days: int = 0, lag: int = 0) -> Upkeep:
    return Upkeep(gallery.store, gallery.tombstones, gallery.locks, days, lambda: lag)


def age(gallery: Gallery, days: int) -> None:
    """Let everything have happened so many days earlier."""
    statement = "UPDATE samples SET revision = revision - CAST(:by AS BIGINT)"
    with gallery.tombstones._connections.writing() as connection:
        connection.execute(statement, {"by": days * DAY})


def test_what_is_old_enough_is_removed(gallery: Gallery) -> None:
    of(gallery, days=3).remove()
    assert gallery.store.horizon() == 0
    age(gallery, 4)
    of(gallery, days=5).remove()
    assert gallery.store.horizon() == 0
    of(gallery, days=3).remove()
    assert gallery.store.horizon() == 10


def test_what_the_search_index_has_yet_to_see_stays(gallery: Gallery) -> None:
    for lag, horizon in ((5, 0), (3, 8), (0, 10)):
        of(gallery, lag=lag).remove()
        assert gallery.store.horizon() == horizon


def test_one_process_at_a_time(gallery: Gallery, shared_database: str) -> None:
    with closing(open_gallery(shared_database)) as other:
        with other.locks.take(upkeep.TURN) as taken:
            assert taken
            of(gallery).remove()
            assert gallery.store.horizon() == 0
        of(gallery).remove()
        assert gallery.store.horizon() == 10


def test_more_than_a_batch(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.store.upsert("u", [sample(str(n), row) for n, row in enumerate(vectors(2100))])
    gallery.store.clear("u")
    gallery.store.upsert("u", samples("a"))
    monkeypatch.setattr(upkeep, "_REST", 0.0)
    of(gallery).remove()
    assert gallery.store.horizon() == gallery.store.last_change() - 1


def test_it_goes_on_whatever_fails_and_ends_when_it_is_closed(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(upkeep, "_PAUSE", 0.01)
    failures: list[Exception] = [StorageUnavailable("The database is busy."), RuntimeError("unforeseen")]
    remove = Tombstones.remove

    def fail_at_first(self: Tombstones, before: int, known: int) -> int:
        if failures:
            raise failures.pop(0)
        return remove(self, before, known)

    monkeypatch.setattr(Tombstones, "remove", fail_at_first)
    one = of(gallery)
    one.start()
    wait_until(lambda: gallery.store.horizon() == 10)
    one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "upkeep"]
    assert "old tombstones stay for now: The database is busy." in caplog.text and "unforeseen" in caplog.text
    of(gallery).close()


def test_compacting_removes_them_too(gallery: Gallery, shared_database: str) -> None:
    age(gallery, 40)
    for days, horizon in (("41", 0), ("39", 10)):
        result = CliRunner().invoke(main, ["compact"], env={"DATABASE": shared_database, "SYNC_DAYS": days})
        assert result.exit_code == 0, result.output
        assert gallery.store.horizon() == horizon
    assert [person.id for person in gallery.store.page("t", 10).people] == ["f"]


async def test_a_front_does_it(start_front: Front, front_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_PAUSE", 0.01)
    with closing(open_gallery(front_settings.database)) as gallery:
        gallery.store.upsert("t", samples("abc"))
        gallery.store.delete("t", "a")
        gallery.store.delete("t", "b")
        age(gallery, 31)
        await start_front()
        wait_until(lambda: gallery.store.horizon() == 4)
