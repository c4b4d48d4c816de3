"""Liveness at every door that recognises: a man before the camera, and his photo on a screen."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY, RECOGNITION
from face_detection.recognition.enrolment import Enrolment
from tests.conftest import Front
from tests.displays import on_display
from tests.enrolling_doors import COMPANY, DEVICE, place_device
from tests.face_detection.api.own.test_events import events

ID = "44"

Ask = Callable[[TestClient, bytes, bool], Awaitable[str | None]]
"""Sends a picture through a door, with or without asking for the check; who it is."""


@pytest.fixture(scope="session")
def man(photos: Path) -> bytes:
    return (photos / "obama3.jpg").read_bytes()


@pytest.fixture(scope="session")
def screen(photos: Path) -> bytes:
    """Another photo of him on a display, seen by a camera."""
    return on_display(photos / "obama2.jpg")


async def enrolled(front: TestClient, photos: Path) -> TestClient:
    assert front.app is not None
    place_device(front.app[DIRECTORY])
    (outcome,) = await front.app[RECOGNITION].enrol(
        COMPANY, [Enrolment(ID, "Barack", (photos / "obama.jpg").read_bytes())]
    )
    assert not isinstance(outcome, Exception)
    return front


@pytest_asyncio.fixture
async def front(start_front: Front, liveness_url: str, photos: Path) -> TestClient:
    return await enrolled(await start_front(extraction_url=liveness_url), photos)


def text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


async def post(front: TestClient, path: str, checks: bool, **body: Any) -> Any:
    response = await front.post(path, json=body | ({"liveness": True} if checks else {}))
    assert response.status == 200, await response.text()
    return await response.json()


async def original(front: TestClient, picture: bytes, checks: bool) -> str | None:
    (face,) = await post(front, "/face-recognition", checks, image=text(picture), include_unknown=True)
    return face["id"] or None


async def person(front: TestClient, picture: bytes, checks: bool) -> str | None:
    answer = await post(front, f"/people/{ID}/verification", checks, image=text(picture))
    return ID if answer["same"] else None


async def data_set(front: TestClient, picture: bytes, checks: bool) -> str | None:
    (face,) = (await post(front, "/face/match", checks, image=text(picture)))["faces"]
    return None if face["face_id"] is None else ID


async def training(front: TestClient, picture: bytes, checks: bool) -> str | None:
    (face,) = (await post(front, "/api/recognize", checks, image=text(picture)))["faces"]
    return face["id"]


async def keyed(front: TestClient, picture: bytes, checks: bool) -> str | None:
    answer = await post(front, "/recognize", checks, picture=text(picture))
    return ID if answer["responseType"] == "SUCCESS" else None


async def keyed_user(front: TestClient, picture: bytes, checks: bool) -> str | None:
    answer = await post(front, "/recognize", checks, picture=text(picture), userName=ID)
    return ID if answer["responseType"] == "SUCCESS" else None


async def live(front: TestClient, picture: bytes, checks: bool) -> str | None:
    async with front.ws_connect("/live") as socket:
        await socket.send_json({"liveness": checks})
        await socket.send_bytes(picture)
        (face,) = (await socket.receive_json(timeout=30))["faces"]
    return face["id"]


async def company(front: TestClient, picture: bytes, checks: bool) -> str | None:
    """Its form is fixed: it never asks."""
    members = {"appCode": 1, "companyCode": COMPANY, "captureDeviceCode": DEVICE, "typeImage": 2}
    answer = await post(front, "/companies/recognition", False, imageValidate=text(picture), **members)
    return ID if answer["status"] == 1 else None


ASKING: dict[str, Ask] = {
    "original": original,
    "person": person,
    "data set": data_set,
    "training": training,
    "keyed": keyed,
    "keyed user": keyed_user,
    "live": live,
}
DOORS = ASKING | {"company": company}


def require(front: TestClient) -> None:
    assert front.app is not None
    front.app[DIRECTORY].update_tenant(COMPANY, settings={"liveness": "required"})


@pytest.mark.parametrize("door", ASKING)
async def test_who_asks_gets_no_name_of_a_screen(door: str, front: TestClient, man: bytes, screen: bytes) -> None:
    ask = ASKING[door]
    assert await ask(front, screen, False) == ID  # it is not for want of likeness
    assert await ask(front, screen, True) is None
    assert await ask(front, man, True) == ID


@pytest.mark.parametrize("door", DOORS)
async def test_where_it_is_required_nobody_need_ask(door: str, front: TestClient, man: bytes, screen: bytes) -> None:
    require(front)
    assert await DOORS[door](front, screen, False) is None
    assert await DOORS[door](front, man, False) == ID


@pytest.mark.parametrize("door", DOORS)
async def test_the_installation_may_require_it(
    door: str, start_front: Front, liveness_url: str, photos: Path, man: bytes, screen: bytes
) -> None:
    front = await enrolled(await start_front(extraction_url=liveness_url, liveness="required"), photos)
    assert await DOORS[door](front, screen, False) is None
    assert await DOORS[door](front, man, False) == ID


async def test_what_is_told_of_each_face(front: TestClient, man: bytes, screen: bytes) -> None:
    body = {"image": text(screen), "include_unknown": True, "candidates": 3}
    (face,) = await post(front, "/face-recognition", True, **body)
    assert face["reason"] == "not_live" and face["liveness"] < 0.5
    assert (face["id"], face["distance"], face["candidates"]) == ("", None, None)  # nor who is near
    (face,) = await post(front, "/face-recognition", True, image=text(man))
    assert face["id"] == ID and "reason" not in face and face["liveness"] >= 0.5
    (face,) = await post(front, "/face-recognition", False, image=text(man))
    assert "liveness" not in face


async def test_a_picture_is_noted_as_unknown(front: TestClient, screen: bytes) -> None:
    await original(front, screen, True)
    (event, *_) = (await events(front, 2))["events"]
    assert (event["kind"], event["person"], event["distance"]) == ("unknown", None, None)


async def test_of_two_pictures_both_must_be_real(front: TestClient, man: bytes, screen: bytes) -> None:
    for one, other, same in ((man, man, True), (man, screen, False), (screen, man, False)):
        body = {"image1": text(one), "image2": text(other)}
        assert (await post(front, "/face-verification", False, **body))["same"]
        found = await post(front, "/face-verification", True, **body)
        assert found["same"] is same and found["reason"] == (None if same else "not_live")
        assert [found["liveness1"] >= 0.5, found["liveness2"] >= 0.5] == [one is man, other is man]
    require(front)
    assert not (await post(front, "/face-verification", False, image1=text(man), image2=text(screen)))["same"]


async def test_a_picture_is_not_registered_as_somebody_new(front: TestClient, photos: Path) -> None:
    require(front)
    stranger = on_display(photos / "biden.jpg")
    members = {"appCode": 2, "companyCode": COMPANY, "captureDeviceCode": DEVICE, "typeImage": 2, "keyPerson": 7}
    answer = await post(front, "/companies/recognition", False, imageValidate=text(stranger), **members)
    assert answer["status"] == 3
    there = text((photos / "biden.jpg").read_bytes())
    answer = await post(front, "/companies/recognition", False, imageValidate=there, **members)
    assert answer["status"] == 6


async def test_without_the_check_who_asks_is_told_what_to_do(start_front: Front, photos: Path, man: bytes) -> None:
    front = await enrolled(await start_front(), photos)
    response = await front.post("/face-recognition", json={"image": text(man), "liveness": True})
    assert response.status == 501
    error = await response.json()
    assert error["code"] == "liveness_unavailable" and "LIVENESS=available" in error["error"]
    require(front)
    response = await front.post("/face-recognition", json={"image": text(man)})
    assert response.status == 501  # never silently without it


async def test_as_a_query_and_in_a_form(front: TestClient, screen: bytes) -> None:
    response = await front.post(
        "/face-recognition?liveness=true&include_unknown=true", data=screen, headers={"Content-Type": "image/png"}
    )
    (face,) = await response.json()
    assert face["reason"] == "not_live"
    response = await front.post("/api/recognize?liveness=true", data=screen, headers={"Content-Type": "image/png"})
    assert (await response.json())["faces"][0]["name"] == "unknown"


async def test_a_live_face_has_its_score(front: TestClient, man: bytes, screen: bytes) -> None:
    async with front.ws_connect("/live") as socket:
        for checks, picture, reason in ((True, screen, "not_live"), (False, screen, None)):
            await socket.send_json({"liveness": checks})
            embedded = False
            while not embedded:  # it is compared anew, but not more often than usual
                await socket.send_bytes(picture)
                (face,) = (await socket.receive_json(timeout=30))["faces"]
                embedded = face["embedded"]
            assert face["reason"] == reason
            assert (face["liveness"] is None) is not checks
            assert (face["id"] == ID) is not checks
