"""Samples as a resource."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient

IDS = ["a", "b/c", "d e", "ä?&"]


@pytest_asyncio.fixture
async def enrolled(front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]) -> TestClient:
    image = data_uri(photos / "obama.jpg")
    batch = [{"id": id, "name": f"Name {id}", "image": image, "metadata": {"of": id}} for id in IDS]
    assert (await (await front.post("/update-samples", json=batch)).json())["success"] == IDS
    return front


async def test_paging_sees_each_sample_once(enrolled: TestClient) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        query = {"limit": "3"} | ({"after": after} if after else {})
        page = await (await enrolled.get("/samples", params=query)).json()
        seen += [sample["id"] for sample in page["samples"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted(IDS)


async def test_one_sample_has_no_vector(enrolled: TestClient) -> None:
    sample = await (await enrolled.get("/samples/a")).json()
    assert sample.pop("created_at") == sample.pop("updated_at")
    assert sample.pop("space").startswith("facenet/")
    assert sample == {"id": "a", "name": "Name a", "metadata": {"of": "a"}, "action": None}


@pytest.mark.parametrize("id", IDS)
async def test_any_id_can_be_addressed(enrolled: TestClient, id: str) -> None:
    from urllib.parse import quote

    from yarl import URL

    url = URL(f"/samples/{quote(id, safe='')}", encoded=True)
    assert (await (await enrolled.get(url)).json())["id"] == id
    assert (await enrolled.delete(url)).status == 200
    assert (await enrolled.get(url)).status == 404
    response = await enrolled.delete(url)
    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", f"after={'x' * 300}"])
async def test_malformed_paging(enrolled: TestClient, query: str) -> None:
    response = await enrolled.get(f"/samples?{query}")
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
