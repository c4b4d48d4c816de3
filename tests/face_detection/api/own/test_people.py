"""People as a resource."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from face_detection.gallery import open_gallery
from face_detection.gallery.people import PAGE_BYTES
from shared.settings import FrontSettings
from tests.gallery_samples import sample, vectors

IDS = ["a", "b/c", "d e", "ä?&"]


@pytest_asyncio.fixture
async def enrolled(front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]) -> TestClient:
    image = data_uri(photos / "obama.jpg")
    batch = [{"id": id, "name": f"Name {id}", "image": image, "metadata": {"of": id}} for id in IDS]
    assert (await (await front.post("/update-samples", json=batch)).json())["success"] == IDS
    return front


async def test_paging_sees_everybody_once(enrolled: TestClient) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        query = {"limit": "3"} | ({"after": after} if after else {})
        page = await (await enrolled.get("/people", params=query)).json()
        seen += [person["id"] for person in page["people"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted(IDS)


async def test_one_person(enrolled: TestClient) -> None:
    person = await (await enrolled.get("/people/a")).json()
    assert person.pop("created_at") == person.pop("updated_at")
    assert person == {"id": "a", "name": "Name a", "metadata": {"of": "a"}, "action": None, "photos": 1}


async def test_photos_are_added_listed_and_deleted(enrolled: TestClient, photos: Path) -> None:
    body = {"images": [base64.b64encode((photos / name).read_bytes()).decode() for name in ("obama2.jpg", "biden.jpg")]}
    body["images"].insert(1, "bm90IGEgcGljdHVyZQ==")
    added = (await (await enrolled.post("/people/a/photos", json=body)).json())["photos"]
    assert [photo.get("number") for photo in added] == [5, None, 6]
    assert added[1] == {"error": {"code": "unsupported_image_type", "message": added[1]["error"]["message"]}}
    assert added[0]["faces"] == 1 and added[0]["bbox"].count(",") == 3
    assert (await (await enrolled.get("/people/a")).json())["photos"] == 3
    listed = (await (await enrolled.get("/people/a/photos")).json())["photos"]
    assert [photo["number"] for photo in listed] == [1, 5, 6]
    assert all(photo["space"].startswith("facenet/") for photo in listed)
    for number, status in (("6", 200), ("6", 404), ("2", 404), ("x", 400), ("5", 200), ("1", 200)):
        assert (await enrolled.delete(f"/people/a/photos/{number}")).status == status
    for path in ("/people/a", "/people/a/photos"):
        assert (await enrolled.get(path)).status == 404


async def test_a_form_with_photos_creates_somebody(front: TestClient, photos: Path) -> None:
    form = FormData()
    for name in ("obama.jpg", "obama2.jpg"):
        form.add_field("image", (photos / name).read_bytes(), filename=name)
    form.add_field("name", "Barack")
    added = await (await front.post("/people/44/photos", data=form)).json()
    assert [photo["number"] for photo in added["photos"]] == [1, 2]
    person = await (await front.get("/people/44")).json()
    assert (person["name"], person["photos"]) == ("Barack", 2)


@pytest.mark.parametrize(
    "body", [{}, {"images": []}, {"images": "x"}, {"images": ["x"] * 101}, {"images": [5]}, [], "x"]
)
async def test_malformed_photos(front: TestClient, body: object) -> None:
    response = await front.post("/people/a/photos", json=body)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
    assert (await front.get("/people/a")).status == 404


async def test_changing_a_person(enrolled: TestClient, photos: Path) -> None:
    answer = await (await enrolled.patch("/people/a", json={"name": "New", "metadata": [1]})).json()
    assert (answer["name"], answer["metadata"], answer["action"], answer["photos"]) == ("New", [1], None, 1)
    answer = await (await enrolled.patch("/people/a", json={"metadata": None, "action": "greet"})).json()
    assert (answer["name"], answer["metadata"], answer["action"]) == ("New", None, "greet")
    for body, status in (({"name": None}, 400), ({"name": 5}, 400), ({"metadata": "x" * 70_000}, 400), ([], 400)):
        assert (await enrolled.patch("/people/a", json=body)).status == status
    assert (await enrolled.patch("/people/nobody", json={"name": "x"})).status == 404


async def test_verifying_a_person(enrolled: TestClient, photos: Path) -> None:
    async def verify(id: str, photo: str, **query: str) -> tuple[int, dict[str, Any]]:
        picture = (photos / photo).read_bytes()
        response = await enrolled.post(
            f"/people/{id}/verification", data=picture, headers={"Content-Type": "image/jpeg"}, params=query
        )
        return response.status, await response.json()

    status, same = await verify("a", "obama2.jpg")
    assert (status, same["same"], same["threshold"]) == (200, True, 9)
    assert 0 < same["distance"] < 9 and 50 < same["trust"] <= 100
    status, other = await verify("a", "biden.jpg")
    assert (status, other["same"]) == (200, False)
    assert other["distance"] > 9 and other["trust"] < 50
    assert (await verify("a", "biden.jpg", min_distance="20"))[1]["same"]
    status, nobody = await verify("nobody", "biden.jpg")
    assert (status, nobody["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("id", IDS)
async def test_any_id_can_be_addressed(enrolled: TestClient, id: str) -> None:
    from urllib.parse import quote

    from yarl import URL

    url = URL(f"/people/{quote(id, safe='')}", encoded=True)
    assert (await (await enrolled.get(url)).json())["id"] == id
    assert (await enrolled.delete(url)).status == 200
    assert (await enrolled.get(url)).status == 404
    response = await enrolled.delete(url)
    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


async def test_nothing_to_go_on_after_is_the_first_page(enrolled: TestClient) -> None:
    first = await (await enrolled.get("/people")).json()
    assert first["people"] and await (await enrolled.get("/people?after=")).json() == first


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", f"after={'x' * 300}"])
async def test_malformed_paging(enrolled: TestClient, query: str) -> None:
    response = await enrolled.get(f"/people?{query}")
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")


async def test_a_page_ends_at_a_number_of_bytes_and_is_not_made_in_the_event_loop(
    front: TestClient, front_settings: FrontSettings
) -> None:
    metadata = {"lines": ["x" * 60] * 900}
    gallery = open_gallery(front_settings.database)
    gallery.store.upsert("default", [sample(f"{i:04}", metadata=metadata) for i in range(1000)])
    gallery.close()
    ids: list[str] = []
    query = {"limit": "1000"}
    busiest = 0.0
    while True:
        before = time.thread_time()
        response = await front.get("/people", params=query)
        body = await response.read()
        busiest = max(busiest, time.thread_time() - before)
        assert len(body) < 1.1 * PAGE_BYTES
        page = json.loads(body)
        ids += [person["id"] for person in page["people"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert ids == [f"{i:04}" for i in range(1000)]
    assert busiest < 0.2, "seconds that the event loop worked on a page"


async def test_photos_come_in_pages(front: TestClient, front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    gallery.store.add("default", [sample("a", vector) for vector in vectors(5)])
    gallery.close()
    pages = []
    after = -1
    while after is not None:
        page = await (await front.get("/people/a/photos", params={"limit": 2, "after": after})).json()
        pages.append([photo["number"] for photo in page["photos"]])
        after = page["next"]
    assert pages == [[1, 2], [3, 4], [5]]
    past = await front.get("/people/a/photos", params={"after": 5})
    assert (past.status, await past.json()) == (200, {"photos": [], "next": None})
    for query in ("limit=0", "limit=1001", "after=x", "after=-2"):
        assert (await front.get(f"/people/a/photos?{query}")).status == 400


async def test_people_by_their_metadata(front: TestClient, front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    for id, metadata in (("a", {"department": "Sales", "floor": 3}), ("b", {"department": "Sales"}), ("c", None)):
        gallery.store.upsert("default", [sample(id, metadata=metadata)])
    gallery.close()

    async def found(query: str) -> list[str]:
        page = await (await front.get(f"/people?{query}")).json()
        return [person["id"] for person in page["people"]]

    assert await found("metadata.department=Sales") == ["a", "b"]
    assert await found("metadata.department=Sales&metadata.floor=3") == ["a"]
    assert await found("metadata.department=Sales&text=b&limit=1") == ["b"]
    assert await found("metadata.department=Sales&metadata.department=Production") == []
    assert await found("metadata=null") == ["c"]
    many = "&".join(["metadata.a=1"] * 17)
    for query in ("metadata.=1", "metadata.a..b=1", f"metadata.a={'x' * 513}", f"metadata.{'x' * 513}=1", many):
        assert (await front.get(f"/people?{query}")).status == 400


async def test_concurrent_changes_of_one_person_are_merged(enrolled: TestClient) -> None:
    for number in range(50):
        changes: list[dict[str, object]] = [{"name": f"{number}"}, {"metadata": number}, {"action": f"go {number}"}]
        answers = await asyncio.gather(*(enrolled.patch("/people/a", json=change) for change in changes))
        assert [answer.status for answer in answers] == [200, 200, 200]
        person = await (await enrolled.get("/people/a")).json()
        assert (person["name"], person["metadata"], person["action"]) == (f"{number}", number, f"go {number}")
