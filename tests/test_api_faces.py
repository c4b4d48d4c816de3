"""Detection and verification over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from tests.conftest import Front

DataUri = Callable[[Path | bytes], str]


async def test_detection(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    faces = await (await front.post("/face-detection", json={"image": data_uri(photos / "t1.jpg")})).json()
    assert len(faces) == 6
    for face in faces:
        x, y, width, height = (int(part) for part in face["bbox"].split(", "))
        assert 0.7 < face["score"] <= 1
        assert set(face["landmarks"]) == {"right_eye", "left_eye", "nose", "right_mouth", "left_mouth"}
        for px, py in face["landmarks"].values():
            assert x - width / 4 < px < x + width * 1.25 and y < py < y + height
        # The person's right eye is on the left of the picture.
        assert face["landmarks"]["right_eye"][0] < face["landmarks"]["left_eye"][0]


async def test_detection_needs_no_extraction_service(start_front: Front, photos: Path, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    body = (photos / "obama.jpg").read_bytes()
    response = await front.post("/face-detection", data=body, headers={"Content-Type": "image/jpeg"})
    assert len(await response.json()) == 1


async def test_verification(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    images = {name: data_uri(photos / f"{name}.jpg") for name in ("obama", "obama2", "biden")}
    body = {"image1": images["obama"], "image2": images["obama2"]}
    same = await (await front.post("/face-verification", json=body)).json()
    assert same["same"] and same["distance"] < same["threshold"] == 9
    other = await (await front.post("/face-verification", json=body | {"image2": images["biden"]})).json()
    assert not other["same"] and other["distance"] > 9
    strict = await (await front.post("/face-verification", json=body | {"min_distance": same["distance"] - 0.1})).json()
    assert not strict["same"] and strict["distance"] == same["distance"]
    itself = await (await front.post("/face-verification", json=body | {"image2": images["obama"]})).json()
    assert itself["distance"] == 0 and itself["bbox1"] == itself["bbox2"]


async def test_verification_as_a_form(front: TestClient, photos: Path) -> None:
    form = FormData()
    for field, name in (("image1", "obama.jpg"), ("image2", "obama2.jpg")):
        form.add_field(field, (photos / name).read_bytes(), filename=name)
    assert (await (await front.post("/face-verification", data=form)).json())["same"]


async def test_verification_without_a_face(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    blank = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    body = {"image1": data_uri(photos / "obama.jpg"), "image2": data_uri(blank)}
    response = await front.post("/face-verification", json=body)
    assert response.status == 422
    answer = await response.json()
    assert answer["error"]["code"] == "no_face"
    assert answer["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/face-verification", "/face-detection"])
@pytest.mark.parametrize("body", [{}, {"image": 1}, {"image1": "x"}, [], 7])
async def test_malformed_requests(front: TestClient, path: str, body: object) -> None:
    response = await front.post(path, json=body)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
