"""Following the data set: whoever does holds exactly the gallery, whatever others write meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY, RECOGNITION
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.gallery.people import PAGE_BYTES, Description, NewSample, Sample
from face_detection.gallery.sql import writing
from face_detection.gallery.sql.store import Store
from shared.errors import NotFound
from shared.times import time_text
from tests.conftest import Front
from tests.contracts.databases import copied
from tests.galleries import open_gallery, open_store
from tests.gallery_samples import OTHER_SPACE, SPACE, sample, vectors

IDS = [f"p{i}" for i in range(6)]
LATER = 2**62
"""A time at which every tombstone is old."""


def write_at_random(store: Store, tenant: str, seed: int, steps: int, space: str = SPACE, dimensions: int = 8) -> None:
    """Change a tenant's gallery again and again, in every way there is."""
    chance = random.Random(seed)
    rows = vectors(64, dimensions, seed)

    def new(id: str) -> NewSample:
        return sample(id, rows[chance.randrange(64)], space=space, metadata={"n": chance.random()})

    for _ in range(steps):
        numbers = [one.number for id in IDS for one in store.samples(tenant, id)] or [1]
        try:
            match chance.choices(range(7), (6, 8, 4, 4, 2, 4, 0.4))[0]:
                case 0:
                    store.upsert(tenant, [new(id) for id in chance.sample(IDS, chance.randrange(1, 4))])
                case 1:
                    store.add(tenant, [new(chance.choice(IDS)) for _ in range(chance.randrange(1, 4))])
                case 2:
                    store.replace(tenant, chance.choice(numbers), space, rows[chance.randrange(64)])
                case 3:
                    store.describe(tenant, chance.choice(IDS), Description("name", {"n": chance.random()}))
                case 4:
                    store.delete(tenant, chance.choice(IDS))
                case 5:
                    store.delete_sample(tenant, chance.choice(numbers))
                case 6:
                    store.clear(tenant)
        except NotFound:
            pass  # another writer was faster


def gallery(store: Store, tenant: str) -> dict[int, tuple[int, str, Any, list[float]]]:
    """All samples by number, as the store has them apart from its feed."""
    people = store.page(tenant, 1000).people
    found = [one for person in people for one in store.samples(tenant, person.id)]
    return {one.number: (one.revision, one.person.name, one.person.metadata, one.vector.tolist()) for one in found}


