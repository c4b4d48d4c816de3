"""Keyed galleries that learn: training and recognition, on real photos and the real model."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from skimage import data

from face_detection.api.doors import keyed
from face_detection.api.doors.keyed_schemas import (
    KeyedError,
    KeyedFailure,
    KeyedSuccess,
    KeyedTraining,
    KeyedTrainingFailure,
)
from face_detection.api.http.bodies import _parse_urlencoded
from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.gallery.directory import Right, TenantSettings
from shared.errors import InvalidRequest
from tests.conftest import Front

ANSWERS = TypeAdapter(KeyedTraining | KeyedTrainingFailure | KeyedError | KeyedSuccess | KeyedFailure)
STATUSES = {200, 429, *(status for operation in keyed.OPERATIONS for status in operation.errors)}


def base64_of(photo: Path | bytes) -> str:
    return base64.b64encode(photo.read_bytes() if isinstance(photo, Path) else photo).decode()


async def post(front: TestClient, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
    async with front.post(path, **request) as response:
        answer = await response.json()
        ANSWERS.validate_python(answer)
        assert response.status in STATUSES
        assert (answer["responseType"] == "SUCCESS") <= (response.status == 200)
        return response.status, answer


async def train(front: TestClient, user: str, *photos: Path | bytes, **members: Any) -> tuple[int, dict[str, Any]]:
    body = {"userName": user, "stream": [base64_of(photo) for photo in photos], **members}
    return await post(front, "/train/", json=body)


async def recognise(front: TestClient, photo: Path | bytes, **members: Any) -> tuple[int, dict[str, Any]]:
    return await post(front, "/recognize/", json={"picture": base64_of(photo), **members})


@pytest.fixture
def key(front: TestClient) -> Callable[..., str]:
    """Makes an API key."""

    def make(tenant: str = "default", *rights: Right, **limits: Any) -> str:
        return front.app[ACCESS].create_key(tenant, "test", rights or [Right.ADMIN], **limits)[1]

    return make


@pytest_asyncio.fixture
async def trained(front: TestClient, photos: Path) -> TestClient:
    """Somebody who is known as ann, and somebody known as bob."""
    for user, photo in (("ann", "obama.jpg"), ("bob", "biden.jpg")):
        assert (await train(front, user, photos / photo))[0] == 200
    return front


@pytest.fixture(scope="session")
def blank() -> bytes:
    return cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_user_learned_is_recognised(front: TestClient, photos: Path, slash: str) -> None:
    body: dict[str, Any] = {"userName": "ann", "stream": [f"data:image/jpeg;base64,{base64_of(photos / 'obama.jpg')}"]}
    status, answer = await post(front, f"/train{slash}", json=body)
    assert answer.pop("detectionTime") > 0
    (taken,) = answer.pop("taken")
    assert (taken["index"], taken["faces"]) == (0, 1)
    assert (status, answer) == (
        200,
        {
            "responseType": "SUCCESS",
            "successDescription": "Photos learned: 1 of 1.",
            "confidencePercentage": 0,
            "learned": 1,
            "failed": 0,
            "photos": [],
        },
    )
    for named in ({"userName": "ann"}, {}):
        body = {"picture": base64_of(photos / "obama2.jpg"), **named}
        status, answer = await post(front, f"/recognize{slash}", json=body)
        assert (status, answer["responseType"], answer["successDescription"]) == (200, "SUCCESS", "ann")
        assert 50 < answer["confidencePercentage"] <= 100
        assert 0 < answer["detectionTime"] < 60
        assert answer["box"]["w"] > 100


async def test_somebody_else_is_a_failure_but_no_error(trained: TestClient, photos: Path) -> None:
    status, answer = await recognise(trained, photos / "biden.jpg", userName="ann")
    assert (status, answer["responseType"]) == (200, "FAILURE")
    assert answer["failureDescription"] == "The picture does not show this user."
    assert 0 <= answer["confidencePercentage"] < 50
    group = (photos / "t1.jpg").read_bytes()
    status, answer = await recognise(trained, group)
    assert (status, answer["responseType"]) == (200, "FAILURE")
    assert answer["failureDescription"] == "The picture shows nobody who is known."
    assert 0 <= answer["confidencePercentage"] < 50


async def test_in_an_empty_gallery_there_is_no_comparison(front: TestClient, photos: Path) -> None:
    status, answer = await recognise(front, photos / "obama.jpg")
    assert (status, answer["responseType"], answer["confidencePercentage"]) == (200, "FAILURE", 0)
    status, answer = await recognise(front, photos / "obama.jpg", userName="ann")
    assert (status, answer["errorCode"], answer["confidencePercentage"]) == (404, "not_found", 0)


async def test_training_adds_to_what_is_known(front: TestClient, photos: Path) -> None:
    await train(front, "ann", photos / "obama.jpg")
    assert (await recognise(front, photos / "biden.jpg", userName="ann"))[1]["responseType"] == "FAILURE"
    await train(front, "ann", photos / "biden.jpg", photos / "obama3.jpg")
    for photo in ("obama2.jpg", "biden.jpg"):
        assert (await recognise(front, photos / photo, userName="ann"))[1]["responseType"] == "SUCCESS"
    person = await (await front.get("/people/ann")).json()
    assert (person["id"], person["name"], person["photos"]) == ("ann", "ann", 3)


async def test_photos_that_fail_are_listed(front: TestClient, photos: Path, blank: bytes) -> None:
    pictures = (blank, photos / "obama.jpg", b"%PDF-1.7" + bytes(50), (photos / "obama.jpg").read_bytes()[:100_000])
    status, answer = await train(front, "ann", *pictures)
    assert (status, answer["responseType"], answer["learned"], answer["failed"]) == (200, "SUCCESS", 1, 3)
    assert [one["index"] for one in answer["taken"]] == [1]
    assert [(one["index"], one["code"]) for one in answer["photos"]] == [
        (0, "no_face"),
        (2, "unsupported_image_type"),
        (3, "undecodable_image"),
    ]
    assert all(one["message"] for one in answer["photos"])


async def test_without_a_usable_photo_nothing_is_learned(front: TestClient, blank: bytes) -> None:
    status, answer = await train(front, "ann", blank, b"text")
    assert (status, answer["responseType"], answer["errorCode"]) == (422, "FAILURE", "no_face")
    assert (answer["learned"], answer["failed"], len(answer["photos"])) == (0, 2, 2)
    assert answer["failureDescription"] == "No photo could be learned: There is no face in the image."
    assert (await front.get("/people/ann")).status == 404


async def test_every_form_of_a_body_is_the_same_request(front: TestClient, photos: Path) -> None:
    pictures = [photos / "obama.jpg", photos / "obama3.jpg"]
    texts = [base64_of(picture) for picture in pictures]
    assert any("+" in text for text in texts)
    files, fields, listed = FormData(), FormData(default_to_multipart=True), FormData(default_to_multipart=True)
    for form in (files, fields, listed):
        form.add_field("userName", "ann")
    for picture, text in zip(pictures, texts, strict=True):
        files.add_field("stream", picture.read_bytes(), filename="photo.jpg", content_type="image/jpeg")
        fields.add_field("stream", f"data:image/jpeg;base64,{text}")
    listed.add_field("stream", json.dumps(texts))
    repeated = [("userName", "ann"), *(("stream", text) for text in texts)]
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    requests: list[dict[str, Any]] = [
        {"data": files},
        {"data": fields},
        {"data": listed},
        {"data": urlencode(repeated), "headers": kind},
        {"data": urlencode([("userName", "ann"), ("stream", json.dumps(texts))]), "headers": kind},
        {"data": "&".join(f"{name}={value}" for name, value in repeated), "headers": kind},  # "+" was not escaped
    ]
    for count, request in enumerate(requests, start=1):
        status, answer = await post(front, "/train/", **request)
        assert (status, answer["learned"], answer["photos"]) == (200, 2, []), count
        assert (await (await front.get("/people/ann")).json())["photos"] == 2 * count

    picture = FormData({"userName": "ann"})
    picture.add_field("picture", (photos / "obama2.jpg").read_bytes(), filename="photo.jpg")
    text = base64_of(photos / "obama2.jpg")
    for request in (
        {"data": picture},
        {"data": urlencode({"userName": "ann", "picture": text}), "headers": kind},
        {"data": f"userName=ann&picture={text}", "headers": kind},
        {"json": {"userName": "ann", "picture": text}},
    ):
        assert (await post(front, "/recognize", **request))[1]["responseType"] == "SUCCESS"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/train/", b""),
        ("/train/", b"[]"),
        ("/train/", b'"text"'),
        ("/train/", b'{"stream": ["aaaa"]}'),
        ("/train/", b'{"userName": "", "stream": ["aaaa"]}'),
        ("/train/", b'{"userName": "a\\u0000", "stream": ["aaaa"]}'),
        ("/train/", b'{"userName": "%s", "stream": ["aaaa"]}' % (b"a" * 257)),
        ("/train/", b'{"userName": "a"}'),
        ("/train/", b'{"userName": "a", "stream": []}'),
        ("/train/", b'{"userName": "a", "stream": 7}'),
        ("/train/", b'{"userName": "a", "stream": [NaN]}'),
        ("/train/", b'{"userName": "a", "stream": [1e999]}'),
        ("/train/", b'{"userName": "a", "stream": [%s]}' % b",".join([b'"a"'] * 101)),
        ("/train/", b'{"userName": "a", "stream": %s}' % (b"[" * 10_000)),
        ("/train/", b'{"API_KEY": 5, "userName": "a", "stream": ["aaaa"]}'),
        ("/recognize/", b'{"userName": "a"}'),
        ("/recognize/", b'{"userName": "", "picture": "aaaa"}'),
        ("/recognize/", b'{"userName": null, "picture": "aaaa"}'),
        ("/recognize/", b'{"picture": ["aaaa"]}'),
    ],
)
async def test_what_is_malformed_is_refused(front: TestClient, path: str, body: bytes) -> None:
    status, answer = await post(front, path, data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["responseType"], answer["errorCode"]) == (400, "FAILURE", "invalid_request")
    assert answer["failureDescription"] and answer["requestId"]
    assert (answer["detectionTime"], answer["confidencePercentage"]) == (0, 0)


@pytest.mark.parametrize(
    "body",
    ["userName=a&userName=b&stream=x", "userName=a&stream=%5B1", "userName=%FF&stream=x", "userName=%4", "&" * 20_000],
)
async def test_malformed_forms_are_refused(front: TestClient, body: str) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await post(front, "/train", data=body, headers=kind))[0] == 400


async def test_a_form_with_an_endless_header_is_refused(front: TestClient) -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=a; " + b"b" * 100_000
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await post(front, "/train", data=body, headers=kind))[0] == 400


@pytest.mark.parametrize(
    ("picture", "status", "code"),
    [
        ("????", 422, "undecodable_image"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(50)).decode(), 422, "undecodable_image"),
        (base64.b64encode(b"%PDF-1.4").decode(), 415, "unsupported_image_type"),
    ],
)
async def test_a_bad_picture_is_an_error(trained: TestClient, picture: str, status: int, code: str) -> None:
    for named in ({"userName": "ann"}, {}):
        found, answer = await post(trained, "/recognize", json={"picture": picture, **named})
        assert (found, answer["errorCode"]) == (status, code)


async def test_a_picture_without_a_face_is_an_error(trained: TestClient, blank: bytes) -> None:
    status, answer = await recognise(trained, blank)
    assert (status, answer["errorCode"]) == (422, "no_face")


async def test_sizes_are_limited(start_front: Front, photos: Path) -> None:
    front = await start_front(max_image_bytes=1000, max_body_bytes=2_000_000)
    assert (await recognise(front, photos / "obama.jpg"))[1]["errorCode"] == "image_too_large"
    assert (await train(front, "ann", photos / "obama.jpg"))[1]["errorCode"] == "image_too_large"
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        for path in ("/train", "/recognize"):
            status, answer = await post(front, path, data=b"-" * 2_000_001, headers={"Content-Type": kind})
            assert (status, answer["errorCode"]) in ((413, "body_too_large"), (400, "invalid_request"))


async def test_the_key_comes_in_the_body_or_in_a_header(front: TestClient, key: Callable[..., str]) -> None:
    mine, other = key(), key()
    body: dict[str, Any] = {"userName": "ann", "stream": ["x"]}
    for request in (
        {"json": body | {"API_KEY": mine}},
        {"json": body, "headers": {"X-API-Key": mine}},
        {"json": body | {"API_KEY": mine}, "headers": {"Authorization": f"Bearer {mine}"}},
        {"data": {"API_KEY": mine, "userName": "ann", "stream": "x"}},
    ):
        assert (await post(front, "/train", **request))[0] == 422
    for request in (
        {"json": body},
        {"json": body | {"API_KEY": "fr_0"}},
        {"json": body | {"API_KEY": ""}},
        {"json": body | {"API_KEY": mine[:-1] + ("A" if mine[-1] != "A" else "B")}},
        {"json": body | {"API_KEY": mine}, "headers": {"X-API-Key": other}},
        {"data": b"not JSON", "headers": {"X-API-Key": "wrong"}},
    ):
        status, answer = await post(front, "/train", **request)
        assert (status, answer["errorCode"], answer["responseType"]) == (401, "unauthorized", "FAILURE")


async def test_without_a_key_where_that_is_allowed(start_front: Front, photos: Path) -> None:
    front = await start_front(allow_anonymous=True)
    front.app[ACCESS].create_key("default", "test", [Right.ADMIN])
    assert (await train(front, "ann", photos / "obama.jpg"))[0] == 200
    assert (await recognise(front, photos / "obama2.jpg"))[1]["successDescription"] == "ann"
    assert (await recognise(front, photos / "obama2.jpg", API_KEY="wrong"))[0] == 401


async def test_rights(front: TestClient, key: Callable[..., str], photos: Path) -> None:
    camera, desk = key("default", Right.RECOGNISE), key("default", Right.ENROL)
    assert (await train(front, "ann", photos / "obama.jpg", API_KEY=camera))[1]["errorCode"] == "forbidden"
    assert (await train(front, "ann", photos / "obama.jpg", API_KEY=desk))[0] == 200
    assert (await recognise(front, photos / "obama.jpg", API_KEY=desk))[0] == 403
    assert (await recognise(front, photos / "obama.jpg", API_KEY=camera))[1]["successDescription"] == "ann"


async def test_limits_of_a_key(front: TestClient, key: Callable[..., str], photos: Path) -> None:
    small, slow = key("default", Right.ENROL, max_samples=1), key("default", Right.RECOGNISE, requests_per_minute=1)
    status, answer = await train(front, "ann", photos / "obama.jpg", photos / "obama2.jpg", API_KEY=small)
    assert (status, answer["errorCode"]) == (403, "quota_exceeded")
    assert (await train(front, "ann", photos / "obama.jpg", API_KEY=small))[0] == 200
    body = {"API_KEY": slow, "picture": base64_of(photos / "obama.jpg")}
    assert (await post(front, "/recognize", json=body))[0] == 200
    response = await front.post("/recognize", json=body)
    assert (response.status, (await response.json())["errorCode"]) == (429, "rate_limited")
    assert 0 < int(response.headers["Retry-After"]) <= 60


async def test_galleries_of_two_keys_are_apart(front: TestClient, key: Callable[..., str], photos: Path) -> None:
    keys = []
    for tenant in ("1", "2"):
        front.app[DIRECTORY].create_tenant(tenant, f"Company {tenant}", TenantSettings())
        keys.append(key(tenant, Right.ENROL, Right.RECOGNISE))
    for one, photo in zip(keys, ("obama.jpg", "biden.jpg"), strict=True):
        assert (await train(front, "ann", photos / photo, API_KEY=one))[0] == 200
    for photo, expected in (("obama2.jpg", ["SUCCESS", "FAILURE"]), ("biden.jpg", ["FAILURE", "SUCCESS"])):
        for named in ({"userName": "ann"}, {}):
            answers = [await recognise(front, photos / photo, API_KEY=one, **named) for one in keys]
            assert [status for status, _ in answers] == [200, 200]
            assert [answer["responseType"] for _, answer in answers] == expected


async def test_without_the_extraction_service(start_front: Front, photos: Path, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    for call in (train(front, "ann", photos / "obama.jpg"), recognise(front, photos / "obama.jpg", userName="ann")):
        status, answer = await call
        assert (status, answer["errorCode"]) == (503, "extraction_unavailable")


@pytest_asyncio.fixture
async def strangers(front: TestClient, photos: Path) -> list[bytes]:
    """Close-ups of the six people in a group photo."""
    group = (photos / "t1.jpg").read_bytes()
    found = await (await front.post("/face-detection", data=group, headers={"Content-Type": "image/jpeg"})).json()
    pixels = cv2.imread(str(photos / "t1.jpg"))
    closeups = []
    for face in found:
        x, y, width, height = (int(part) for part in face["bbox"].split(", "))
        margin = round(0.6 * max(width, height))
        closeup = pixels[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
        closeups.append(cv2.imencode(".png", closeup)[1].tobytes())
    return closeups


def varied(photo: bytes, count: int) -> Iterator[bytes]:
    """As many photos that all differ a little: in the crop and in brightness."""
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    scale = min(1, 500 / max(pixels.shape))
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for step in range(count):
        top, left = step % 5, step // 5
        changed = cv2.convertScaleAbs(pixels[top:, left:], alpha=1, beta=step - count // 2)
        yield cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


KNOWN, NEW = ("ann", "bob", "cleo", "dan"), ("eve", "fay", "gus")


@pytest_asyncio.fixture
async def crowd(front: TestClient, photos: Path, strangers: list[bytes]) -> dict[str, bytes]:
    """A photo of each of seven people, of whom the first four are enrolled."""
    crowd = {
        "ann": (photos / "obama.jpg").read_bytes(),
        "bob": (photos / "biden.jpg").read_bytes(),
        "cleo": strangers[1],
        "dan": strangers[2],
        "eve": strangers[0],
        "fay": strangers[3],
        "gus": strangers[4],
    }
    for user in KNOWN:
        assert (await train(front, user, next(varied(crowd[user], 1))))[0] == 200
    return crowd


@asynccontextmanager
async def watching(front: TestClient, photos: Path, crowd: dict[str, bytes]) -> AsyncIterator[Callable[[], int]]:
    """Clients that recognise without a pause and find every answer right; tells how many there were."""
    astronaut = cv2.imencode(".jpg", cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR))[1].tobytes()
    pictures = {user: crowd[user] for user in ("bob", "cleo", "dan")} | {"ann": (photos / "obama2.jpg").read_bytes()}
    probes = {user: next(varied(photo, 1)) for user, photo in pictures.items()}
    answered = 0
    done = False

    async def client(users: list[str]) -> None:
        nonlocal answered
        while not done:
            for user in users:
                for named in ({}, {"userName": user}):
                    status, answer = await recognise(front, probes[user], **named)
                    assert (status, answer.get("successDescription")) == (200, user), answer
                    assert answer["confidencePercentage"] > 50
                    answered += 1
            for photo, named in ((probes[users[0]], {"userName": users[1]}), (next(varied(astronaut, 1)), {})):
                status, answer = await recognise(front, photo, **named)
                assert (status, answer["responseType"]) == (200, "FAILURE"), answer
                answered += 1

    users = list(probes)
    async with asyncio.TaskGroup() as clients:
        for first in range(len(users)):
            clients.create_task(client(users[first:] + users[:first]))
        yield lambda: answered
        done = True


def lessons(crowd: dict[str, bytes]) -> dict[str, list[bytes]]:
    """100 photos: half of people who are known already."""
    counts = {"ann": 13, "bob": 13, "cleo": 12, "dan": 12, "eve": 17, "fay": 17, "gus": 16}
    assert sum(counts.values()) == 100
    return {user: list(varied(crowd[user], count)) for user, count in counts.items()}


async def check_crowd(front: TestClient, crowd: dict[str, bytes], taught: dict[str, list[bytes]]) -> None:
    for user, photo in crowd.items():
        for named in ({}, {"userName": user}):
            assert (await recognise(front, photo, **named))[1].get("successDescription") == user
        person = await (await front.get(f"/people/{user}")).json()
        assert person["photos"] == len(taught[user]) + (user in KNOWN)


@pytest.mark.slow
async def test_recognition_goes_on_while_photos_are_learned(
    front: TestClient, photos: Path, crowd: dict[str, bytes]
) -> None:
    taught = lessons(crowd)

    async def teach(users: Sequence[str]) -> None:
        for user in users:
            for start in range(0, len(taught[user]), 2):
                batch = taught[user][start : start + 2]
                status, answer = await train(front, user, *batch)
                assert (status, answer["learned"], answer["photos"]) == (200, len(batch), [])

    async with watching(front, photos, crowd) as answered:
        await asyncio.gather(teach(KNOWN), teach(NEW))
        assert answered() > 20
    await check_crowd(front, crowd, taught)


@pytest.mark.slow
async def test_recognition_goes_on_while_streams_are_learned(
    front: TestClient, photos: Path, crowd: dict[str, bytes]
) -> None:
    taught = lessons(crowd)

    def line(photo: bytes) -> bytes:
        return json.dumps({"picture": base64_of(photo)}).encode() + b"\n"

    async def chunked(user: str) -> AsyncIterator[bytes]:
        for photo in taught[user]:
            yield line(photo)

    async def teach(users: Sequence[str], body: Callable[[str], Any]) -> None:
        for user in users:
            kind = {"Content-Type": "application/x-ndjson"}
            params = {"userName": user}
            async with front.post("/train/stream", params=params, data=body(user), headers=kind) as response:
                *learned, summary = [json.loads(line) async for line in response.content]
            assert [line["responseType"] for line in learned] == ["SUCCESS"] * len(taught[user]), summary
            assert (summary["responseType"], summary["learned"]) == ("SUCCESS", len(taught[user]))

    async with watching(front, photos, crowd) as answered:
        await asyncio.gather(
            teach(KNOWN, chunked),
            *(teach([user], lambda user: b"".join(map(line, taught[user]))) for user in NEW),
        )
        assert answered() > 20
    await check_crowd(front, crowd, taught)


Post = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def post_now(front_now: tuple[asyncio.Runner, TestClient]) -> Post:
    """Posts to a front of its own, outside of any event loop."""
    runner, client = front_now
    return lambda path, **request: runner.run(post(client, path, **request))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("aaaa"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(["API_KEY", "userName", "stream", "picture", "other"]), ANYTHING)
property_test = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@property_test
@given(path=st.sampled_from(["/train", "/recognize"]), members=MEMBERS)
def test_any_json_gets_a_documented_answer(post_now: Post, path: str, members: dict[str, Any]) -> None:
    status, _ = post_now(path, data=json.dumps(members), headers={"Content-Type": "application/json"})
    assert status in (400, 401, 404, 415, 422)


@property_test
@given(
    path=st.sampled_from(["/train", "/recognize"]),
    body=st.binary(max_size=200) | st.lists(st.sampled_from(list("&=%+[a4") + ["stream", "userName"])).map("".join),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]),
)
def test_any_bytes_get_a_documented_answer(post_now: Post, path: str, body: bytes | str, kind: str) -> None:
    status, _ = post_now(path, data=body, headers={"Content-Type": kind})
    assert status in (400, 401, 404, 415, 422)


@property_test
@given(data=st.data())
def test_damaged_pictures_get_a_documented_answer(post_now: Post, photos: Path, data: st.DataObject) -> None:
    photo = (photos / "t1.jpg").read_bytes()[: data.draw(st.integers(0, 3000), label="end")]
    photo = data.draw(st.sampled_from([b"", b"%PDF-1.4\n", b"\x89PNG\r\n\x1a\n"]), label="head") + photo
    text = base64_of(photo)[: data.draw(st.integers(0, 4 * len(photo) // 3), label="cut")]
    status, _ = post_now("/recognize", json={"picture": text})
    assert status in (415, 422)


@given(fields=st.lists(st.tuples(st.text(), st.text())), spaces=st.booleans())
def test_urlencoded_forms_are_read_as_they_were_written(fields: list[tuple[str, str]], spaces: bool) -> None:
    body = urlencode(fields) if spaces else urlencode(fields).replace("+", "%20")
    assert _parse_urlencoded(body.encode()) == fields


@given(body=st.text(alphabet="&=%+4aF é", max_size=30))
def test_urlencoded_forms_are_read_as_the_standard_library_does(body: str) -> None:
    try:
        found = _parse_urlencoded(body.encode())
    except InvalidRequest:
        return
    assert found == parse_qsl(body, keep_blank_values=True, errors="strict")
