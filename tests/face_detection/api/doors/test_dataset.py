"""The data set of faces: create, find, match, detect, update and delete, on real photos and the real model."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from face_detection.api.doors import dataset_schemas as schemas
from face_detection.api.doors.dataset import FETCHER
from face_detection.api.doors.dataset_schemas import ERROR_TYPES
from face_detection.api.operation import ACCESS
from face_detection.fetching import PictureFetcher, parse_hosts
from face_detection.gallery.directory import Right
from face_detection.gallery.people import Cursor
from face_detection.gallery.search.distances import distances, prepare
from shared import errors
from shared.models import Metric
from shared.times import moment_of, time_text
from tests.conftest import ROOT, Front

DataUri = Callable[[Path | bytes], str]
JPEG = {"Content-Type": "image/jpeg"}
OBAMA = {"name": "Barack", "office": 44}


@pytest.fixture(scope="session")
def obama(photos: Path) -> bytes:
    return (photos / "obama.jpg").read_bytes()


@pytest.fixture(scope="session")
def blank() -> bytes:
    return cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()


async def create(front: TestClient, picture: bytes, unique_args: Any = None) -> dict[str, Any]:
    query = {} if unique_args is None else {"unique_args": json.dumps(unique_args)}
    response = await front.post("/face", params=query, data=picture, headers=JPEG)
    assert response.status == 200, await response.text()
    return await response.json()


@pytest_asyncio.fixture
async def enrolled(front: TestClient, obama: bytes) -> TestClient:
    assert (await create(front, obama, OBAMA))["face_id"] == 1
    return front


async def failure(response: Any) -> tuple[int, int]:
    """Status and error_type; the body has the documented form."""
    body = await response.json()
    assert set(body) == {"error_type", "error_message"} and body["error_message"]
    assert body["error_type"] in ERROR_TYPES.values()
    return response.status, body["error_type"]


async def test_a_face_is_created_and_found_again(front: TestClient, obama: bytes) -> None:
    created = await create(front, obama, OBAMA)
    assert created["unique_args"] == OBAMA
    assert len(created["face_encoding"]) == 128 and all(isinstance(value, float) for value in created["face_encoding"])
    assert set(created.pop("position")) == {"top", "left", "bottom", "right"}
    for path in ("/face?face_id=1", "/face?face-id=1", "/face/1"):
        response = await front.get(path)
        assert (response.status, await response.json()) == (200, created)
        assert response.headers["X-Embedding-Space"].startswith("facenet")


async def test_a_face_is_a_person_with_an_id_that_nobody_guesses(enrolled: TestClient) -> None:
    (person,) = (await (await enrolled.get("/people")).json())["people"]
    assert (person["name"], person["metadata"], person["photos"]) == ("Barack", OBAMA, 1)
    assert len(person["id"]) == 32 and int(person["id"], 16)


async def test_every_way_to_send_a_picture(front: TestClient, obama: bytes, data_uri: DataUri) -> None:
    text = base64.b64encode(obama).decode()
    args = json.dumps(OBAMA)
    with_file, with_text = FormData({"unique-args": args}), FormData({"unique_args": args}, default_to_multipart=True)
    with_file.add_field("image", obama, filename="a.jpg")
    with_text.add_field("image", text)
    bodies: list[dict[str, Any]] = [
        {"json": {"image": text, "unique_args": OBAMA}},
        {"json": {"image": data_uri(obama), "unique-args": args}},
        {"data": with_file},
        {"data": with_text},
        {"data": {"image": text, "unique_args": args}},
        {"data": obama, "headers": JPEG, "params": {"unique-args": args}},
    ]
    answers = []
    for body in bodies:
        response = await front.post("/face", **body)
        assert response.status == 200, await response.text()
        answers.append(await response.json())
    assert [answer.pop("face_id") for answer in answers] == [1, 2, 3, 4, 5, 6]
    # The same face under another id.
    first, *others = [answer.pop("warnings", []) for answer in answers]
    assert first == [] and [one["code"] for (one,) in others] == ["nearer_to_other"] * 5
    assert all(answer == answers[0] for answer in answers)


async def test_faces_of_other_doors(front: TestClient, obama: bytes, data_uri: DataUri) -> None:
    sample = {"name": "A", "image": data_uri(obama)}
    metadata = ["text", 5, [1], None, {"a": 1}]
    await front.post("/update-samples", json=[sample | {"id": f"p{i}", "metadata": m} for i, m in enumerate(metadata)])
    found = [(await (await front.get(f"/face/{number}")).json())["unique_args"] for number in range(1, 6)]
    assert found == [{"metadata": "text"}, {"metadata": 5}, {"metadata": [1]}, {}, {"a": 1}]


async def test_match_tells_every_face(enrolled: TestClient, photos: Path) -> None:
    response = await enrolled.post("/face/match", data=(photos / "obama2.jpg").read_bytes(), headers=JPEG)
    (face,) = (await response.json())["faces"]
    assert (face["face_id"], face["unique_args"]) == (1, OBAMA)
    assert 50 < face["trust"] <= 100
    position = face["position"]
    assert position["top"] < 425 < position["bottom"] and position["left"] < 335 < position["right"]

    response = await enrolled.post("/face/match", data=(photos / "t1.jpg").read_bytes(), headers=JPEG)
    faces = (await response.json())["faces"]
    assert [(face["face_id"], face["unique_args"]) for face in faces] == [(None, None)] * 6
    assert all(0 <= face["trust"] < 50 for face in faces)


async def test_match_and_detect_find_nothing_where_nothing_is(front: TestClient, obama: bytes, blank: bytes) -> None:
    for path in ("/face/match", "/face/detect", "/face/detect?encoding=true"):
        response = await front.post(path, data=blank, headers={"Content-Type": "image/png"})
        assert (response.status, await response.json()) == (200, {"faces": []})
    (face,) = (await (await front.post("/face/match", data=obama, headers=JPEG)).json())["faces"]
    assert (face["face_id"], face["trust"], face["unique_args"]) == (None, 0, None)


async def test_detect_gives_encodings_when_asked(enrolled: TestClient, obama: bytes, photos: Path) -> None:
    response = await enrolled.post("/face/detect", data=obama, headers=JPEG)
    (face,) = (await response.json())["faces"]
    assert set(face) == {"position"} and "X-Metric" not in response.headers
    response = await enrolled.post("/face/detect", params={"encoding": "true"}, data=obama, headers=JPEG)
    (encoded,) = (await response.json())["faces"]
    assert encoded["position"] == face["position"]
    assert encoded["face_encoding"] == (await (await enrolled.get("/face/1")).json())["face_encoding"]
    assert (response.headers["X-Metric"], response.headers["X-Threshold"]) == ("tenfold-unit-euclidean", "9")
    assert (await (await enrolled.get("/faces/sync")).json())[-1]["faceId"] == 1, "nothing was stored"


async def test_an_encoding_matches_as_the_service_does(enrolled: TestClient, photos: Path) -> None:
    picture = (photos / "obama2.jpg").read_bytes()
    response = await enrolled.post("/face/detect", params={"encoding": "1"}, data=picture, headers=JPEG)
    probe = (await response.json())["faces"][0]["face_encoding"]
    ((stored),) = await (await enrolled.get("/faces/sync")).json()
    metric = Metric(response.headers["X-Metric"])
    rows = prepare(np.array([stored["faceEncoding"], probe], np.float32), metric)
    (found,) = await (await enrolled.post("/face-recognition", data=picture, headers=JPEG)).json()
    assert distances(rows[:1], rows[1], metric)[0] == pytest.approx(found["distance"], abs=1e-4)
    assert found["distance"] < float(response.headers["X-Threshold"])


async def test_other_arguments(enrolled: TestClient) -> None:
    response = await enrolled.post("/face/update", json={"face_id": 1, "unique_args": {"name": "B", "x": [1]}})
    assert (await response.json())["unique_args"] == {"name": "B", "x": [1]}
    await enrolled.post("/face/update", data={"face-id": "1", "unique-args": '{"y": 2}'})
    (person,) = (await (await enrolled.get("/people")).json())["people"]
    assert (person["name"], person["metadata"]) == ("B", {"y": 2}), "a name stays until there is another"


async def test_another_picture(enrolled: TestClient, photos: Path, obama: bytes) -> None:
    before = await (await enrolled.get("/face/1")).json()
    biden = (photos / "biden.jpg").read_bytes()
    response = await enrolled.post("/face/update", params={"face_id": 1}, data=biden, headers=JPEG)
    after = await response.json()
    assert (after["face_id"], after["unique_args"]) == (1, OBAMA) and after["face_encoding"] != before["face_encoding"]
    (face,) = (await (await enrolled.post("/face/match", data=biden, headers=JPEG)).json())["faces"]
    assert face["face_id"] == 1
    (face,) = (await (await enrolled.post("/face/match", data=obama, headers=JPEG)).json())["faces"]
    assert face["face_id"] is None


async def test_a_refused_picture_changes_no_arguments(enrolled: TestClient, blank: bytes, data_uri: DataUri) -> None:
    body = {"face_id": 1, "image": data_uri(blank), "unique_args": {"a": 1}}
    assert await failure(await enrolled.post("/face/update", json=body)) == (422, 310)
    assert (await (await enrolled.get("/face/1")).json())["unique_args"] == OBAMA


async def test_deleting(enrolled: TestClient, obama: bytes) -> None:
    (person,) = (await (await enrolled.get("/people")).json())["people"]
    await enrolled.post(f"/people/{person['id']}/photos", json={"images": [base64.b64encode(obama).decode()]})
    for number, left in ((1, 1), (2, 0)):
        response = await enrolled.post("/face/delete", data={"face_id": number})
        assert (response.status, await response.json()) == (200, {"face_id": number, "deleted": True})
        assert [one["photos"] for one in (await (await enrolled.get("/people")).json())["people"]] == [1] * left
        assert await failure(await enrolled.get(f"/face/{number}")) == (404, 210)
        assert await failure(await enrolled.post("/face/delete", json={"face_id": number})) == (404, 210)
        assert await failure(await enrolled.post("/face/update", json={"face_id": number, "unique_args": {}})) == (
            404,
            210,
        )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"unique_args": {}},
        {"image": None},
        {"image": 5},
        {"image": "x", "image_url": "http://a.test/"},
        {"image": "x", "image-url": "http://a.test/"},
        {"image_url": 5},
        {"image_url": "x" * 5000},
        {"image": "x", "unique_args": []},
        {"image": "x", "unique_args": "no JSON"},
        {"image": "x", "unique_args": "[]"},
        {"image": "x", "unique_args": {"a": "x" * 70_000}},
        {"image": "x", "unique_args": {"name": "\0"}},
        {"image": "x", "unique_args": {"name": "n" * 513}},
        {"image": "x", "unique_args": json.loads('{"a":' * 70 + "1" + "}" * 70)},
        {"image": "x", "unique_args": json.loads('{"a":' * 400 + "1" + "}" * 400)},
        {"image": "x", "unique_args": {}, "unique-args": {}},
        [],
        "text",
        None,
    ],
)
async def test_a_malformed_creation_changes_nothing(front: TestClient, body: Any) -> None:
    assert await failure(await front.post("/face", json=body)) == (400, 200)
    assert await (await front.get("/faces/sync")).json() == []


@pytest.mark.parametrize("id", ["x", "", "-1", "1.5", str(2**63), "1" * 5000, "true", "0x1", "match"])
async def test_a_malformed_id(front: TestClient, id: str) -> None:
    assert await failure(await front.get("/face", params={"face_id": id})) == (400, 200)
    assert await failure(await front.post("/face/delete", data={"face_id": id})) == (400, 200)
    if id:
        assert await failure(await front.get(f"/face/{id}")) == (400, 200)
    assert await failure(await front.get("/face/77")) == (404, 210)


@pytest.mark.parametrize("id", [True, None, [1], {"a": 1}, 1.5, 2**70, -1])
async def test_an_id_of_the_wrong_type(front: TestClient, id: Any) -> None:
    assert await failure(await front.post("/face/delete", json={"face_id": id})) == (400, 200)


async def test_a_parameter_twice(front: TestClient, obama: bytes) -> None:
    for path, body in (
        ("/face/delete?face_id=1", {"data": {"face_id": "1"}}),
        ("/face/delete?face_id=1&face-id=1", {}),
        (
            "/face/delete",
            {"data": b"face_id=1&face_id=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        ),
        ("/face/delete", {"json": {"face_id": 1, "face-id": 1}}),
        ("/face?image=x", {"data": obama, "headers": JPEG}),
    ):
        response = await front.post(path, **body)
        assert "twice" in (await response.json())["error_message"], path
    assert await failure(await front.get("/face/1?face_id=1")) == (400, 200)


async def test_nothing_to_update(enrolled: TestClient) -> None:
    assert await failure(await enrolled.post("/face/update", json={"face_id": 1})) == (400, 200)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (b"", (422, 304)),
        (b"hello", (415, 303)),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), (422, 304)),
        (b"%PDF-1.7" + bytes(50), (415, 303)),
        (b"\xff\xd8\xff" + bytes(50), (422, 304)),
    ],
)
async def test_bad_pictures(front: TestClient, image: bytes, expected: tuple[int, int]) -> None:
    text = base64.b64encode(image).decode()
    for path in ("/face", "/face/match", "/face/detect"):
        assert await failure(await front.post(path, json={"image": text})) == expected


async def test_nobody_on_the_picture(front: TestClient, blank: bytes) -> None:
    assert await failure(await front.post("/face", data=blank, headers={"Content-Type": "image/png"})) == (422, 310)


async def test_sizes_are_limited(start_front: Front, obama: bytes) -> None:
    front = await start_front(max_image_bytes=10_000)
    assert await failure(await front.post("/face", json={"image": base64.b64encode(obama[:9000]).decode()})) == (
        422,
        304,
    )
    assert await failure(await front.post("/face", data=obama, headers=JPEG)) == (413, 301)
    assert await failure(await front.post("/face", json={"image": "a" * 20_000})) == (413, 301)
    assert await failure(await front.post("/face", json={"image": "a" * 2_000_000})) == (413, 201)
    form = FormData()
    form.add_field("image", obama, filename="x.jpg")
    assert await failure(await front.post("/face", data=form)) == (413, 201)
    assert await failure(await front.post("/face", data={"image": "a" * 2_000_000})) == (413, 201)


async def test_whatever_is_sent_is_answered_in_a_documented_way(front: TestClient, obama: bytes) -> None:
    chance = random.Random(7)
    text = base64.b64encode(obama)
    kinds = ["image/jpeg", "image/png", "application/json", "text/plain", "multipart/form-data; boundary=x"]
    kinds += ["application/x-www-form-urlencoded", "multipart/form-data", "multipart/mixed; boundary=x"]
    for _ in range(150):
        cut = chance.randrange(len(obama))
        body = chance.choice(
            [
                obama[:cut],
                obama[: cut // 50],
                obama[:20] + b"\x89PNG\r\n\x1a\n" + obama[cut:],
                b"\x89PNG\r\n\x1a\n" + obama[:cut],
                b"RIFF____WEBPVP8 " + obama[:cut],
                b'{"image": "' + text[: cut // 2] + chance.choice([b'"}', b'", "unique_args": {"a": NaN}}', b""]),
                b'{"image": 1e999, "face_id": 1e99}',
                b"[" * chance.randrange(100_000),
                b'{"unique_args":' * chance.randrange(2000),
                b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n" + obama[:cut],
                b"--x\r\nContent-Disposition: form-data; name=face-id\r\n\r\n\xff\r\n--x--\r\n",
                b"image=" + text[: cut // 3] + b"&unique_args=%7B&face_id=%ff",
                b"image=%",
                chance.randbytes(cut % 3000),
            ]
        )
        path = chance.choice(["/face", "/face/match", "/face/detect", "/face/update", "/face/delete"])
        params = chance.choice([{}, {"face_id": "1"}, {"unique_args": "{"}, {"encoding": "2"}])
        response = await front.post(path, params=params, data=body, headers={"Content-Type": chance.choice(kinds)})
        if response.status != 200:
            assert (await failure(response))[0] in (400, 404, 413, 415, 422), (path, body[:100])


async def test_rights_and_quotas(front: TestClient, obama: bytes) -> None:
    def key(*rights: Right, **limits: Any) -> dict[str, str]:
        return JPEG | {"X-API-Key": front.app[ACCESS].create_key("default", "k", rights, **limits)[1]}

    recognise, enrol = key(Right.RECOGNISE), key(Right.ENROL, max_samples=1)
    for path in ("/face/match", "/face/detect", "/face/detect?encoding=1"):
        assert await failure(await front.post(path, data=obama, headers=enrol)) == (403, 231)
        assert (await front.post(path, data=obama, headers=recognise)).status == 200
    assert (await front.post("/face", data=obama, headers=enrol)).status == 200
    assert await failure(await front.post("/face", data=obama, headers=enrol)) == (403, 232)
    for method, path in (
        ("POST", "/face"),
        ("GET", "/face/1"),
        ("GET", "/faces/sync"),
        ("POST", "/face/delete?face_id=1"),
    ):
        assert await failure(await front.request(method, path, headers=recognise)) == (403, 231)
        assert await failure(await front.request(method, path)) == (401, 230)
    assert len(await (await front.get("/faces/sync", headers=enrol)).json()) == 1


async def test_without_the_extraction_service(start_front: Front, obama: bytes, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    for path in ("/face", "/face/match", "/face/detect?encoding=1"):
        response = await front.post(path, data=obama, headers=JPEG)
        assert response.headers["Retry-After"] and await failure(response) == (503, 112)
    assert (await front.post("/face/detect", data=obama, headers=JPEG)).status == 200


def test_every_error_that_reaches_a_client_has_a_number() -> None:
    def tree(kind: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from tree(below)

    clients = {kind for kind in tree(errors.ServiceError) if not issubclass(kind, errors.StartupError)}
    assert {kind for kind in clients if kind.__module__ == errors.__name__} == set(ERROR_TYPES)
    assert len(set(ERROR_TYPES.values())) == len(ERROR_TYPES)


def test_the_documented_numbers_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "api" / "dataset.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ") and line[2:5].isdigit()]
    documented = {code.strip(" `"): int(number) for number, code in rows}
    assert documented == {kind.code: number for kind, number in ERROR_TYPES.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["face_id", "face-id", "image", "image_url", "unique_args", "encoding", "limit", "last_updated_at"])
    | st.text(max_size=6),
    JSON
    | st.sampled_from(["1", "1e9", "data:image/png;base64,", "AAAA", '{"a":', "http://a.test/"])
    | st.binary(max_size=9),
    max_size=5,
)


@pytest.mark.parametrize("model", [schemas.CreateRequest, schemas.UpdateRequest, schemas.DetectRequest])
@given(members=MEMBERS)
def test_any_members_are_taken_or_refused(model: type[schemas._Request], members: dict[str, Any]) -> None:
    try:
        model.model_validate(members)
    except (ValidationError, errors.InvalidRequest):
        pass


@given(
    text=st.text(max_size=40)
    | st.from_regex("[0-9]{1,11}/[0-9-]{0,11}/?", fullmatch=True)
    | st.from_regex("[0-9]{1,11};[0-9a-fA-F]{0,17}", fullmatch=True)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes().map(str)
)
def test_any_time_is_taken_or_refused(text: str) -> None:
    try:
        wanted = schemas.SyncRequest.model_validate({"last_updated_at": text})
    except ValidationError:
        return
    cursor = wanted.last_updated_at
    assert 0 <= min(cursor.since, cursor.begun, cursor.mark) <= max(cursor.since, cursor.begun, cursor.mark) < 2**63
    assert moment_of(time_text(cursor.since)) == cursor.since


MOMENTS = st.integers(0, 253_402_300_799_999_999)


@given(MOMENTS, MOMENTS, st.integers(0, 2**63 - 1))
def test_a_cursor_comes_back_as_far_as_it_matters(since: int, begun: int, mark: int) -> None:
    again = Cursor.parse(str(Cursor(since, begun, mark)))
    assert (again.since, max(again.since, again.begun), again.mark) == (since, max(since, begun), mark)
    assert Cursor.parse(str(again)) == again


@given(MOMENTS)
def test_a_time_is_its_own_cursor(revision: int) -> None:
    text = time_text(revision)
    assert moment_of(text) == revision
    assert moment_of(text.replace("Z", " 00:00")) == revision, "a plus sign that became a space"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000),
        ("1700000000.123456", 1_700_000_000.123456),
        ("1700000000123", 1_700_000_000.123),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000.5),
        ("2023-11-14", 1_699_920_000),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert moment_of(text) == round(seconds * 1_000_000)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_encodings_lose_nothing(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    assert (np.array(schemas.encoding_of(vector), np.float32) == vector).all()


@pytest_asyncio.fixture
async def pictures(photos: Path) -> Any:
    """A server that gives the photos at /…, and other things."""

    async def give(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(photos / request.match_info["name"])

    app = web.Application()
    app.router.add_get("/{name}", give)
    async with TestServer(app) as server:
        yield server


async def test_pictures_by_address(front: TestClient, pictures: TestServer, photos: Path) -> None:
    host = f"127.0.0.1:{pictures.port}"
    await front.app[FETCHER].close()
    front.app._state[FETCHER] = PictureFetcher(parse_hosts(host), 1 << 20, is_allowed_address=lambda _: True)
    response = await front.post("/face", json={"image-url": f"http://{host}/obama.jpg", "unique_args": OBAMA})
    assert (response.status, (await response.json())["face_id"]) == (200, 1)
    response = await front.post("/face/match", data={"image_url": f"http://{host}/obama2.jpg"})
    assert (await response.json())["faces"][0]["face_id"] == 1
    assert len((await (await front.post(f"/face/detect?image_url=http://{host}/t1.jpg")).json())["faces"]) == 6
    response = await front.post("/face/update", data={"image_url": f"http://{host}/biden.jpg", "face_id": "1"})
    assert response.status == 200
    assert await failure(await front.post("/face", data={"image_url": f"http://{host}/missing"})) == (422, 305)
    assert await failure(await front.post("/face", data={"image_url": "http://other.test/"})) == (403, 231)
    assert await failure(await front.post("/face", data={"image_url": "ftp://other.test/"})) == (400, 200)


async def test_no_picture_is_fetched_by_default(front: TestClient, pictures: TestServer) -> None:
    body = {"image_url": f"http://127.0.0.1:{pictures.port}/obama.jpg"}
    for path in ("/face", "/face/match", "/face/detect"):
        assert await failure(await front.post(path, json=body)) == (403, 231)


async def test_an_allowed_host_at_a_private_address_is_refused(start_front: Front, pictures: TestServer) -> None:
    front = await start_front(image_url_hosts=f"localhost:{pictures.port}")
    body = {"image_url": f"http://localhost:{pictures.port}/obama.jpg"}
    assert await failure(await front.post("/face", json=body)) == (403, 231)


async def test_an_update_keeps_what_others_change_meanwhile(enrolled: TestClient, obama: bytes) -> None:
    (id,) = [one["id"] for one in (await (await enrolled.get("/people")).json())["people"]]
    for number in range(50):
        update = {"face_id": "1", "unique_args": json.dumps({"n": number})}
        picture = {"data": obama, "headers": JPEG} if number % 10 == 0 else {}
        answers = await asyncio.gather(
            enrolled.post("/face/update", params=update, **picture),
            enrolled.patch(f"/people/{id}", json={"name": f"{number}", "action": f"go {number}"}),
        )
        assert [answer.status for answer in answers] == [200, 200]
        person = await (await enrolled.get(f"/people/{id}")).json()
        assert (person["name"], person["metadata"], person["action"]) == (f"{number}", {"n": number}, f"go {number}")
