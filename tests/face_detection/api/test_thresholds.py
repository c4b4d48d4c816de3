"""At every door that recognises or compares: a threshold by the rate at which strangers may be named."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY, RECOGNITION
from face_detection.gallery.people import NewSample
from face_detection.gallery.sql.store import Store
from shared.models import find_card
from tests.conftest import Front

CURVE = find_card("facenet").curve(find_card("facenet").metric)
assert CURVE is not None

LOOSE, STRICT = 0.5, 2e-5
"""Rates at which obama2.jpg is obama.jpg, and is not."""


def picture(photos: Path, name: str) -> str:
    return base64.b64encode((photos / name).read_bytes()).decode()


async def original(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/face-recognition", json={"image": image, **threshold})
    answer = await response.json()
    return response.status, answer, response.status == 200 and [face["id"] for face in answer] == ["person1"]


async def original_query(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    query = {name: str(value) for name, value in threshold.items()}
    body = base64.b64decode(image)
    response = await front.post("/face-recognition", params=query, data=body, headers={"Content-Type": "image/jpeg"})
    answer = await response.json()
    return response.status, answer, response.status == 200 and [face["id"] for face in answer] == ["person1"]


async def two_pictures(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/face-verification", json={"image1": ENROLLED[0], "image2": image, **threshold})
    answer = await response.json()
    return response.status, answer, answer.get("same", False)


async def one_person(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/people/person1/verification", json={"image": image, **threshold})
    answer = await response.json()
    return response.status, answer, answer.get("same", False)


async def data_set(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/face/match", json={"image": image, **threshold})
    answer = await response.json()
    return response.status, answer, response.status == 200 and answer["faces"][0]["face_id"] is not None


async def training(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/api/recognize", json={"image": image, **threshold})
    answer = await response.json()
    return response.status, answer, response.status == 200 and answer["faces"][0]["id"] == "person1"


async def keyed(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/recognize", json={"picture": image, **threshold})
    answer = await response.json()
    return response.status, answer, answer["responseType"] == "SUCCESS"


async def keyed_user(front: TestClient, image: str, **threshold: Any) -> tuple[int, Any, bool]:
    response = await front.post("/recognize", json={"picture": image, "userName": "person1", **threshold})
    answer = await response.json()
    return response.status, answer, answer["responseType"] == "SUCCESS"


Door = Callable[..., Any]
DOORS: dict[str, Door] = {
    one.__name__: one
    for one in (original, original_query, two_pictures, one_person, data_set, training, keyed, keyed_user)
}
ENROLLED: list[str] = []


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


async def enrol(front: TestClient, photos: Path) -> None:
    ENROLLED[:] = [picture(photos, "obama.jpg")]
    body = [{"id": "person1", "name": "Person One", "image": ENROLLED[0]}]
    assert (await (await front.post("/update-samples", json=body)).json())["success"] == ["person1"]


def add_made_up(front: TestClient, space: str, count: int) -> None:
    """Further people, far from everybody."""
    store: Store = front.app[RECOGNITION]._store
    vectors = np.random.default_rng(0).normal(size=(count, 128)).astype(np.float32)
    store.add("default", [NewSample(f"far {n}", f"Far {n}", None, space, vector) for n, vector in enumerate(vectors)])


async def test_a_rate_is_a_threshold(front: TestClient, photos: Path, door: Door) -> None:
    await enrol(front, photos)
    probe = picture(photos, "obama2.jpg")
    assert (await door(front, probe))[2]
    assert (await door(front, probe, false_match_rate=LOOSE))[2]
    near = await door(front, probe, min_distance=1.0)
    assert near[0] == 200 and not near[2]
    assert (await door(front, probe, false_match_rate=1e-3))[2]


async def test_both_names_at_once_are_refused(front: TestClient, photos: Path, door: Door) -> None:
    await enrol(front, photos)
    status, answer, _ = await door(front, ENROLLED[0], min_distance=9, false_match_rate=1e-3)
    assert status == 400 and "one of them says what the other does" in str(answer)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2])
async def test_what_is_no_rate_is_refused(front: TestClient, photos: Path, door: Door, rate: float) -> None:
    await enrol(front, photos)
    status, answer, _ = await door(front, ENROLLED[0], false_match_rate=rate)
    assert status == 400 and "false_match_rate: must be" in str(answer)


async def test_a_rate_that_nothing_is_known_of_is_refused(front: TestClient, photos: Path, door: Door) -> None:
    await enrol(front, photos)
    status, answer, _ = await door(front, ENROLLED[0], false_match_rate=1e-9)
    assert status == 400 and "at least 1.551e-05" in str(answer)


async def test_the_request_counts_before_the_company_and_this_before_the_installation(
    start_front: Front, photos: Path, door: Door
) -> None:
    front = await start_front(false_match_rate=STRICT)
    await enrol(front, photos)
    strict = CURVE.distance(STRICT)
    probe = picture(photos, "obama2.jpg")
    distance = (await (await front.post("/face-verification", json={"image1": ENROLLED[0], "image2": probe})).json())[
        "distance"
    ]
    assert distance < strict  # so it is named by the installation's rate, and at 1 it is not
    assert (await door(front, probe))[2]
    change = {"settings": {"min_distance": 1.0}}
    assert (await front.patch("/companies/default", json=change)).status == 200
    assert not (await door(front, probe))[2]
    assert (await door(front, probe, false_match_rate=STRICT))[2]
    change = {"settings": {"false_match_rate": LOOSE}}
    settings = (await (await front.patch("/companies/default", json=change)).json())["settings"]
    assert (settings["min_distance"], settings["false_match_rate"]) == (None, LOOSE)
    assert (await door(front, probe))[2]
    assert not (await door(front, probe, min_distance=1.0))[2]


async def test_answers_tell_the_threshold_and_what_it_means(front: TestClient, photos: Path) -> None:
    await enrol(front, photos)
    probe = picture(photos, "obama2.jpg")
    (face,) = (await original(front, probe, false_match_rate=1e-3))[1]
    assert face["threshold"] == pytest.approx(CURVE.distance(1e-3)) and face["threshold_rate"] == 1e-3
    assert face["false_match_rate"] == pytest.approx(CURVE.false_match_rate(face["distance"]), rel=0.01)
    assert face["margin"] is None and face["ambiguous"] is False
    for door in (two_pictures, one_person):
        answer = (await door(front, probe, false_match_rate=1e-3))[1]
        assert answer["threshold"] == face["threshold"] and answer["threshold_rate"] == 1e-3
        assert answer["false_match_rate"] == face["false_match_rate"]
    body = {"image": picture(photos, "biden.jpg"), "include_unknown": True, "false_match_rate": 1e-3}
    (stranger,) = await (await front.post("/face-recognition", json=body)).json()
    # This face is not quite clear, so its threshold is a little nearer.
    assert 0.99 * face["threshold"] < stranger["threshold"] <= face["threshold"] and stranger["threshold_rate"] <= 1e-3
    assert not {"false_match_rate", "margin", "ambiguous"} & stranger.keys()


async def test_the_threshold_falls_as_the_gallery_grows(front: TestClient, photos: Path) -> None:
    await enrol(front, photos)
    probe = picture(photos, "obama2.jpg")
    space = (await front.app[RECOGNITION].model()).space
    (alone,) = (await original(front, probe, false_match_rate=1e-2))[1]
    add_made_up(front, space, 99)
    (of_hundred,) = (await original(front, probe, false_match_rate=1e-2))[1]
    assert of_hundred["threshold"] == pytest.approx(CURVE.distance(1 - 0.99 ** (1 / 100)))
    assert of_hundred["threshold"] < alone["threshold"]
    assert of_hundred["threshold_rate"] == 1e-2
    assert of_hundred["distance"] == alone["distance"] and of_hundred["margin"] > 1
    assert of_hundred["false_match_rate"] == pytest.approx(1 - (1 - alone["false_match_rate"]) ** 100, rel=0.01)
    # A distance is a distance, and its rate is told.
    (plain,) = (await original(front, probe))[1]
    assert plain["threshold"] == 9 and plain["threshold_rate"] == pytest.approx(0.0194, rel=0.02)
    # Comparing with one person is no search of the gallery.
    assert (await one_person(front, probe, false_match_rate=1e-2))[1]["threshold"] == alone["threshold"]


async def test_a_gallery_that_has_outgrown_the_curve_says_so(front: TestClient, photos: Path) -> None:
    await enrol(front, photos)
    add_made_up(front, (await front.app[RECOGNITION].model()).space, 999)
    (face,) = (await original(front, ENROLLED[0], false_match_rate=1e-4))[1]
    assert face["threshold"] < CURVE.points[0].distance
    assert face["threshold_rate"] == pytest.approx(1000 * CURVE.least_rate, rel=0.02)


async def test_readiness_and_mirrors_tell_the_threshold_of_the_rate(start_front: Front, photos: Path) -> None:
    front = await start_front(false_match_rate=1e-3)
    await enrol(front, photos)
    ready = await (await front.get("/readyz")).json()
    assert ready["min_distance"] == pytest.approx(CURVE.distance(1e-3)) and "company_min_distance" not in ready
    assert (await front.patch("/companies/default", json={"settings": {"false_match_rate": 1e-2}})).status == 200
    for _ in range(100):  # what it says is asked once a second
        ready = await (await front.get("/readyz")).json()
        if "company_min_distance" in ready:
            break
    own = CURVE.distance(1e-2)
    sync = await front.get("/faces/sync")
    assert float(sync.headers["X-Threshold"]) == pytest.approx(own)
    models = await (await front.get("/offline/models")).json()
    assert models["decision"]["threshold"] == pytest.approx(own)


async def test_without_a_curve_a_rate_names_nothing(
    start_front: Front, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.models.catalogue_curve", lambda model, metric: None)
    front = await start_front()
    await enrol(front, photos)
    for door in DOORS.values():
        status, answer, _ = await door(front, ENROLLED[0], false_match_rate=1e-3)
        assert status == 409 and "no calibration curve" in str(answer)
    (face,) = (await original(front, ENROLLED[0]))[1]
    assert face["threshold"] == 9 and face["threshold_rate"] is None and face["false_match_rate"] is None


async def test_a_company_cannot_have_a_rate_that_nothing_is_known_of(front: TestClient) -> None:
    for path, body in (
        ("/companies", {"company": "7", "name": "Acme", "settings": {"false_match_rate": 1e-9}}),
        ("/companies", {"company": "7", "name": "Acme", "settings": {"false_match_rate": 1e-3, "min_distance": 9}}),
    ):
        assert (await front.post(path, json=body)).status == 400
    answer = await front.patch("/companies/default", json={"settings": {"false_match_rate": 1e-9}})
    assert (await answer.json())["error"]["code"] == "unsupported_rate"
    assert front.app[DIRECTORY].tenant("default").settings.false_match_rate is None
