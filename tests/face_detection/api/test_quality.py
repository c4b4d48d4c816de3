"""At every door: a face that would match strangers enrols nobody, and nobody is named by one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY, PEOPLE
from tests.conftest import Front
from tests.enrolling_doors import COMPANY, DOORS, Request, place_device
from tests.face_detection.api.own.test_events import events

JPEG = {"Content-Type": "image/jpeg"}


def spoilt(photo: Path, sigma: float = 6) -> bytes:
    """A portrait with some 42 pixels between the eyes, blurred."""
    picture = cv2.resize(cv2.imread(str(photo)), None, fx=0.38, fy=0.38, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.GaussianBlur(picture, (0, 0), sigma))[1].tobytes()


@pytest.fixture(scope="module")
def blurred(photos: Path) -> bytes:
    return spoilt(photos / "obama.jpg")


@pytest.fixture(scope="module")
def stranger(photos: Path) -> bytes:
    return spoilt(photos / "biden.jpg")


async def send(front: TestClient, request: Request) -> tuple[int, str]:
    sent = {"json": request.json} if request.data is None else {"data": request.data, "headers": dict(request.headers)}
    response = await front.post(request.path, **sent)
    return response.status, await response.text()


@pytest.mark.parametrize("door", DOORS)
async def test_a_blurred_face_enrols_nobody(front: TestClient, blurred: bytes, door: str) -> None:
    place_device(front.app[DIRECTORY])
    status, answer = await send(front, DOORS[door](blurred))
    assert status in (200, 422)
    if door == "company":
        assert json.loads(answer)["status"] == 5009
    else:
        assert "low_quality" in answer or '"error_type":312' in answer
        assert "too blurred: sharpness 0." in answer and "at least 0.33" in answer
    assert await front.app[PEOPLE].count(COMPANY) == 0


async def test_whoever_wants_takes_any_face(start_front: Front, blurred: bytes, stranger: bytes) -> None:
    """And even then no stranger is named by another such face."""
    front = await start_front(quality_enrol="none")
    assert (await send(front, DOORS["people"](blurred)))[0] == 200
    assert await front.app[PEOPLE].count(COMPANY) == 1
    for picture in (blurred, stranger):
        answer = await front.post("/face-recognition?include_unknown=true", data=picture, headers=JPEG)
        (face,) = await answer.json()
        assert (face["id"], face["reason"]) == ("", "low_quality")
        assert await (await front.post("/face-recognition", data=picture, headers=JPEG)).json() == []
    kinds = [event["kind"] for event in (await events(front, 5))["events"]]
    assert sorted(kinds) == ["enrolled"] + 4 * ["unknown"]


async def test_strict_refuses_what_is_middling(start_front: Front, photos: Path) -> None:
    middling = spoilt(photos / "obama.jpg", 2.6)
    for strictness, people in (("auto", 1), ("strict", 0)):
        front = await start_front(quality_enrol=strictness)
        await send(front, DOORS["people"](middling))
        assert await front.app[PEOPLE].count(COMPANY) == people
        assert (await front.delete("/clear-samples")).status == 200


async def test_doors_of_others_do_not_name_it_either(front: TestClient, photos: Path, blurred: bytes) -> None:
    place_device(front.app[DIRECTORY])
    assert (await send(front, DOORS["company"]((photos / "obama.jpg").read_bytes())))[0] == 200
    image = base64.b64encode(blurred).decode()
    (trained,) = (await (await front.post("/api/recognize", json={"image": image})).json())["faces"]
    assert (trained["id"], trained["name"], trained["confidence"]) == (None, "unknown", 0)
    (match,) = (await (await front.post("/face/match", json={"image": image})).json())["faces"]
    assert (match["face_id"], match["trust"]) == (None, 0)
    for user in ({}, {"userName": "44"}):
        keyed = await (await front.post("/recognize", json={"picture": image, **user})).json()
        assert (keyed["responseType"], keyed["confidencePercentage"]) == ("FAILURE", 0)
    company = DOORS["company"](blurred).json
    assert isinstance(company, dict)
    for code, status in ((1, 3), (2, 5009)):
        answer = await (await front.post("/companies/recognition", json=company | {"appCode": code})).json()
        assert answer["status"] == status


async def test_nothing_is_the_same_as_a_spoilt_face(
    front: TestClient, photos: Path, blurred: bytes, data_uri: Callable[[Path | bytes], str]
) -> None:
    """Not even itself."""
    body = {"image1": data_uri(blurred), "image2": data_uri(blurred)}
    answer = await (await front.post("/face-verification", json=body)).json()
    assert (answer["same"], answer["reason"]) == (False, "low_quality") and answer["distance"] < 0.01
    body = {"image1": data_uri(photos / "obama.jpg"), "image2": data_uri(photos / "obama2.jpg")}
    answer = await (await front.post("/face-verification", json=body)).json()
    assert (answer["same"], answer["reason"]) == (True, None)
    await send(front, DOORS["people"]((photos / "obama.jpg").read_bytes()))
    answer = await (await front.post("/people/44/verification", data=blurred, headers=JPEG)).json()
    assert (answer["same"], answer["trust"], answer["reason"]) == (False, 0, "low_quality")


async def test_a_photo_cannot_be_replaced_by_a_spoilt_one(front: TestClient, photos: Path, blurred: bytes) -> None:
    image = base64.b64encode((photos / "obama.jpg").read_bytes()).decode()
    created = await (await front.post("/face", json={"image": image})).json()
    changed = {"face_id": created["face_id"], "image": base64.b64encode(blurred).decode()}
    response = await front.post("/face/update", json=changed)
    assert (response.status, (await response.json())["error_type"]) == (422, 312)
    again = await (await front.get(f"/face/{created['face_id']}")).json()
    assert again["face_encoding"] == created["face_encoding"]


async def test_quality_is_told_where_it_is_asked_for(front: TestClient, photos: Path, blurred: bytes) -> None:
    group = (photos / "t1.jpg").read_bytes()
    for path in ("/face-detection", "/face-recognition?include_unknown=true"):
        plain = await told(front, path, group)
        assert len(plain) == 6 and not any("quality" in face or "quality_parts" in face for face in plain)
        assert all(0 < face["quality"] <= 1 for face in await told(front, path, group, quality="true"))
        (face,) = await told(front, path, blurred, quality="true")
        assert face["quality"] < 0.2 and face["quality_parts"]["sharpness"] < 0.18
        assert face["quality_parts"]["eyes"] == pytest.approx(42, abs=6)


@pytest.mark.parametrize(("asked", "usual"), [({}, 9), ({"min_distance": "5"}, 5)])
async def test_a_spoilt_face_needs_a_nearer_sample(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str], asked: dict[str, str], usual: float
) -> None:
    """In recognition and verification alike, also where a distance is asked for."""
    clear, doubtful = photos / "obama.jpg", spoilt(photos / "obama.jpg", sigma=3)
    await send(front, DOORS["people"](clear.read_bytes()))
    (one,) = await told(front, "/face-recognition?include_unknown=true", clear.read_bytes(), **asked)
    (other,) = await told(front, "/face-recognition?include_unknown=true", doubtful, **asked)
    assert one["threshold"] == usual and 0.85 * usual <= other["threshold"] < usual
    body = {"image1": data_uri(clear), "image2": data_uri(doubtful)} | {name: float(asked[name]) for name in asked}
    answer = await (await front.post("/face-verification", json=body)).json()
    assert answer["threshold"] == other["threshold"]


async def told(front: TestClient, path: str, picture: bytes, **fields: str) -> list[dict[str, Any]]:
    form = FormData(fields)
    form.add_field("image", picture, filename="x.jpg")
    response = await front.post(path, data=form)
    faces: list[dict[str, Any]] = await response.json()
    assert response.status == 200
    return faces
