"""At every door: a small face in a large picture is found where a request asks for ``detection=thorough``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import PEOPLE
from tests.conftest import Front
from tests.enrolling_doors import COMPANY, DOORS, Request
from tests.pictures import far_away

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def distant(photos: Path) -> bytes:
    return far_away(photos / "obama.jpg")


def encoded(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


READING: Mapping[str, Callable[[bytes], Request]] = {
    "detection": lambda photo: Request("/face-detection", {"image": encoded(photo)}),
    "assessed": lambda photo: Request("/face-detection", {"image": encoded(photo), "quality": True}),
    "pair": lambda photo: Request("/face-verification", {"image1": encoded(photo), "image2": encoded(photo)}),
    "recognition": lambda photo: Request("/face-recognition", {"image": encoded(photo), "include_unknown": True}),
    "person": lambda photo: Request("/people/ann/verification", {"image": encoded(photo)}),
    "keyed": lambda photo: Request("/recognize", {"picture": encoded(photo)}),
    "keyed user": lambda photo: Request("/recognize", {"picture": encoded(photo), "userName": "ann"}),
    "training": lambda photo: Request("/api/recognize", {"image": encoded(photo)}),
    "match": lambda photo: Request("/face/match", {"image": encoded(photo)}),
    "data set": lambda photo: Request("/face/detect", {"image": encoded(photo)}),
    "encoding": lambda photo: Request("/face/detect", {"image": encoded(photo), "encoding": True}),
    "update": lambda photo: Request("/face/update", {"image": encoded(photo), "face_id": 1}),
}
"""Requests that look for faces without enrolling somebody new, where Ann has a photo with the number 1."""

# The company's door has a fixed form.
ALL = {name: make for name, make in DOORS.items() if name != "company"} | {
    f"reading {name}": make for name, make in READING.items()
}


async def ask(front: TestClient, request: Request, detection: str) -> tuple[int, str]:
    if request.data is not None:
        path, headers = f"{request.path}&detection={detection}", dict(request.headers)
        response = await front.post(path, data=request.data, headers=headers)
    else:
        body: Any = request.json
        (body[0] if isinstance(body, list) else body)["detection"] = detection
        response = await front.post(request.path, json=body)
    return response.status, await response.text()


def finds_none(answer: str) -> bool:
    return any(sign in answer for sign in ("no_face", '"error_type":310', '"faces":[]')) or answer == "[]"


@pytest.fixture
async def ready(start_front: Front, photos: Path) -> TestClient:
    front = await start_front(quality_enrol="none")
    response = await front.post("/people/ann/photos", data=(photos / "obama2.jpg").read_bytes(), headers=JPEG)
    (photo,) = (await response.json())["photos"]
    assert (photo["number"], photo["angle"]) == (1, 0)
    return front


@pytest.mark.parametrize("door", ALL)
async def test_a_request_says_how_hard_to_look(ready: TestClient, distant: bytes, door: str) -> None:
    assert finds_none((await ask(ready, ALL[door](distant), "fast"))[1])
    status, answer = await ask(ready, ALL[door](distant), "thorough")
    assert status == 200 and not finds_none(answer), answer
    for wrong in ("slow", "", "Thorough"):
        status, answer = await ask(ready, ALL[door](distant), wrong)
        assert status == 400 and "fast" in answer and "thorough" in answer, answer


async def test_what_a_request_does_not_say_the_setting_does(start_front: Front, distant: bytes) -> None:
    for setting, faces in (("fast", 0), ("thorough", 1)):
        front = await start_front(detection=setting)
        answer = await front.post("/face-recognition?include_unknown=true", data=distant, headers=JPEG)
        assert len(await answer.json()) == faces
        assert await front.app[PEOPLE].count(COMPANY) == 0
