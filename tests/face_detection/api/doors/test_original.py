"""Enrol, recognise, clear: the original service's interface, on real photos and the real model."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from skimage import data

from tests.conftest import Front

DataUri = Callable[[Path | bytes], str]


@pytest.fixture
def sample(photos: Path, data_uri: DataUri) -> dict[str, Any]:
    return {
        "id": "person1",
        "name": "Person One",
        "image": data_uri(photos / "obama.jpg"),
        "metadata": "mydomain.com/myobject1",
        "action": "embedlink",
    }


@pytest_asyncio.fixture
async def enrolled(front: TestClient, sample: dict[str, Any]) -> TestClient:
    response = await front.post("/update-samples", json=[sample])
    assert response.status == 200
    return front


@pytest.fixture(scope="session")
def blank() -> bytes:
    return cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()


async def ids(front: TestClient) -> list[str]:
    return [person["id"] for person in (await (await front.get("/people")).json())["people"]]


async def test_the_documented_round_trip(front: TestClient, sample: dict[str, Any], photos: Path, data_uri: DataUri):
    response = await front.post("/update-samples", json=[sample])
    assert (response.status, await response.json()) == (200, {"success": ["person1"], "fail": []})

    response = await front.post("/face-recognition", json={"image": data_uri(photos / "obama2.jpg"), "min_distance": 9})
    (face,) = await response.json()
    assert response.status == 200
    x, y, width, height = (int(part) for part in face.pop("bbox").split(", "))
    assert abs(x + width / 2 - 335) < 60 and abs(y + height / 2 - 425) < 80
    assert 4 < face.pop("distance") < 9
    assert 1e-5 < face.pop("false_match_rate") < face.pop("threshold_rate") < 3e-4  # of one sample
    assert face == {
        "angle": 0,
        "threshold": 9.0,
        "margin": None,
        "ambiguous": False,
        "id": "person1",
        "name": "Person One",
        "metadata": "mydomain.com/myobject1",
        "action": "embedlink",
    }


async def test_strangers_are_left_out_unless_asked_for(enrolled: TestClient, photos: Path, data_uri: DataUri) -> None:
    image = data_uri(photos / "t1.jpg")
    assert await (await enrolled.post("/face-recognition", json={"image": image})).json() == []
    response = await enrolled.post("/face-recognition", json={"image": image, "include_unknown": True})
    faces = await response.json()
    assert len(faces) == 6
    assert all((face["id"], face["name"], face["metadata"]) == ("", "", "") for face in faces)
    assert all(face["distance"] > 9 for face in faces)


async def test_two_known_people_and_strangers(
    front: TestClient, sample: dict[str, Any], photos: Path, data_uri: DataUri
) -> None:
    other = sample | {"id": "person2", "name": "Person Two", "image": data_uri(photos / "biden.jpg")}
    await front.post("/update-samples", json=[sample, other])
    astronaut = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    parts = [cv2.imread(str(photos / "obama3.jpg")), astronaut, cv2.flip(cv2.imread(str(photos / "biden.jpg")), 1)]
    row = np.hstack([cv2.resize(part, (round(part.shape[1] * 600 / part.shape[0]), 600)) for part in parts])
    image = data_uri(cv2.imencode(".jpg", row)[1].tobytes())
    faces = await (await front.post("/face-recognition", json={"image": image, "include_unknown": True})).json()
    assert [face["id"] for face in faces] == ["person1", "", "person2"]


async def test_a_stricter_threshold_names_nobody(enrolled: TestClient, photos: Path, data_uri: DataUri) -> None:
    image = data_uri(photos / "obama2.jpg")
    distance = (await (await enrolled.post("/face-recognition", json={"image": image})).json())[0]["distance"]
    for threshold, count in ((distance - 0.01, 0), (distance + 0.01, 1), (0, 0)):
        body = {"image": image, "min_distance": threshold}
        assert len(await (await enrolled.post("/face-recognition", json=body)).json()) == count


async def test_nothing_to_find_is_no_error(front: TestClient, photos: Path, data_uri: DataUri, blank: bytes) -> None:
    for picture in (photos / "obama.jpg", blank):
        response = await front.post("/face-recognition", json={"image": data_uri(picture)})
        assert (response.status, await response.json()) == (200, [])
    response = await front.post(
        "/face-recognition", json={"image": data_uri(photos / "obama.jpg"), "include_unknown": True}
    )
    assert [face["distance"] for face in await response.json()] == [None]


async def test_sending_an_id_again_replaces_it(
    enrolled: TestClient, sample: dict[str, Any], photos: Path, data_uri: DataUri
) -> None:
    changed = sample | {"name": "Somebody Else", "image": data_uri(photos / "biden.jpg"), "metadata": {"a": [1]}}
    await enrolled.post("/update-samples", json=[changed])
    assert await ids(enrolled) == ["person1"]
    image = data_uri(photos / "obama2.jpg")
    assert await (await enrolled.post("/face-recognition", json={"image": image})).json() == []
    image = data_uri(photos / "biden.jpg")
    (face,) = await (await enrolled.post("/face-recognition", json={"image": image})).json()
    assert (face["name"], face["metadata"], face["distance"]) == ("Somebody Else", {"a": [1]}, 0)


async def test_one_bad_picture_fails_alone(
    front: TestClient, sample: dict[str, Any], photos: Path, data_uri: DataUri, blank: bytes
) -> None:
    batch = [
        sample | {"id": "garbage", "image": "data:image/jpeg;base64,!!!"},
        sample | {"id": "text", "image": base64.b64encode(b"hello").decode()},
        sample | {"id": "truncated", "image": data_uri((photos / "obama.jpg").read_bytes()[:100_000])},
        sample | {"id": "nobody", "image": data_uri(blank)},
        sample | {"id": "group", "image": data_uri(photos / "t1.jpg")},
        sample,
    ]
    response = await front.post("/update-samples", json=batch)
    answer = await response.json()
    assert response.status == 200
    assert answer["success"] == ["group", "person1"]
    assert answer["fail"] == ["garbage", "text", "truncated", "nobody"]
    assert {id: error["code"] for id, error in answer["errors"].items()} == {
        "garbage": "undecodable_image",
        "text": "unsupported_image_type",
        "truncated": "undecodable_image",
        "nobody": "no_face",
    }
    assert all(error["message"] for error in answer["errors"].values())
    assert answer["warnings"] == {"group": ["The image shows 6 faces; that at 461, 270, 109, 147 was enrolled."]}
    assert await ids(front) == ["group", "person1"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"[1, 2", "not JSON"),
        (b'{"id": "a"}', "list"),
        (b"[[]]", "[0]"),
        (b'[{"name": "n", "image": "aaaa"}]', "[0].id"),
        (b'[{"id": "a", "image": "aaaa"}]', "[0].name"),
        (b'[{"id": "a", "name": "n"}]', "[0].image"),
        (b'[{"id": "", "name": "n", "image": "aaaa"}]', "[0].id"),
        (b'[{"id": "a", "name": 5, "image": "aaaa"}]', "[0].name"),
        (b'[{"id": "a", "name": "n", "image": 5}]', "[0].image"),
        (b'[{"id": "a\\u0000", "name": "n", "image": "aaaa"}]', "[0].id"),
        (b'[{"id": "a", "name": "n", "image": "aaaa", "metadata": "%s"}]' % (b"x" * 70_000), "[0].metadata"),
    ],
)
async def test_a_malformed_batch_changes_nothing(enrolled: TestClient, body: bytes, complaint: str) -> None:
    response = await enrolled.post("/update-samples", data=body, headers={"Content-Type": "application/json"})
    answer = await response.json()
    assert (response.status, answer["error"], answer["code"]) == (400, "Invalid request.", "invalid_request")
    assert complaint in answer["detail"]
    assert await ids(enrolled) == ["person1"]


async def test_an_id_twice_in_one_batch_changes_nothing(enrolled: TestClient, sample: dict[str, Any]) -> None:
    batch = [sample | {"id": "a"}, sample | {"id": "b"}, sample | {"id": "a"}]
    response = await enrolled.post("/update-samples", json=batch)
    assert response.status == 400
    assert (await response.json())["detail"] == "The id a appears twice."
    assert await ids(enrolled) == ["person1"]


async def test_a_fault_of_a_form_names_the_sample_and_the_part(front: TestClient) -> None:
    form = FormData(default_to_multipart=True)
    for name in ("id", "name", "image", "id", "name", "name"):
        form.add_field(name, "x")
    response = await front.post("/update-samples", data=form)
    assert (await response.json())["detail"] == "[1].name: appears twice in one sample"
    part = b"--x\r\nContent-Disposition: form-data%s\r\n\r\na\r\n"
    body = part % b'; name="id"' + part % b"" + b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await front.post("/update-samples", data=body, headers=headers)
    assert (await response.json())["detail"] == "Part 2 of the form has no name."


async def test_numbers_are_taken_as_ids(front: TestClient, sample: dict[str, Any]) -> None:
    response = await front.post("/update-samples", json=[sample | {"id": 17}])
    assert (await response.json())["success"] == ["17"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"image": None},
        {"image": 7},
        {"image": "x", "min_distance": -1},
        {"image": "x", "min_distance": "far"},
        {"image": "x", "include_unknown": "perhaps"},
        [],
        "text",
    ],
)
async def test_a_malformed_recognition_is_refused(front: TestClient, body: Any) -> None:
    response = await front.post("/face-recognition", json=body)
    answer = await response.json()
    assert (response.status, answer["error"]) == (400, "Invalid request.")
    assert answer["detail"]


async def test_infinities_are_not_json(front: TestClient) -> None:
    response = await front.post("/face-recognition", data=b'{"image": "x", "min_distance": NaN}')
    assert response.status == 400


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        ("data:image/png;base64,????", 422, "undecodable_image"),
        ("data:image/png,plain", 422, "undecodable_image"),
        ("", 422, "undecodable_image"),
        (base64.b64encode(b"%PDF-1.7" + b"\0" * 50).decode(), 415, "unsupported_image_type"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 50).decode(), 422, "undecodable_image"),
    ],
)
async def test_a_bad_picture_has_its_own_code(front: TestClient, image: str, status: int, code: str) -> None:
    response = await front.post("/face-recognition", json={"image": image})
    answer = await response.json()
    assert (response.status, answer["code"]) == (status, code)
    assert isinstance(answer["error"], str) and answer["error"]


async def test_sizes_are_limited(start_front: Front, photos: Path, data_uri: DataUri) -> None:
    front = await start_front(max_image_bytes=100_000, max_image_pixels=1000, max_body_bytes=3_000_000)
    big = data_uri(photos / "obama.jpg")
    response = await front.post("/face-recognition", json={"image": big})
    assert (response.status, (await response.json())["code"]) == (413, "image_too_large")
    small = cv2.imencode(".png", np.zeros((50, 50, 3), np.uint8))[1].tobytes()
    response = await front.post("/face-recognition", json={"image": data_uri(small)})
    assert (response.status, (await response.json())["code"]) == (413, "too_many_pixels")
    response = await front.post("/face-recognition", json={"image": "a" * 2_000_000})
    assert (response.status, (await response.json())["code"]) == (413, "body_too_large")
    response = await front.post("/update-samples", data=b"[" + b" " * 3_000_000)
    assert (response.status, (await response.json())["code"]) == (413, "body_too_large")


async def test_a_body_of_unknown_length_is_limited_too(start_front: Front) -> None:
    front = await start_front(max_body_bytes=100_000)

    async def endless():
        for _ in range(100):
            yield b" " * 10_000

    response = await front.post("/update-samples", data=endless())
    assert (response.status, (await response.json())["code"]) == (413, "body_too_large")


async def test_a_batch_has_a_limit(start_front: Front, sample: dict[str, Any]) -> None:
    front = await start_front(max_batch_items=2)
    response = await front.post("/update-samples", json=[sample | {"id": str(i)} for i in range(3)])
    assert response.status == 400


async def test_forms_and_bare_pictures(front: TestClient, photos: Path) -> None:
    form = FormData()
    for id, name in (("a", "obama.jpg"), ("b", "biden.jpg")):
        form.add_field("id", id)
        form.add_field("name", f"Name of {id}")
        form.add_field("metadata", "m")
        form.add_field("image", (photos / name).read_bytes(), filename=name, content_type="image/jpeg")
    response = await front.post("/update-samples", data=form)
    assert await response.json() == {"success": ["a", "b"], "fail": []}

    picture = (photos / "obama2.jpg").read_bytes()
    form = FormData({"min_distance": "8.5", "include_unknown": "false"})
    form.add_field("image", picture, filename="x.jpg")
    as_form = await (await front.post("/face-recognition", data=form)).json()
    bare = await (
        await front.post(
            "/face-recognition", params={"min_distance": "8.5"}, data=picture, headers={"Content-Type": "image/jpeg"}
        )
    ).json()
    assert as_form == bare
    assert [face["id"] for face in bare] == ["a"]


@pytest.mark.parametrize(
    "fields",
    [
        [("name", "n"), ("id", "a")],
        [("id", "a"), ("name", "n"), ("name", "m")],
        [("id", "a"), ("name", "n")],
    ],
)
async def test_malformed_forms_are_refused(front: TestClient, fields: list[tuple[str, str]]) -> None:
    form = FormData(default_to_multipart=True)
    for name, value in fields:
        form.add_field(name, value)
    response = await front.post("/update-samples", data=form)
    assert (response.status, (await response.json())["error"]) == (400, "Invalid request.")


async def test_a_form_that_is_none(front: TestClient) -> None:
    for body in (b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--x--"):
        for path in ("/update-samples", "/face-recognition"):
            response = await front.post(path, data=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
            assert response.status == 400, (path, body)
    response = await front.post("/update-samples", data=b"x", headers={"Content-Type": "multipart/form-data"})
    assert response.status == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_clearing(enrolled: TestClient, photos: Path, data_uri: DataUri, method: str) -> None:
    response = await enrolled.request(method, "/clear-samples")
    assert (response.status, await response.json()) == (200, {"success": "Samples have been removed successfully"})
    assert await ids(enrolled) == []
    response = await enrolled.post("/face-recognition", json={"image": data_uri(photos / "obama.jpg")})
    assert await response.json() == []


@pytest.mark.parametrize("path", ["/update-samples", "/face-recognition"])
async def test_get_says_that_it_runs(front: TestClient, path: str) -> None:
    response = await front.get(path)
    assert (response.status, await response.text()) == (200, "Face detection server is running.")


async def test_pages_of_other_sites_cannot_clear(enrolled: TestClient) -> None:
    for method, path in (("GET", "/clear-samples"), ("POST", "/update-samples"), ("DELETE", "/people/person1")):
        response = await enrolled.request(method, path, headers={"Sec-Fetch-Site": "cross-site"})
        assert response.status == 403
        assert "forbidden" in await response.text()
    assert await ids(enrolled) == ["person1"]
    assert (await enrolled.get("/clear-samples", headers={"Sec-Fetch-Site": "none"})).status == 200


async def test_without_the_extraction_service(start_front: Front, sample: dict[str, Any], unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    for path, body in (("/update-samples", [sample]), ("/face-recognition", {"image": sample["image"]})):
        response = await front.post(path, json=body)
        answer = await response.json()
        assert (response.status, answer["code"]) == (503, "extraction_unavailable")
        assert answer["error"] == "The extraction service cannot be reached."
        assert int(response.headers["Retry-After"]) > 0
    assert await ids(front) == []


async def test_another_front_sees_changes_at_once(
    enrolled: TestClient, start_front: Front, photos: Path, data_uri: DataUri
) -> None:
    other = await start_front()
    body = {"image": data_uri(photos / "obama2.jpg")}
    assert len(await (await other.post("/face-recognition", json=body)).json()) == 1
    await enrolled.delete("/people/person1")
    assert await (await other.post("/face-recognition", json=body)).json() == []


async def test_request_ids_are_kept_or_made(front: TestClient) -> None:
    response = await front.post("/face-recognition", data=b"", headers={"X-Request-ID": "abc-1"})
    assert (await response.json())["request_id"] == response.headers["X-Request-ID"] == "abc-1"
    response = await front.post("/face-recognition", data=b"", headers={"X-Request-ID": "not harmless"})
    assert len((await response.json())["request_id"]) == 32


async def test_a_data_uri_survives_any_json_spelling(enrolled: TestClient, photos: Path, data_uri: DataUri) -> None:
    text = json.dumps({"image": data_uri(photos / "obama2.jpg")}).replace("/", "\\/")
    response = await enrolled.post("/face-recognition", data=text.encode())
    assert [face["id"] for face in await response.json()] == ["person1"]


async def test_the_closest_people(enrolled: TestClient, photos: Path, data_uri: DataUri) -> None:
    others = [{"id": f"b{i}", "name": f"Joe {i}", "image": data_uri(photos / "biden.jpg")} for i in range(2)]
    await enrolled.post("/update-samples", json=others)
    for photo in ("obama2.jpg", "obama3.jpg"):
        form = FormData()
        form.add_field("image", (photos / photo).read_bytes(), filename=photo)
        await enrolled.post("/people/person1/photos", data=form)
    body = {"image": data_uri(photos / "obama2.jpg"), "candidates": 2}
    response = await enrolled.post("/face-recognition", json=body)
    assert response.headers["X-Search"] == "exact"
    (face,) = await response.json()
    assert (face["id"], face["distance"]) == ("person1", 0.0)
    assert [candidate["id"] for candidate in face["candidates"]] == ["person1", "b0"]
    assert face["candidates"][0]["distance"] == 0.0 and face["candidates"][1]["distance"] > 9
    (plain,) = await (await enrolled.post("/face-recognition", json=body | {"candidates": 0})).json()
    assert "candidates" not in plain


@pytest.mark.parametrize("another", ["sface", "sface+dlib"])
async def test_enrolling_under_another_model_keeps_the_photos_of_the_former(
    another: str,
    start_front: Front,
    sface_url: str,
    combined_url: str,
    photos: Path,
    data_uri: Callable[[Path | bytes], str],
) -> None:
    """Eight photos, then one under another model, then the first model again."""
    image = data_uri(photos / "obama.jpg")

    async def names(front: TestClient, **query: float) -> list[str]:
        found = await front.post("/face-recognition", json={"image": data_uri(photos / "obama2.jpg")} | query)
        return [face["name"] for face in await found.json()]

    first = await start_front()
    await first.post("/people/44/photos", json={"images": [image] * 8, "name": "Barack"})
    other = await start_front(extraction_url=sface_url if another == "sface" else combined_url)
    assert await names(other) == []
    for front, unseen in ((first, 0), (other, 1)):
        assert (await (await front.get("/readyz")).json())["people_of_other_models"] == unseen
    assert 'front_people_of_other_models{company="default"} 1.0' in await (await other.get("/metrics")).text()
    for path, body in (
        ("/people/44/verification", {"image": image}),
        ("/recognize", {"user_name": "44", "picture": image}),
    ):
        unknown = await other.post(path, json=body)
        assert (unknown.status, "no_photo_of_model" in await unknown.text()) == (409, True)
    await other.post("/update-samples", json=[{"id": "44", "name": "Barack O.", "image": image}])
    assert await names(other) == ["Barack O."]
    assert 'front_people_of_other_models{company="default"} 0.0' in await (await other.get("/metrics")).text()
    again = await start_front()
    for front in (first, again):
        assert await names(front) == ["Barack O."]
    spaces = [photo["space"].split("/")[0] for photo in (await (await again.get("/people/44/photos")).json())["photos"]]
    assert spaces == ["facenet"] * 8 + [another]
    assert (await again.delete("/people/44")).status == 200
    for front in (first, other, again):
        assert await names(front) == []
