"""Train, recognise, list, clear: on real photos and the real model."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from face_detection.api.doors.training import OPERATIONS, TrainingFailure
from face_detection.api.operation import ACCESS, DIRECTORY, PEOPLE
from face_detection.gallery.directory import Right
from shared.images import Pixels
from tests.conftest import Front

NO_FACE = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()


def form(*photos: Path | bytes, **fields: str) -> FormData:
    data = FormData(default_to_multipart=True)
    for photo in photos:
        content = photo if isinstance(photo, bytes) else photo.read_bytes()
        data.add_field("file", content, filename="photo.jpg", content_type="image/jpeg")
    for name, value in fields.items():
        data.add_field(name, value)
    return data


def base64_of(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


def decoded(jpeg: bytes) -> Pixels:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


async def post(front: TestClient, path: str, body: object = None, **options: Any) -> tuple[int, Any]:
    """Posts JSON, a form or bytes; gives back the status and the body, which is checked against its description."""
    body = body if isinstance(body, FormData | bytes | None) else json.dumps(body)
    response = await front.post(path, data=body, **options)
    if response.content_type != "application/json":
        return response.status, await response.read()
    answer = await response.json()
    if response.status == 200:
        next(one for one in OPERATIONS if one.path == path.split("?")[0]).answer.validate_python(answer)
    else:
        TypeAdapter(TrainingFailure).validate_python(answer)
        assert set(answer) == {"error", "code"}
    return response.status, answer


@pytest_asyncio.fixture
async def trained(front: TestClient, photos: Path) -> TestClient:
    status, _ = await post(front, "/api/train", form(photos / "obama.jpg", name="Barack Obama"))
    assert status == 200
    return front


@pytest.fixture(scope="module")
def pair(photos: Path) -> bytes:
    """Obama and Biden side by side, 600 pixels high."""
    parts = [cv2.imread(str(photos / name)) for name in ("obama2.jpg", "biden.jpg")]
    row = np.hstack([cv2.resize(one, (round(one.shape[1] * 600 / one.shape[0]), 600)) for one in parts])
    return cv2.imencode(".png", row)[1].tobytes()


async def test_a_round_trip(front: TestClient, photos: Path, pair: bytes) -> None:
    expected = {"id": "Barack Obama", "name": "Barack Obama", "trained": 2, "photos": 2, "failed": []}
    photos_of_one = form(photos / "obama.jpg", photos / "obama3.jpg", name="Barack Obama")
    status, answer = await post(front, "/api/train", photos_of_one)
    assert [(one["photo"], one["faces"]) for one in answer.pop("taken")] == [(1, 1), (2, 1)]
    assert (status, answer) == (200, expected)
    biden = {"image": base64_of(photos / "biden.jpg"), "id": 46, "name": "Joe Biden"}
    expected = {"id": "46", "name": "Joe Biden", "trained": 1, "photos": 1, "failed": []}
    status, answer = await post(front, "/api/train", biden)
    (taken,) = answer.pop("taken")
    assert (status, answer, taken["photo"]) == (200, expected, 1)

    status, answer = await post(front, "/api/recognize", form(pair))
    other, one = answer["faces"]  # in reading order: the other's head is higher
    assert (one["id"], one["name"], other["id"], other["name"]) == ("Barack Obama", "Barack Obama", "46", "Joe Biden")
    assert one["confidence"] > 50 and other["distance"] < one["distance"] < 9
    for face in (one, other):
        box, edges = face["box"], face["location"]
        assert (edges["left"], edges["top"]) == (box["x"], box["y"])
        assert (edges["right"], edges["bottom"]) == (box["x"] + box["w"], box["y"] + box["h"])

    listed = await (await front.get("/api/faces")).json()
    assert listed["faces"] == [
        {"id": "46", "name": "Joe Biden", "photos": 1},
        {"id": "Barack Obama", "name": "Barack Obama", "photos": 2},
    ]
    page = await (await front.get("/api/faces?limit=1&after=46")).json()
    assert ([face["id"] for face in page["faces"]], page["next"]) == (["Barack Obama"], None)

    assert await post(front, "/api/clear", {"name": "46"}) == (200, {"removed": 1})
    _, answer = await post(front, "/api/recognize", form(pair))
    assert [face["id"] for face in answer["faces"]] == [None, "Barack Obama"]
    assert answer["faces"][0]["name"] == "unknown"
    assert await post(front, "/api/clear") == (200, {"removed": 2})
    _, answer = await post(front, "/api/recognize", form(pair))
    assert [(face["distance"], face["confidence"]) for face in answer["faces"]] == [(None, 0)] * 2


async def test_every_form_of_a_picture(trained: TestClient, photos: Path) -> None:
    photo = photos / "obama2.jpg"
    bare = {"Content-Type": "image/jpeg"}
    _, expected = await post(trained, "/api/recognize", form(photo))
    assert expected["faces"][0]["name"] == "Barack Obama"
    assert (await post(trained, "/api/recognize", {"image": base64_of(photo)}))[1] == expected
    assert (await post(trained, "/api/recognize", photo.read_bytes(), headers=bare))[1] == expected
    image = FormData({"image": f"data:image/jpeg;base64,{base64_of(photo)}"})
    image.add_field("other", "x", content_type="text/plain")
    assert (await post(trained, "/api/recognize", image))[1] == expected


async def test_photos_are_added_and_the_name_stays(trained: TestClient, photos: Path) -> None:
    body = {"image": base64_of(photos / "obama2.jpg"), "id": "Barack Obama", "name": "Somebody else"}
    _, answer = await post(trained, "/api/train", body)
    assert (answer["name"], answer["trained"], answer["photos"]) == ("Barack Obama", 1, 2)


async def test_one_bad_photo_fails_alone(front: TestClient, photos: Path) -> None:
    bad = form(b"no picture", photos / "obama.jpg", NO_FACE, name="Barack Obama")
    status, answer = await post(front, "/api/train", bad)
    assert (status, answer["trained"], answer["photos"]) == (200, 1, 1)
    assert [one["photo"] for one in answer["taken"]] == [2]
    assert [(one["photo"], one["code"]) for one in answer["failed"]] == [(1, "unsupported_image_type"), (3, "no_face")]
    status, answer = await post(front, "/api/train", form(NO_FACE, b"no picture", name="Nobody"))
    assert (status, answer["code"]) == (422, "no_face") and answer["error"].startswith("photo 1: ")
    status, answer = await post(front, "/api/train", form(NO_FACE, name="Nobody"))
    assert (status, answer["error"]) == (422, "There is no face in the image.")
    assert await front.app[PEOPLE].count("default") == 1


async def test_the_nearest_photos_vote(front: TestClient, photos: Path) -> None:
    """One photo of an impostor is nearest, but two near ones are of the person."""
    await post(front, "/api/train", form(photos / "obama2.jpg", name="Impostor"))
    await post(front, "/api/train", form(photos / "obama3.jpg", photos / "obama.jpg", name="Barack Obama"))
    probe = cv2.GaussianBlur(cv2.imread(str(photos / "obama2.jpg")), (0, 0), 9)
    image = base64.b64encode(cv2.imencode(".png", probe)[1].tobytes()).decode()
    asked = {"image": image, "min_distance": 11}
    (nearest,) = await (await front.post("/face-recognition", json=asked)).json()
    _, answer = await post(front, "/api/recognize", asked)
    assert (nearest["name"], answer["faces"][0]["name"]) == ("Impostor", "Barack Obama")


async def test_the_picture_with_names(trained: TestClient, pair: bytes) -> None:
    before = decoded(pair)
    response = await trained.post("/api/recognize?draw=1", data=form(pair))
    assert (response.status, response.content_type) == (200, "image/jpeg")
    drawn = decoded(await response.read())
    assert drawn.shape == before.shape
    changed = np.abs(drawn.astype(int) - before).max(axis=2) > 60
    _, answer = await post(trained, "/api/recognize", form(pair))
    for face in answer["faces"]:
        edges = face["location"]
        assert changed[edges["top"] : edges["bottom"], edges["left"]].mean() > 0.3
        assert changed[(edges["top"] + edges["bottom"]) // 2, edges["left"] + 20 : edges["right"] - 20].mean() < 0.1


@pytest.mark.parametrize("query", ["mask=unknown", "mask=all", "mask=unknown&draw=1", "mask=all&draw=true"])
async def test_masked_faces_are_gone(trained: TestClient, pair: bytes, query: str) -> None:
    status, jpeg = await post(trained, f"/api/recognize?{query}", pair, headers={"Content-Type": "image/png"})
    assert status == 200
    await post(trained, "/api/clear")
    for name, half in (("left", np.s_[:, :400]), ("right", np.s_[:, 400:])):
        part = cv2.imencode(".png", np.ascontiguousarray(decoded(pair)[half]))[1].tobytes()
        await post(trained, "/api/train", form(part, name=name))
    _, answer = await post(trained, "/api/recognize", form(jpeg))
    names = [face["name"] for face in answer["faces"]]
    assert names == (["left"] if "unknown" in query else [])


async def test_the_picture_is_upright(trained: TestClient, photos: Path) -> None:
    lying = cv2.rotate(cv2.imread(str(photos / "obama2.jpg")), cv2.ROTATE_90_COUNTERCLOCKWISE)
    jpeg = cv2.imencode(".jpg", lying)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    jpeg = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    _, answer = await post(trained, "/api/recognize", form(jpeg))
    assert answer["faces"][0]["name"] == "Barack Obama"
    _, drawn = await post(trained, "/api/recognize?draw=1", form(jpeg))
    assert decoded(drawn).shape == (lying.shape[1], lying.shape[0], 3)
    _, again = await post(trained, "/api/recognize", form(drawn))
    assert again["faces"][0]["name"] == "Barack Obama"


async def test_a_picture_without_faces(trained: TestClient) -> None:
    assert await post(trained, "/api/recognize", form(NO_FACE)) == (200, {"faces": []})
    status, jpeg = await post(trained, "/api/recognize?draw=1&mask=all", form(NO_FACE))
    assert status == 200 and decoded(jpeg).shape == (64, 64, 3)
    wide = cv2.imencode(".png", np.zeros((8, 70_000, 3), np.uint8))[1].tobytes()
    status, answer = await post(trained, "/api/recognize?draw=1", form(wide))
    assert (status, answer["code"]) == (413, "too_many_pixels")


async def test_faults(trained: TestClient, photos: Path) -> None:
    image = base64_of(photos / "obama.jpg")
    photo = photos / "obama.jpg"
    twice = form(photo, name="A")
    twice.add_field("name", "B")
    faults: list[tuple[str, Any, int]] = [
        ("/api/train", {"image": image}, 400),
        ("/api/train", {"id": "a"}, 400),
        ("/api/train", {"image": image, "id": ""}, 400),
        ("/api/train", {"image": image, "name": "x" * 257}, 400),
        ("/api/train", {"image": image, "id": "a", "name": "x" * 513}, 400),
        ("/api/train", {"image": image, "id": "a", "name": "\0"}, 400),
        ("/api/train", {"image": [image], "id": "a"}, 400),
        ("/api/train", {"image": "====", "id": "a"}, 422),
        ("/api/train", [], 400),
        ("/api/train", b"", 400),
        ("/api/train", form(photo), 400),
        ("/api/train", form(name="A", x="x"), 400),
        ("/api/train", twice, 400),
        ("/api/train", form(*[NO_FACE] * 101, name="A"), 400),
        ("/api/recognize", {"image": 5}, 400),
        ("/api/recognize", {}, 400),
        ("/api/recognize", b"[" * 100_000, 400),
        ("/api/recognize", form(b"%PDF-1.7"), 415),
        ("/api/recognize", form(photo.read_bytes()[:5000]), 422),
        ("/api/clear", {"name": "Nobody"}, 404),
        ("/api/clear", {"name": ""}, 400),
        ("/api/clear", {"name": None}, 400),
        ("/api/clear", {"nmae": "Barack Obama"}, 400),
        ("/api/clear", [], 400),
        ("/api/clear", b" ", 400),
        ("/api/clear", form(name="Barack Obama", other="x"), 400),
    ]
    for path, body, expected in faults:
        status, _ = await post(trained, path, body)
        assert status == expected, (path, str(body)[:80])
    for query in ("draw=maybe", "mask=some", "mask="):
        response = await trained.post(f"/api/recognize?{query}", data=form(photo))
        assert (response.status, (await response.json())["code"]) == (400, "invalid_request")
    for query in ("nmae=x", "name="):
        assert (await trained.post(f"/api/clear?{query}")).status == 400
    assert (await trained.get("/api/faces?limit=0")).status == 400
    assert await trained.app[PEOPLE].count("default") == 1


async def test_clearing_one_by_query_or_form(trained: TestClient, photos: Path) -> None:
    assert await (await trained.post("/api/clear?name=Barack%20Obama")).json() == {"removed": 1}
    await post(trained, "/api/train", form(photos / "obama.jpg", name="Łukasz"))
    assert await post(trained, "/api/clear", form(name="Łukasz")) == (200, {"removed": 1})


async def test_rights(trained: TestClient, photos: Path) -> None:
    access = trained.app[ACCESS]
    keys = {right: access.create_key("default", right, [right])[1] for right in Right}
    photo = photos / "obama.jpg"
    statuses = {}
    for right, key in keys.items():
        headers = {"X-API-Key": key}
        statuses[right] = [
            (await post(trained, "/api/train", form(photo, name="A"), headers=headers))[0],
            (await post(trained, "/api/recognize", form(photo), headers=headers))[0],
            (await trained.get("/api/faces", headers=headers)).status,
            (await post(trained, "/api/clear", {"name": "A"}, headers=headers))[0],
            (await post(trained, "/api/clear", headers=headers))[0],
        ]
    assert statuses == {
        Right.RECOGNISE: [403, 200, 403, 403, 403],
        Right.ENROL: [200, 403, 200, 200, 403],
        Right.ADMIN: [200, 200, 200, 200, 200],
    }
    status, answer = await post(trained, "/api/clear")
    assert (status, answer["code"]) == (401, "unauthorized")
    assert (await trained.get("/api")).status == 200


async def test_companies_are_apart(trained: TestClient, photos: Path) -> None:
    trained.app[DIRECTORY].create_tenant("7", "Another", trained.app[DIRECTORY].tenant("default").settings)
    _, key = trained.app[ACCESS].create_key("7", "theirs", [Right.ADMIN], max_samples=1)
    headers = {"X-API-Key": key}
    _, answer = await post(trained, "/api/recognize", form(photos / "obama.jpg"), headers=headers)
    assert answer["faces"][0]["id"] is None
    status, answer = await post(trained, "/api/clear", {"name": "Barack Obama"}, headers=headers)
    assert status == 404
    two = form(photos / "obama.jpg", photos / "biden.jpg", name="A")
    status, answer = await post(trained, "/api/train", two, headers=headers)
    assert (status, answer["code"]) == (403, "quota_exceeded")
    assert await trained.app[PEOPLE].count("7") == 0


async def test_what_there_is(front: TestClient) -> None:
    endpoints = (await (await front.get("/api")).json())["endpoints"]
    assert {(one["method"], one["path"]) for one in endpoints} == {
        ("GET", "/api"),
        ("POST", "/api/train"),
        ("POST", "/api/recognize"),
        ("GET", "/api/faces"),
        ("POST", "/api/clear"),
    }


async def test_bodies_that_are_too_large(start_front: Front, photos: Path) -> None:
    front = await start_front(max_image_bytes=50_000, max_body_bytes=200_000)
    large = b"\xff\xd8\xff" + bytes(60_000)
    for path, body in (
        ("/api/train", form(large, name="A")),
        ("/api/train", form(*[large[:49_000]] * 5, name="A")),
        ("/api/train", {"image": "A" * 150_000, "id": "a"}),
        ("/api/recognize", form(large)),
        ("/api/clear", {"name": "x" * 70_000}),
    ):
        assert (await post(front, path, body))[0] == 413


async def test_the_extraction_service_is_down(start_front: Front, photos: Path, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    for path in ("/api/train", "/api/recognize", "/api/recognize?mask=all"):
        response = await front.post(path, data=form(photos / "obama.jpg", name="A"))
        assert (response.status, (await response.json())["code"]) == (503, "extraction_unavailable")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["image", "file", "id", "name", "other"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/api/train", "/api/recognize", "/api/clear"]),
    body=st.dictionaries(MEMBERS, JSON | st.just("iVBORw0KGgo="), max_size=4) | JSON,
    truncate=st.booleans(),
)
async def test_no_body_breaks_it(front: TestClient, path: str, body: Any, truncate: bool) -> None:
    text = json.dumps(body).encode()
    status, _ = await post(front, path, text[: len(text) // 2] if truncate else text)
    assert status in (200, 400, 404, 415, 422) and (status != 200 or path == "/api/clear")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_no_picture_breaks_it(trained: TestClient, photos: Path, data: st.DataObject) -> None:
    small = cv2.resize(cv2.imread(str(photos / "biden.jpg")), (96, 96))
    kind = data.draw(st.sampled_from([".jpg", ".png", ".webp", ".bmp"]))
    encoded = bytearray(cv2.imencode(kind, small)[1].tobytes())
    for _ in range(data.draw(st.integers(0, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    picture = bytes(encoded[: data.draw(st.integers(0, len(encoded)))]) + data.draw(st.binary(max_size=8))
    headers = {"Content-Type": "image/x"}
    query = data.draw(st.sampled_from(["", "?draw=1", "?mask=all", "?draw=1&mask=unknown"]))
    status, _ = await post(trained, f"/api/recognize{query}", picture, headers=headers)
    assert status in (200, 400, 413, 415, 422)
