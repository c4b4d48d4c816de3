"""At every door: a picture of two people who are equally good enrols nobody, unless the request says who is meant."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY, PEOPLE
from tests.conftest import Front
from tests.enrolling_doors import COMPANY, DOORS, Request, place_device

LEFT, RIGHT = "205,170", "600,170"
"""Points in the faces of ``pair``."""


@pytest.fixture(scope="module")
def pair(photos: Path) -> bytes:
    """Obama at the left and Biden at the right, of one size."""
    left, right = (cv2.imread(str(photos / name)) for name in ("obama.jpg", "biden.jpg"))
    cut = [left[0:760, 180:788], cv2.resize(right, None, fx=0.86, fy=0.86)[60:820, 175:783]]
    return cv2.imencode(".jpg", np.hstack([cv2.resize(one, (400, 500)) for one in cut]))[1].tobytes()


def with_face(door: str, request: Request, face: str) -> tuple[str, dict[str, Any]]:
    """The path and what else a client sends when it says which face is meant."""
    if door == "keyed stream":
        return f"{request.path}&face={face}", {"data": request.data, "headers": dict(request.headers)}
    body = request.json
    (body[0] if isinstance(body, list) else body)["face"] = face
    return request.path, {"json": body}


def boxes(answer: Any) -> Iterator[tuple[int, ...]]:
    """What an answer says of boxes, whatever the form: x, y, width and height of each."""
    if isinstance(answer, list):
        for one in answer:
            yield from boxes(one)
    elif isinstance(answer, str):
        for found in re.findall(r"(\d+), (\d+), (\d+), (\d+)", answer):
            yield tuple(map(int, found))
    elif isinstance(answer, dict) and set(answer) == {"x", "y", "w", "h"}:
        yield answer["x"], answer["y"], answer["w"], answer["h"]
    elif isinstance(answer, dict) and set(answer) == {"top", "left", "bottom", "right"}:
        left, top = answer["left"], answer["top"]
        yield left, top, answer["right"] - left, answer["bottom"] - top
    elif isinstance(answer, dict):
        yield from boxes(list(answer.values()))


def within(point: str, box: tuple[int, ...]) -> bool:
    (across, down), (x, y, width, height) = map(int, point.split(",")), box
    return x < across < x + width and y < down < y + height


async def post(front: TestClient, path: str, **sent: Any) -> tuple[int, str]:
    response = await front.post(path, **sent)
    return response.status, await response.text()


@pytest.mark.parametrize("door", DOORS)
async def test_two_who_are_equally_good_enrol_nobody(front: TestClient, pair: bytes, door: str) -> None:
    place_device(front.app[DIRECTORY])
    request = DOORS[door](pair)
    sent = {"json": request.json} if request.data is None else {"data": request.data, "headers": dict(request.headers)}
    status, answer = await post(front, request.path, **sent)
    if door == "company":
        assert json.loads(answer)["status"] == 5009
    else:
        assert "ambiguous_face" in answer or '"error_type":311' in answer
        assert answer.count("equally good, at ") >= 1
    assert status in (200, 422)
    assert await front.app[PEOPLE].count(COMPANY) == 0


async def test_of_two_who_are_equally_good_neither_is_registered(front: TestClient, pair: bytes) -> None:
    place_device(front.app[DIRECTORY])
    request = DOORS["company"](pair)
    assert isinstance(request.json, dict)
    status, answer = await post(front, request.path, json=request.json | {"appCode": 2})
    assert (status, json.loads(answer)["status"]) == (200, 5009)
    assert await front.app[PEOPLE].count(COMPANY) == 0


@pytest.mark.parametrize("door", [door for door in DOORS if door != "company"])
async def test_a_request_says_who_is_meant(front: TestClient, pair: bytes, photos: Path, door: str) -> None:
    for face, photo, other in ((LEFT, "obama2.jpg", "biden.jpg"), (RIGHT, "biden.jpg", "obama2.jpg")):
        path, sent = with_face(door, DOORS[door](pair), face)
        status, answer = await post(front, path, **sent)
        assert status == 200 and "ambiguous" not in answer, answer
        told = list(boxes(json.loads(answer.splitlines()[0])))
        assert [within(face, box) for box in told] == [True], answer
        assert len(await recognised(front, photos / photo)) == 1
        assert await recognised(front, photos / other) == []
        assert (await front.delete("/clear-samples")).status == 200


@pytest.mark.parametrize("door", [door for door in DOORS if door != "company"])
async def test_what_says_nothing_is_refused(front: TestClient, pair: bytes, door: str) -> None:
    path, sent = with_face(door, DOORS[door](pair), "smallest")
    status, answer = await post(front, path, **sent)
    assert status == 400 and "face" in answer
    path, sent = with_face(door, DOORS[door](pair), "1,1")
    _, answer = await post(front, path, **sent)
    assert "no_face" in answer or '"error_type":310' in answer
    assert await front.app[PEOPLE].count(COMPANY) == 0


async def recognised(front: TestClient, photo: Path) -> list[Any]:
    response = await front.post("/face-recognition", data=photo.read_bytes(), headers={"Content-Type": "image/jpeg"})
    found: list[Any] = await response.json()
    return found


async def test_the_boxes_are_told(front: TestClient, pair: bytes) -> None:
    form = FormData()
    form.add_field("image", pair, filename="pair.jpg")
    (photo,) = (await (await front.post("/people/x/photos", data=form)).json())["photos"]
    assert photo["error"]["code"] == "ambiguous_face" and len(photo["error"]["boxes"]) == 2
    for box in photo["error"]["boxes"]:
        x, y, width, height = map(int, box.split(", "))
        form = FormData({"face": f"{x + width / 2},{y + height / 2}"})
        form.add_field("image", pair, filename="pair.jpg")
        (photo,) = (await (await front.post("/people/x/photos", data=form)).json())["photos"]
        assert photo["bbox"] == box and photo["faces"] == 2


async def test_who_is_replaced_is_asked_for_too(front: TestClient, pair: bytes, photos: Path) -> None:
    image = base64.b64encode(pair).decode()
    created = await (await front.post("/face", json={"image": image, "face": LEFT})).json()
    changed = {"face_id": created["face_id"], "image": image}
    response = await front.post("/face/update", json=changed)
    assert (response.status, (await response.json())["error_type"]) == (422, 311)
    assert (await response.json())["error_message"].count(" and at ") == 1
    response = await front.post("/face/update", json=changed | {"face": RIGHT})
    assert response.status == 200
    (box,) = boxes(await response.json())
    assert within(RIGHT, box)
    assert await recognised(front, photos / "obama2.jpg") == []
    assert len(await recognised(front, photos / "biden.jpg")) == 1


async def test_verification_never_refuses_and_takes_who_is_named(
    front: TestClient, pair: bytes, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    body = {"image1": data_uri(pair), "image2": data_uri(photos / "obama2.jpg")}
    assert (await front.post("/face-verification", json=body)).status == 200
    answers = [
        await (await front.post("/face-verification", json=body | {"face1": face})).json() for face in (LEFT, RIGHT)
    ]
    assert [one["same"] for one in answers] == [True, False]
    assert answers[0]["bbox1"] != answers[1]["bbox1"] and answers[0]["bbox2"] == answers[1]["bbox2"]
    response = await front.post("/face-verification", json=body | {"face2": "1,1"})
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["input"]) == (422, "no_face", "image2")
    assert (await front.post("/face-verification?face1=largest", json=body)).status == 200


async def test_a_person_is_verified_with_who_is_named(front: TestClient, pair: bytes, photos: Path) -> None:
    form = FormData()
    form.add_field("image", (photos / "obama.jpg").read_bytes(), filename="x.jpg")
    assert (await front.post("/people/44/photos", data=form)).status == 200
    same = []
    for face in (LEFT, RIGHT):
        response = await front.post(
            f"/people/44/verification?face={face}", data=pair, headers={"Content-Type": "image/jpeg"}
        )
        same.append((await response.json())["same"])
    assert same == [True, False]


async def test_who_is_in_the_middle_is_meant(start_front: Front, photos: Path) -> None:
    """Enrolled, verified and named is the one whom a larger passer-by does not hide."""
    front = await start_front()
    meant, passer = (cv2.imread(str(photos / name)) for name in ("obama.jpg", "biden.jpg"))
    height, width = meant.shape[:2]
    large = cv2.resize(passer, None, fx=1.3, fy=1.3)[100 : 100 + height, 500:1000]
    picture = cv2.copyMakeBorder(meant, 0, 0, 500, 500, cv2.BORDER_REPLICATE)
    picture[: large.shape[0], -large.shape[1] :] = large
    scene = cv2.imencode(".jpg", picture)[1].tobytes()
    form = FormData()
    form.add_field("image", scene, filename="x.jpg")
    (photo,) = (await (await front.post("/people/44/photos", data=form)).json())["photos"]
    assert photo["faces"] == 2 and abs(int(photo["bbox"].split(", ")[0]) - 500 - 378) < 20
    bare = {"data": scene, "headers": {"Content-Type": "image/jpeg"}}
    assert (await (await front.post("/people/44/verification", **bare)).json())["bbox"] == photo["bbox"]
    assert len(await recognised(front, photos / "obama2.jpg")) == 1
    largest = await (await front.post("/people/44/verification?face=largest", **bare)).json()
    assert not largest["same"] and int(largest["bbox"].split(", ")[0]) > 500 + width
