"""At every door: a photo that looks like somebody else is told of, or refused; and what is stored is listed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY, PEOPLE
from face_detection.gallery.directory import Right
from tests.conftest import Front
from tests.enrolling_doors import DOORS, Request, place_device


def picture(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


async def ask(front: TestClient, request: Request, key: str | None = None) -> tuple[int, str]:
    headers = {**request.headers, **({"X-API-Key": key} if key else {})}
    sent: dict[str, Any] = {"json": request.json} if request.data is None else {"data": request.data}
    response = await front.post(request.path, headers=headers, **sent)
    return response.status, await response.text()


async def enrol(front: TestClient, id: str, *photos: Path, key: str | None = None, **options: Any) -> list[Any]:
    body = {"images": [picture(photo) for photo in photos]} | options
    response = await front.post(f"/people/{id}/photos", json=body, headers={"X-API-Key": key} if key else {})
    assert response.status == 200, await response.text()
    found: list[Any] = (await response.json())["photos"]
    return found


@pytest.mark.parametrize("door", DOORS)
async def test_the_wrong_face_is_told_and_stored(front: TestClient, photos: Path, door: str) -> None:
    place_device(front.app[DIRECTORY])
    await enrol(front, "9", photos / "obama.jpg", name="Somebody")
    status, answer = await ask(front, DOORS[door]((photos / "obama2.jpg").read_bytes()))
    assert status == 200
    if door == "company":  # whose form has no room for it
        assert json.loads(answer)["status"] == 6
    else:
        assert '"nearer_to_other"' in answer and "Somebody" in answer
    assert await front.app[PEOPLE].count("default") == 2


@pytest.mark.parametrize("door", DOORS)
async def test_the_wrong_face_is_refused_where_the_setting_says_so(start_front: Front, photos: Path, door: str) -> None:
    front = await start_front(on_conflict="refuse")
    place_device(front.app[DIRECTORY])
    await enrol(front, "9", photos / "obama.jpg", name="Somebody")
    _, answer = await ask(front, DOORS[door]((photos / "obama2.jpg").read_bytes()))
    if door == "company":
        assert json.loads(answer)["status"] == 5009
    else:
        assert "photo_conflict" in answer or '"error_type":226' in answer
    assert await front.app[PEOPLE].count("default") == 1


async def test_a_request_decides_and_each_photo_fails_alone(front: TestClient, photos: Path) -> None:
    await enrol(front, "44", photos / "obama.jpg")
    two = photos / "obama2.jpg", photos / "biden.jpg"
    refused, stored = await enrol(front, "46", *two, on_conflict="refuse")
    assert refused["error"]["code"] == "photo_conflict" and "warnings" not in stored
    told = refused["error"]["conflict"]
    assert told["code"] == "nearer_to_other" and (told["id"], told["photo"]) == ("44", 1)
    assert 0 < told["distance"] < told["threshold"] == 9.0
    body = {"image": picture(photos / "obama3.jpg"), "id": "46", "on_conflict": "refuse"}
    response = await front.post("/api/train", json=body)
    assert (response.status, (await response.json())["code"]) == (409, "photo_conflict")
    assert (await front.post("/people/46/photos", json={"images": [""], "on_conflict": "ignore"})).status == 400
    assert await front.app[PEOPLE].count("default") == 2


async def test_what_is_replaced_is_no_other_photo(front: TestClient, photos: Path) -> None:
    """Neither for one that replaces it, nor for others of the same request."""
    samples = [{"id": "44", "name": "A", "image": picture(photos / "obama.jpg")}]
    samples += [{"id": "46", "name": "B", "image": picture(photos / "biden.jpg")}]
    assert "warnings" not in await (await front.post("/update-samples", json=samples)).json()
    samples[0]["image"], samples[1]["image"] = samples[1]["image"], samples[0]["image"]
    assert "warnings" not in await (await front.post("/update-samples", json=samples)).json()
    # One alone takes the face of the other, who keeps it.
    answer = await (await front.post("/update-samples", json=[samples[0] | {"image": samples[1]["image"]}])).json()
    assert answer["conflicts"]["44"]["id"] == "46" and len(answer["warnings"]["44"]) == 1
    body = {"face_id": 1, "image": picture(photos / "biden.jpg")}
    updated = await (await front.post("/face/update", json=body)).json()
    assert "warnings" not in updated


async def test_what_is_not_stored_replaces_nothing(front: TestClient, photos: Path) -> None:
    """Not a picture that fails, nor one that is refused: the photos of their people stay, and count."""
    await enrol(front, "44", photos / "obama.jpg")
    await enrol(front, "46", photos / "biden.jpg")
    stranger = {"id": "max", "name": "Max", "image": picture(photos / "biden.jpg"), "on_conflict": "refuse"}
    for broken in ("", picture(photos / "obama2.jpg")):
        batch = [{"id": "46", "name": "46", "image": broken, "on_conflict": "refuse"}, stranger]
        answer = await (await front.post("/update-samples", json=batch)).json()
        assert (answer["success"], answer["errors"]["max"]["code"]) == ([], "photo_conflict")
    assert await front.app[PEOPLE].count("default") == 2


async def test_photos_of_one_batch_are_compared(front: TestClient, photos: Path) -> None:
    names = {"a": "obama.jpg", "b": "obama2.jpg", "c": "biden.jpg"}
    batch = [{"id": id, "name": id, "image": picture(photos / name)} for id, name in names.items()]
    answer = await (await front.post("/update-samples", json=batch)).json()
    assert {id: told["id"] for id, told in answer["conflicts"].items()} == {"a": "b", "b": "a"}
    first, second = await enrol(front, "d", photos / "obama3.jpg", photos / "biden.jpg")
    assert first["warnings"][0]["code"] == second["warnings"][0]["code"] == "nearer_to_other"


async def test_a_photo_unlike_its_own(front: TestClient, photos: Path) -> None:
    (one, other) = await enrol(front, "44", photos / "obama.jpg", photos / "biden.jpg", quality=True)
    for answer in (one, other):
        assert answer["warnings"][0]["code"] == "unlike_own" and answer["warnings"][0]["id"] == "44"
        assert 0 < answer["quality"] <= 1 and answer["quality_parts"]["eyes"] > 20


async def test_whoever_may_not_recognise_learns_no_names(front: TestClient, photos: Path) -> None:
    await enrol(front, "9", photos / "obama.jpg", name="Somebody")
    access = front.app[ACCESS]
    _, enrols = access.create_key("default", "desk", [Right.ENROL])
    _, both = access.create_key("default", "office", [Right.ENROL, Right.RECOGNISE])
    for door in set(DOORS) - {"company"}:
        for refuses in (True, False):
            request = DOORS[door]((photos / "obama2.jpg").read_bytes())
            entries = request.json if isinstance(request.json, list) else [request.json or {}]
            for entry in entries:
                entry |= {"on_conflict": "refuse"} if refuses else {}
            path = request.path + ("&on_conflict=refuse" if refuses and request.json is None else "")
            _, answer = await ask(front, Request(path, request.json, request.data, request.headers), enrols)
            assert "somebody else" in answer and "Somebody" not in answer and '"9"' not in answer, (door, answer)
        await front.app[PEOPLE].clear("default")
        await enrol(front, "9", photos / "obama.jpg", key=both, name="Somebody")
    assert (await front.get("/conflicts", headers={"X-API-Key": enrols})).status == 403
    assert (await front.get("/conflicts", headers={"X-API-Key": both})).status == 200


async def test_what_is_stored_is_listed(front: TestClient, photos: Path) -> None:
    assert await (await front.get("/conflicts")).json() == {"conflicts": [], "examined": 0, "next": None}
    await enrol(front, "44", photos / "obama.jpg", name="Ann")
    await enrol(front, "45", photos / "obama2.jpg", name="Joe")
    await enrol(front, "46", photos / "biden.jpg")
    answer = await (await front.get("/conflicts")).json()
    assert (answer["examined"], answer["next"]) == (3, None)
    first, second = answer["conflicts"]
    assert first["person"] == {"id": "44", "name": "Ann"} and first["other"] == {"id": "45", "name": "Joe", "photo": 2}
    assert (first["photo"], first["kind"], first["distance"]) == (1, "nearer_to_other", second["distance"])
    assert first["distance"] < first["threshold"] == 9.0
    page = await (await front.get("/conflicts?limit=1")).json()
    assert page == {"conflicts": [first], "examined": 1, "next": 1}
    rest = await (await front.get("/conflicts?limit=256&after=1")).json()
    assert rest == {"conflicts": [second], "examined": 2, "next": None}
    for wrong in ("limit=0", "limit=257", "after=x", "cursor=1"):
        assert (await front.get(f"/conflicts?{wrong}")).status == 400


async def test_a_verification_tells_the_quality_of_both_faces(front: TestClient, photos: Path) -> None:
    await enrol(front, "44", photos / "obama.jpg")
    body: dict[str, Any] = {"image1": picture(photos / "obama.jpg"), "image2": picture(photos / "biden.jpg")}
    plain = await (await front.post("/face-verification", json=body)).json()
    asked = await (await front.post("/face-verification", json=body | {"quality": True})).json()
    assert "quality1" not in plain and asked["quality1"] != asked["quality2"]
    assert 0 < asked["quality1"]["quality"] <= 1 and asked["quality2"]["quality_parts"]["eyes"] > 20
    body = {"image": picture(photos / "obama2.jpg")}
    plain = await (await front.post("/people/44/verification", json=body)).json()
    asked = await (await front.post("/people/44/verification", json=body | {"quality": True})).json()
    assert "quality" not in plain and 0 < asked["quality"] <= 1 and asked["quality_parts"]["eyes"] > 20
