"""Requests that are sent again with their Idempotency-Key, at every door that enrols."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import Right, TenantSettings
from shared.settings import FrontSettings
from tests.conftest import Front
from tests.enrolling_doors import DOORS, Request, place_device

KEY = "Idempotency-Key"
REUSED = "idempotency_key_reused"


@pytest.fixture(scope="session")
def obama(photos: Path) -> bytes:
    return (photos / "obama.jpg").read_bytes()


@pytest.fixture(scope="session")
def biden(photos: Path) -> bytes:
    return (photos / "biden.jpg").read_bytes()


async def send(front: TestClient, request: Request, key: str | None = "key-1") -> tuple[int, bytes, bool]:
    """Status and body of the answer, and whether it is marked as given again."""
    headers = dict(request.headers) | ({} if key is None else {KEY: key})
    response = await front.post(request.path, json=request.json, data=request.data, headers=headers)
    return response.status, await response.read(), response.headers.get("Idempotency-Replayed") == "true"


async def photos_of_all(front: TestClient) -> int:
    return sum(person["photos"] for person in (await (await front.get("/people")).json())["people"])


def says(body: bytes, code: str, kind: int) -> bool:
    """Whether an answer has an error, worded as by any of the doors."""
    return code.encode() in body or b'"error_type":%d' % kind in body


@pytest.mark.parametrize("door", [door for door in DOORS if door != "keyed stream"])
async def test_a_request_that_is_sent_again_is_answered_as_before(
    front: TestClient, obama: bytes, biden: bytes, door: str
) -> None:
    place_device(front.app[DIRECTORY])
    request = DOORS[door](obama)
    status, body, again = await send(front, request)
    assert (status, again) == (200, False)
    for _ in range(2):
        assert await send(front, request) == (200, body, True)
    status, refused, again = await send(front, DOORS[door](biden))
    assert (status, again) == (409, False) and says(refused, REUSED, 222)
    assert await photos_of_all(front) == 1
    status, _, again = await send(front, request, "key-2")
    assert (status, again) == (200, False)
    lines = (await (await front.get("/metrics")).text()).splitlines()
    assert "front_enrolled_total 2.0" in lines


async def test_a_stream_that_is_sent_again_goes_on_where_it_ended(
    front: TestClient, obama: bytes, biden: bytes
) -> None:
    first, other = DOORS["keyed stream"](obama), DOORS["keyed stream"](biden)
    assert first.data and other.data
    status, body, _ = await send(front, first)
    begun = json.loads(body.splitlines()[0])
    assert (status, begun["responseType"]) == (200, "SUCCESS")
    status, body, _ = await send(front, replace(first, data=first.data + other.data))
    again, new, summary = (json.loads(line) for line in body.splitlines())
    assert again == begun | {"replayed": True}
    assert (new["photo"], new["responseType"], "replayed" in new, summary["learned"]) == (2, "SUCCESS", False, 2)
    status, body, _ = await send(front, replace(first, data=other.data + other.data))
    changed, same, summary = (json.loads(line) for line in body.splitlines())
    assert (changed["errorCode"], same["replayed"], summary["learned"]) == (REUSED, True, 1)
    assert await photos_of_all(front) == 2


@pytest.mark.parametrize("said", ["detection=thorough", "face=largest"])
@pytest.mark.parametrize("door", [door for door in DOORS if door != "original"])  # which says all in the body
async def test_what_the_address_says_makes_another_request(
    front: TestClient, obama: bytes, door: str, said: str
) -> None:
    place_device(front.app[DIRECTORY])
    request = DOORS[door](obama)
    assert (await send(front, request))[0] == 200
    address = f"{request.path}{'&' if '?' in request.path else '?'}{said}"
    _, refused, again = await send(front, replace(request, path=address))
    assert says(refused, REUSED, 222) and not again
    assert await photos_of_all(front) == 1


async def test_a_new_picture_for_a_face_is_taken_once(front: TestClient, obama: bytes, photos: Path) -> None:
    await send(front, DOORS["data set"](obama), None)
    update = DOORS["data set"]((photos / "obama2.jpg").read_bytes())
    request = Request("/face/update", update.json | {"face_id": 1})
    status, body, again = await send(front, request)
    assert (status, again) == (200, False)
    await send(front, Request("/face/update", DOORS["data set"](obama).json | {"face_id": 1}), None)
    assert await send(front, request) == (200, body, True)
    assert (await (await front.get("/face/1")).json())["face_encoding"] != json.loads(body)["face_encoding"]


async def test_a_form_may_have_another_boundary(front: TestClient, obama: bytes, biden: bytes) -> None:
    def form(photo: bytes) -> FormData:
        form = FormData()
        form.add_field("name", "Ann")
        form.add_field("image", photo, filename="photo.jpg")
        return form

    sent = [await front.post("/people/44/photos", data=form(obama), headers={KEY: "k"}) for _ in range(2)]
    one, two = sent
    assert (one.status, two.status, await one.read()) == (200, 200, await two.read())
    assert two.headers["Idempotency-Replayed"] == "true"
    assert (await front.post("/people/44/photos", data=form(biden), headers={KEY: "k"})).status == 409
    assert (await front.post("/people/45/photos", data=form(obama), headers={KEY: "k"})).status == 409
    assert await photos_of_all(front) == 1


async def test_a_failure_is_not_kept(front: TestClient, obama: bytes) -> None:
    request = DOORS["training"](obama)
    status, _, _ = await send(front, Request(request.path, request.json | {"image": "bm90IGEgcGljdHVyZQ=="}))
    assert status == 415
    assert (await send(front, request))[::2] == (200, False)
    assert (await send(front, request))[::2] == (200, True)


async def test_part_of_a_batch_may_fail(front: TestClient, obama: bytes) -> None:
    request = DOORS["original"](obama)
    batch = replace(request, json=[*request.json, {"id": "45", "name": "B", "image": "bm90IGEgcGljdHVyZQ=="}])
    status, body, again = await send(front, batch)
    assert (status, json.loads(body)["success"], json.loads(body)["fail"], again) == (200, ["44"], ["45"], False)
    assert await send(front, batch) == (200, body, True)


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256])
@pytest.mark.parametrize("door", DOORS)
async def test_a_key_has_visible_characters(front: TestClient, obama: bytes, door: str, key: str) -> None:
    place_device(front.app[DIRECTORY])
    status, body, _ = await send(front, DOORS[door](obama), key)
    assert status == 400 or (door == "keyed stream" and b"invalid_request" in body)
    assert await photos_of_all(front) == 0


async def test_a_key_is_of_one_company_and_one_operation(front: TestClient, obama: bytes) -> None:
    people, training = DOORS["people"](obama), DOORS["training"](obama)
    for request in (people, training):
        assert (await send(front, request))[::2] == (200, False)
    assert await photos_of_all(front) == 2
    directory = front.app[DIRECTORY]
    place_device(directory)
    directory.create_tenant("7", "Acme", TenantSettings())
    _, text = front.app[ACCESS].create_key("7", "test", [Right.ENROL])
    keyed = replace(people, headers={"X-API-Key": text})
    assert (await send(front, keyed))[::2] == (200, False)
    assert (await send(front, keyed))[::2] == (200, True)
    assert (await send(front, people))[0] == 401


async def test_what_was_deleted_does_not_come_back(
    front: TestClient, front_settings: FrontSettings, obama: bytes
) -> None:
    request = DOORS["data set"](obama)
    _, body, _ = await send(front, request)
    await front.post("/face/delete", json={"face_id": 1})
    status, refused, _ = await send(front, request)
    assert status == 409 and says(refused, "answer_deleted", 223)
    assert await photos_of_all(front) == 0
    encoding = json.dumps(json.loads(body)["face_encoding"][:3], separators=(",", ":")).encode()[1:-1]
    await front.close()
    files = list(Path(front_settings.database).parent.glob("gallery.db*"))
    assert encoding in body and not any(encoding in file.read_bytes() for file in files)


@pytest.mark.parametrize("door", DOORS)
async def test_of_many_at_once_one_enrols(front: TestClient, obama: bytes, door: str) -> None:
    place_device(front.app[DIRECTORY])
    request = DOORS[door](obama)
    answers = await asyncio.gather(*(send(front, request) for _ in range(4)))
    assert {status for status, _, _ in answers} == {200}
    assert await photos_of_all(front) == 1
    if door != "keyed stream":
        assert len({body for _, body, _ in answers}) == 1
        assert sum(again for _, _, again in answers) == 3


async def test_two_fronts_share_what_they_have_answered(start_front: Front, postgres_url: str, obama: bytes) -> None:
    one, two = await start_front(database=postgres_url), await start_front(database=postgres_url)
    request = DOORS["people"](obama)
    status, body, _ = await send(one, request)
    assert await send(two, request) == (status, body, True)
    answers = await asyncio.gather(*(send(front, request, "key-2") for front in (one, two, one, two)))
    assert len({body for _, body, _ in answers}) == 1 and sum(again for _, _, again in answers) == 3
    assert await photos_of_all(two) == 2


async def test_an_answer_is_there_as_soon_as_the_samples_are(
    start_front: Front, front_settings: FrontSettings, obama: bytes
) -> None:
    """A process that dies between the write and its answer leaves both, and another one answers."""
    front = await start_front()
    request = DOORS["people"](obama)
    sending = asyncio.create_task(send(front, request))
    watching = open_gallery(front_settings.database)
    while not watching.store.count("default"):
        await asyncio.sleep(0.001)
    watching.close()
    sending.cancel()
    other = await start_front()
    status, body, again = await send(other, request)
    assert (status, again, await photos_of_all(other)) == (200, True, 1)
    kept: dict[str, Any] = json.loads(body)
    assert [photo["number"] for photo in kept["photos"]] == [1]
