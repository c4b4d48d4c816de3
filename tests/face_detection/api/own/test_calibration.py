"""A company's own curve over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY, RECOGNITION
from face_detection.gallery.directory import Right
from shared.calibration import MOST_POINTS
from shared.models import find_card
from tests.conftest import Front

CARD = find_card("facenet")
CURVE = CARD.curve(CARD.metric)
assert CURVE is not None
OWN = {"people": 30, "impostor_pairs": 5000, "genuine_pairs": 40, "points": [[2.0, 1e-3, 0.4], [8.0, 1e-2, 0.9]]}


async def request_of(front: TestClient, **changes: Any) -> dict[str, Any]:
    space = (await front.app[RECOGNITION].model()).space
    return {"space": space, "distance": "tenfold-unit-euclidean", "curve": OWN} | changes


async def test_without_one_the_curve_is_the_models(front: TestClient) -> None:
    answer = await (await front.get("/calibration")).json()
    curve = answer.pop("curve")
    assert curve == asdict(CURVE) | {"points": [list(point) for point in CURVE.points]}
    space = (await front.app[RECOGNITION].model()).space
    assert answer == {
        "space": space,
        "distance": "tenfold-unit-euclidean",
        "own": False,
        "least_rate": CURVE.least_rate,
        "samples": 0,
        "threshold": 9.0,
    }


async def test_an_own_curve_counts_until_it_is_taken_back(front: TestClient, photos: Path) -> None:
    files = {"id": "a", "name": "A", "image": (photos / "obama.jpg").open("rb")}
    assert (await front.post("/update-samples", data=files)).status == 200
    stored = await (await front.put("/calibration", json=await request_of(front))).json()
    assert stored["own"] and stored["curve"] == OWN and stored["least_rate"] == 1e-3
    assert await (await front.get("/calibration")).json() == stored | {"samples": 1}
    picture = (photos / "obama2.jpg").read_bytes()

    async def threshold(rate: float) -> float:
        address = f"/face-recognition?include_unknown=1&false_match_rate={rate}"
        answer = await front.post(address, data=picture, headers={"Content-Type": "image/jpeg"})
        return float((await answer.json())[0]["threshold"])

    assert await threshold(1e-2) == pytest.approx(8.0)
    settings = await (await front.get("/companies/default")).json()
    assert "calibration" not in settings["settings"]
    assert (await front.patch("/companies/default", json={"settings": {"rule": "vote"}})).status == 200
    assert await threshold(1e-2) == pytest.approx(8.0)
    assert (await front.delete("/calibration")).status == 200
    assert await threshold(1e-2) == pytest.approx(CURVE.distance(1e-2))
    assert not (await (await front.get("/calibration")).json())["own"]


async def test_a_curve_of_another_model_or_distance_is_refused_and_never_counts(
    start_front: Front, sface_url: str
) -> None:
    front = await start_front()
    for change in ({"space": "facenet/other"}, {"distance": "cosine"}):
        answer = await front.put("/calibration", json=await request_of(front, **change))
        assert answer.status == 409
        assert (await answer.json())["error"]["code"] == "embedding_space_mismatch"
    assert (await front.put("/calibration", json=await request_of(front))).status == 200
    other = await start_front(extraction_url=sface_url)
    assert not (await (await other.get("/calibration")).json())["own"]
    cosine = await start_front(distance="cosine")
    assert not (await (await cosine.get("/calibration")).json())["own"]
    assert (await (await front.get("/calibration")).json())["own"]


@pytest.mark.parametrize(
    "curve",
    [
        OWN | {"points": [[2.0, 1e-3, 0.4]]},
        OWN | {"points": [[float(n), n / 200, 0.5] for n in range(1, MOST_POINTS + 2)]},
        OWN | {"points": [[8.0, 1e-3, 0.4], [2.0, 1e-2, 0.9]]},
        OWN | {"points": [[2.0, 1e-3, 0.4], [8.0, 2, 0.9]]},
        OWN | {"points": [[2.0, 1e-3], [8.0, 0.1, 0.9]]},
        OWN | {"points": [[2.0, "x", 0.4], [8.0, 0.1, 0.9]]},
        OWN | {"people": -1},
        OWN | {"more": 1},
        {"points": OWN["points"]},
        [],
    ],
)
async def test_what_is_no_curve_is_refused(front: TestClient, curve: Any) -> None:
    answer = await front.put("/calibration", json=await request_of(front, curve=curve))
    assert answer.status == 400, await answer.text()
    assert front.app[DIRECTORY].tenant("default").settings.calibration is None


async def test_a_large_body_is_refused(front: TestClient) -> None:
    body = await request_of(front, space="x" * 70_000)
    assert (await front.put("/calibration", json=body)).status == 413


async def test_rights(front: TestClient) -> None:
    keys = {right: front.app[ACCESS].create_key("default", right, [right])[1] for right in Right}
    for right, key in keys.items():
        headers = {"X-API-Key": key}
        assert (await front.get("/calibration", headers=headers)).status == (403 if right is Right.ENROL else 200)
        put = await front.put("/calibration", json=await request_of(front), headers=headers)
        assert put.status == (200 if right is Right.ADMIN else 403)
        deleted = await front.delete("/calibration", headers=headers)
        assert deleted.status == (200 if right is Right.ADMIN else 403)