def in_threads(works: Iterable[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


class JumpingClock(datetime):
    """A clock that is set forwards and back all the time."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(milliseconds=random.choice([-500, -5, 0, 5, 500]))


@pytest.mark.parametrize("jumping", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_follower_of_the_feed_holds_the_gallery(
    tmp_path: Path, seed: int, jumping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if jumping:
        monkeypatch.setattr(writing, "datetime", JumpingClock)
    stores = [open_store(str(tmp_path / "gallery.db")) for _ in range(3)]
    writers = in_threads(
        lambda store=store, tenant=tenant, own=own: write_at_random(store, tenant, 10 * seed + own, 60)
        for own, (store, tenant) in enumerate([(stores[0], "t"), (stores[1], "t"), (stores[1], "t"), (stores[0], "u")])
    )
    chance = random.Random(seed)
    held: dict[int, Any] = {}
    seen: set[int] = set()
    revision, done = 0, False
    while not done:
        done = not any(writer.is_alive() for writer in writers)  # one more pass after the last write
        while page := stores[2].feed("t", revision, chance.randrange(1, 8)).entries:
            assert len({entry.number for entry in page}) == len(page)
            for entry in page:
                assert entry.revision > revision, "in order, and so never twice"
                revision = entry.revision
                seen.add(entry.number)
                held.pop(entry.number, None)
                if isinstance(entry, Sample):
                    described = (entry.person.name, entry.person.metadata)
                    held[entry.number] = (entry.revision, *described, entry.vector.tolist())
    assert held == gallery(stores[2], "t")
    assert seen == set(range(1, max(seen) + 1)), "numbers have no gaps, and every one was told at least once"
    for store in stores:
        store.close()


async def follow(front: TestClient, held: dict[int, Any], cursor: str, limit: int = 1000) -> str:
    """One pass of a client over all pages; returns the cursor of the next pass."""
    seen: set[tuple[int, str]] = set()
    while True:
        response = await front.get("/faces/sync", params={"last_updated_at": cursor, "limit": limit})
        if response.status == 410:
            held.clear()
            seen.clear()
            cursor = ""
            continue
        assert response.status == 200, await response.text()
        entries = await response.json()
        for entry in entries:
            assert entry["updatedAt"] > cursor
            cursor = entry["updatedAt"]
            assert (entry["faceId"], cursor) not in seen
            seen.add((entry["faceId"], cursor))
            held.pop(entry["faceId"], None)
            if "deleted" not in entry:
                held[entry["faceId"]] = entry
        cursor = response.headers["X-Next-Cursor"]
        if "Link" not in response.headers:
            return cursor


async def test_a_client_that_follows_holds_the_gallery(
    start_front: Front, front_settings: Any, photos: Path, tmp_path: Path
) -> None:
    """Two fronts on one database, clients that change faces through them, a writer of its own connection, and somebody
    who removes tombstones long before their time."""
    fronts = [await start_front(), await start_front()]
    space = (await fronts[0].app[RECOGNITION].model()).space
    opened = open_gallery(front_settings.database)
    store = opened.store
    small = cv2.resize(cv2.imread(str(photos / "obama.jpg")), None, fx=0.3, fy=0.3)
    picture = cv2.imencode(".jpg", small)[1].tobytes()
    headers = {"Content-Type": "image/jpeg"}

    async def write(front: TestClient, seed: int) -> None:
        chance = random.Random(seed)
        for step in range(25):
            face = chance.randrange(1, 30)
            match chance.choices(range(5), (6, 8, 4, 2, 0.5))[0]:
                case 0:
                    response = await front.post("/face", data=picture, headers=headers, params={"unique_args": "{}"})
                case 1:
                    response = await front.post("/face/update", json={"face_id": face, "unique_args": {"n": step}})
                case 2:
                    response = await front.post("/face/delete", json={"face_id": face})
                case 3:
                    response = await front.post("/face/update", params={"face_id": face}, data=picture, headers=headers)
                case _:
                    response = await front.post("/clear-samples")
            assert response.status in (200, 404)

    (writer,) = in_threads([lambda: write_at_random(store, "default", 3, 80, space, 128)])
    writing = asyncio.gather(write(fronts[0], 1), write(fronts[1], 2), write(fronts[1], 4))
    held: dict[int, Any] = {}
    cursor, done = "1970-01-01T00:00:00.000000Z", False
    while not done:
        done = writing.done() and not writer.is_alive()
        cursor = await follow(fronts[0], held, cursor, limit=random.Random(cursor).randrange(1, 9))
        await asyncio.to_thread(opened.tombstones.remove, LATER, 3)
    await writing
    expected = gallery(store, "default")
    vectors_held = {id: np.array(entry["faceEncoding"], np.float32).tolist() for id, entry in held.items()}
    assert vectors_held == {number: vector for number, (*_, vector) in expected.items()}
    assert {id: (entry["name"], entry["uniqueArgs"]) for id, entry in held.items()} == {
        number: (name, metadata) for number, (_, name, metadata, _) in expected.items()
    }
    afresh: dict[int, Any] = {}
    await follow(fronts[1], afresh, "")
    assert afresh == held
    opened.close()


@pytest.fixture
async def space(front: TestClient) -> str:
    return (await front.app[RECOGNITION].model()).space


@pytest.fixture
async def store(front: TestClient, front_settings: Any) -> Any:
    store = open_store(front_settings.database)
    yield store
    store.close()


async def test_an_empty_gallery(front: TestClient, space: str) -> None:
    response = await front.get("/faces/sync")
    assert (response.status, await response.json()) == (200, [])
    assert response.headers["X-Next-Cursor"] == "1970-01-01T00:00:00.000000Z"
    assert "Link" not in response.headers
    assert response.headers["X-Embedding-Space"] == space
    assert (response.headers["X-Metric"], response.headers["X-Threshold"]) == ("tenfold-unit-euclidean", "9")
    later = await front.get("/faces/sync", params={"last_updated_at": "2100-01-01"})
    assert later.headers["X-Next-Cursor"] == "2100-01-01T00:00:00.000000Z"


async def test_entries(front: TestClient, store: Store, space: str) -> None:
    row = vectors(1, 128)[0]
    store.upsert("default", [sample("a", row, space=space, metadata={"x": 1}), sample("b", row, space=space)])
    store.delete("default", "a")
    described, deleted = await (await front.get("/faces/sync")).json()
    assert np.array_equal(np.array(described.pop("faceEncoding"), np.float32), row)
    assert datetime.fromisoformat(described.pop("updatedAt")) < datetime.fromisoformat(deleted.pop("updatedAt"))
    assert described == {"faceId": 2, "uniqueArgs": {"of": "b"}, "name": "name of b", "personId": "b"}
    assert deleted == {"faceId": 1, "deleted": True}


async def test_pages(front: TestClient, store: Store, space: str) -> None:
    rows = vectors(5, 128)
    store.upsert("default", [sample(f"{i}", row, space=space) for i, row in enumerate(rows)])
    store_last = time_text(store.last_revision("default"))
    address, sizes, ids = "/faces/sync?limit=2", [], []
    while address:
        response = await front.get(address)
        entries = await response.json()
        sizes.append(len(entries))
        ids += [entry["faceId"] for entry in entries]
        cursor, *begun = response.headers["X-Next-Cursor"].partition(";")[0].split("/")
        assert cursor == entries[-1]["updatedAt"] and (begun == [store_last] or cursor == store_last)
        address = response.links["next"]["url"].raw_path_qs if "Link" in response.headers else ""
    assert (sizes, ids) == ([2, 2, 1], [1, 2, 3, 4, 5])
    response = await front.get("/faces/sync", params={"limit": 5})
    assert "Link" not in response.headers, "a full page may be the last one"


async def test_who_comes_too_late_is_told_to_start_over(
    front: TestClient, store: Store, space: str, front_settings: Any
) -> None:
    opened = open_gallery(front_settings.database)
    store.upsert("default", [sample(f"{i}", row, space=space) for i, row in enumerate(vectors(6, 128))])
    held: dict[int, Any] = {}
    cursor = await follow(front, held, "", limit=2)
    first = (await front.get("/faces/sync", params={"limit": 2})).headers["X-Next-Cursor"]
    for id in "035":
        store.delete("default", id)
    store.upsert("default", [sample("6", vectors(1, 128)[0], space=space)])
    assert [opened.tombstones.remove(LATER) for _ in range(2)] == [3, 0]
    for late in (cursor, first, "2001-01-01"):
        response = await front.get("/faces/sync", params={"last_updated_at": late})
        refused = await response.json()
        assert (response.status, refused["error_type"]) == (410, 211)
        assert "start over without a cursor, and drop what does not come again" in refused["error_message"]
    cursor = await follow(front, held, cursor, limit=2)
    assert set(held) == {2, 3, 5, 7}
    assert await (await front.get("/faces/sync", params={"last_updated_at": cursor})).json() == []
    opened.close()


async def test_who_has_just_begun_does_not_come_too_late(
    front: TestClient, store: Store, space: str, front_settings: Any
) -> None:
    """The first pages tell of faces that have not changed for long, so that their cursor is older than deletions."""
    opened = open_gallery(front_settings.database)
    store.upsert("default", [sample(f"{i}", row, space=space) for i, row in enumerate(vectors(6, 128))])
    for id in "024":
        store.delete("default", id)
    address, ids = "/faces/sync?limit=1", []
    while address:
        response = await front.get(address)
        assert response.status == 200
        ids += [entry["faceId"] for entry in await response.json()]
        opened.tombstones.remove(LATER)
        address = response.links["next"]["url"].raw_path_qs if "Link" in response.headers else ""
    assert ids == [2, 4, 6, 5]
    assert "/" not in response.headers["X-Next-Cursor"]
    opened.close()


async def test_who_follows_a_database_that_is_replaced_starts_over(
    front: TestClient, store: Store, space: str, front_settings: Any
) -> None:
    """Who is enrolled then has the number that somebody had before; nobody was deleted."""
    rows = vectors(6, 128)
    store.upsert("default", [sample("a", rows[0], space=space)])
    before, after = {}, {}
    early = await follow(front, before, "")
    put_back = copied(front_settings.database)
    store.upsert("default", [sample("b", rows[1], space=space)])
    late = await follow(front, after, early)
    assert set(after) == {2}
    put_back()
    store.upsert("default", [sample("c", row, space=space) for row in rows[2:]])
    response = await front.get("/faces/sync", params={"last_updated_at": late})
    assert (response.status, (await response.json())["error_type"]) == (410, 211)
    await follow(front, after, late)
    assert {number: entry["personId"] for number, entry in after.items()} == {1: "a", 2: "c"}
    await follow(front, before, early)
    assert {number: entry["personId"] for number, entry in before.items()} == {1: "a", 2: "c"}


async def test_an_answer_ends_at_a_number_of_bytes(front: TestClient, store: Store, space: str) -> None:
    row = vectors(1, 128)[0]
    large = {"text": "x" * 60_000}
    store.upsert("default", [sample(f"{i}", row, space=space, metadata=large) for i in range(50)])
    address, sizes, ids = "/faces/sync", [], []
    while address:
        response = await front.get(address)
        body = await response.read()
        sizes.append(len(body))
        ids += [entry["faceId"] for entry in json.loads(body)]
        address = response.links["next"]["url"].raw_path_qs if "Link" in response.headers else ""
    assert ids == list(range(1, 51))
    assert len(sizes) == 4 and max(sizes) < 1.1 * PAGE_BYTES


async def test_only_what_is_later_than_a_time(front: TestClient, store: Store, space: str) -> None:
    store.upsert("default", [sample(f"{i}", row, space=space) for i, row in enumerate(vectors(3, 128))])
    times = [entry["updatedAt"] for entry in await (await front.get("/faces/sync")).json()]
    second = datetime.fromisoformat(times[1])
    micro = timedelta(microseconds=1)
    since_1970 = (second - datetime(1970, 1, 1, tzinfo=UTC)) // micro
    for text in (times[1], second.isoformat(), f"{since_1970 // 10**6}.{since_1970 % 10**6:06}"):
        found = await (await front.get(f"/faces/sync?last-updated-at={text}")).json()
        assert [entry["updatedAt"] for entry in found] == times[2:]
    before = (second - micro).isoformat()
    found = await (await front.get("/faces/sync", params={"last_updated_at": before})).json()
    assert [entry["updatedAt"] for entry in found] == times[1:]
    for number in (int(second.timestamp()) - 1, (int(second.timestamp()) - 1) * 1000):
        assert len(await (await front.get(f"/faces/sync?last_updated_at={number}")).json()) == 3
    for number in (int(second.timestamp()) + 60, (int(second.timestamp()) + 60) * 1000):
        assert await (await front.get(f"/faces/sync?last_updated_at={number}")).json() == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=10001", "limit=x", "last_updated_at=yesterday", "last_updated_at=-1", "last_updated_at=NaN"]
    + [
        "last_updated_at=1e9",
        "last_updated_at=999999999999999",
        "last_updated_at=1969-12-31",
        "last_updated_at=" + "9" * 99,
    ]
    + [
        "last_updated_at=0001-01-01T00:00:00%2B14:00",
        "last_updated_at=1&last-updated-at=1",
        "last_updated_at=2026-13-01",
        "last_updated_at=2026-01-01/",
        "last_updated_at=2026-01-01/x",
        "last_updated_at=1/2/3",
    ],
)
async def test_a_malformed_question(front: TestClient, query: str) -> None:
    response = await front.get(f"/faces/sync?{query}")
    assert (response.status, (await response.json())["error_type"]) == (400, 200)


async def test_what_belongs_to_another_model_is_not_there(front: TestClient, store: Store, space: str) -> None:
    row = vectors(1, 128)[0]
    store.upsert("default", [sample("a", row, space=space), sample("b", vectors(1, 4)[0], space=OTHER_SPACE)])
    here, elsewhere = await (await front.get("/faces/sync")).json()
    cursor = elsewhere.pop("updatedAt")
    assert "faceEncoding" in here and elsewhere == {"faceId": 2, "deleted": True}
    store.replace("default", 1, OTHER_SPACE, vectors(1, 4)[0])
    kept, moved = await (await front.get("/faces/sync", params={"last_updated_at": cursor})).json()
    assert (kept["faceId"], kept["faceEncoding"]) == (3, here["faceEncoding"])
    assert (moved["faceId"], moved["deleted"]) == (1, True)


async def test_other_tenants_are_not_seen(front: TestClient, store: Store, space: str, front_settings: Any) -> None:
    store.upsert("default", [sample("a", vectors(1, 128)[0], space=space)])
    access = front.app[ACCESS]
    front.app[DIRECTORY].create_tenant("1042", "T", TenantSettings(min_distance=7.25))
    store.upsert("1042", [sample("b", vectors(1, 128)[0], space=space)])
    _, key = access.create_key("1042", "k", [Right.ENROL])
    response = await front.get("/faces/sync", headers={"X-API-Key": key})
    (entry,) = await response.json()
    assert (entry["faceId"], entry["personId"], response.headers["X-Threshold"]) == (1, "b", "7.25")


async def test_answers_are_compressed_for_who_takes_that(front: TestClient, store: Store, space: str) -> None:
    row = np.ones(128, np.float32)
    store.upsert("default", [sample(f"{i}", row, space=space) for i in range(50)])
    plain = await front.get("/faces/sync", headers={"Accept-Encoding": "identity"})
    packed = await front.get("/faces/sync", headers={"Accept-Encoding": "br, gzip"})
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert await plain.json() == await packed.json()
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 5
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
