"""The event log over HTTP, from what the service does by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY
from tests.conftest import Front


async def events(front: TestClient, count: int, **query: str) -> dict[str, Any]:
    """The page, once it has so many events."""
    async with asyncio.timeout(10):
        while True:
            page: dict[str, Any] = await (await front.get("/events", params=query)).json()
            if len(page["events"]) >= count:
                return page
            await asyncio.sleep(0.05)


async def test_who_was_enrolled_and_recognised(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    sample = {"id": "44", "name": "Barack", "image": data_uri(photos / "obama.jpg")}
    await front.post("/update-samples", json=[sample])
    for photo in ("obama2.jpg", "biden.jpg"):
        await front.post("/face-recognition", json={"image": data_uri(photos / photo)})
    page = await events(front, 3)
    unknown, recognised, enrolled = page["events"]
    assert page["next"] is None
    assert [event["kind"] for event in page["events"]] == ["unknown", "recognised", "enrolled"]
    assert (recognised["person"], recognised["name"], enrolled["person"]) == ("44", "Barack", "44")
    assert 0 < recognised["distance"] < 9 < unknown["distance"]
    assert (enrolled["distance"], unknown["person"], unknown["api_key"], unknown["crop"]) == (None, None, None, False)
    assert unknown["at"] > recognised["at"] > enrolled["at"]
    first = await events(front, 1, limit="1")
    assert (first["events"], first["next"]) == ([unknown], 3)
    rest = await events(front, 2, before="3", limit="2")
    assert (rest["events"], rest["next"]) == ([recognised, enrolled], None)
    assert (await events(front, 1, kind="enrolled", person="44"))["events"] == [enrolled]
    assert (await events(front, 2, since=recognised["at"]))["events"] == [unknown, recognised]
    assert (await events(front, 1, until=recognised["at"]))["events"] == [enrolled]
    assert (await events(front, 1, since=recognised["at"], until=unknown["at"]))["events"] == [recognised]
    now = time.time()
    assert (await events(front, 0, since=str(now + 60)))["events"] == []
    assert (await events(front, 3, since=str(int((now - 60) * 1000))))["events"] == page["events"]
    assert (await events(front, 0, device="7"))["events"] == []
    await front.delete("/people/44")
    assert (await events(front, 1))["events"] == [unknown]


async def test_crops_are_kept_when_the_tenant_asks(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    await check_crops(front, photos, data_uri, 160)


async def test_a_crop_of_a_combination_shows_the_face_once(
    start_front: Front, combined_url: str, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    await check_crops(await start_front(extraction_url=combined_url), photos, data_uri, 112)


async def check_crops(front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str], side: int) -> None:
    assert front.app is not None
    front.app[DIRECTORY].update_tenant("default", settings={"keep_crops": True})
    sample = {"id": "44", "name": "Barack", "image": data_uri(photos / "obama.jpg")}
    await front.post("/update-samples", json=[sample])
    await front.post("/face-recognition", json={"image": data_uri(photos / "obama2.jpg")})
    page = await events(front, 2)
    for event in page["events"]:
        assert event["crop"]
        response = await front.get(f"/events/{event['number']}/crop")
        assert response.content_type == "image/jpeg"
        crop = cv2.imdecode(np.frombuffer(await response.read(), np.uint8), cv2.IMREAD_COLOR)
        assert crop is not None and crop.shape == (side, side, 3) and crop.std() > 10
    for number, status in (("99", 404), ("x", 400), (str(2**63), 400)):
        assert (await front.get(f"/events/{number}/crop")).status == status


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "before=x", "before=0", "kind=x", f"person={'x' * 300}"]
    + ["since=yesterday", "until=", "since=-1", "since=1&since=2", "device=x", "device=-1", "until=99999-01-01"],
)
async def test_malformed_queries(front: TestClient, query: str) -> None:
    response = await front.get(f"/events?{query}")
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
