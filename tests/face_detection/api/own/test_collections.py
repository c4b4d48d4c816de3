"""Collections over HTTP, and that what acts on one leaves the others alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.app import OPERATIONS
from face_detection.gallery.directory import Right, TenantSettings
from tests.conftest import Front

VISITORS = {"collection": "visitors"}


async def asked(front: TestClient, method: str, path: str, status: int = 200, **sent: Any) -> Any:
    response = await front.request(method, path, **sent)
    assert response.status == status, await response.text()
    return await response.json()


async def test_collections_are_created_described_listed_and_deleted(front: TestClient) -> None:
    created = await asked(front, "POST", "/collections", json=VISITORS)
    assert created["collection"] == "visitors"
    listed = await asked(front, "GET", "/collections", params={"limit": "1"})
    assert [one["collection"] for one in listed["collections"]] == ["default"] and listed["next"] == "default"
    rest = await asked(front, "GET", "/collections", params={"after": "default"})
    assert rest == {"collections": [created], "next": None}
    assert await asked(front, "GET", "/collections/visitors") == created | {"people": 0, "samples": 0}
    assert (await asked(front, "POST", "/collections", 409, json=VISITORS))["error"]["code"] == "conflict"
    await asked(front, "POST", "/collections", 400, json={"collection": "a/b"})
    await asked(front, "DELETE", "/collections/default", 409)
    await asked(front, "DELETE", "/collections/visitors")
    for method in ("GET", "DELETE"):
        assert (await asked(front, method, "/collections/visitors", 404))["error"]["code"] == "not_found"


async def test_a_request_acts_on_the_collection_that_it_names(
    front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    await asked(front, "POST", "/collections", json=VISITORS)
    obama, biden = (data_uri(photos / name) for name in ("obama.jpg", "biden.jpg"))
    await asked(front, "POST", "/people/ann/photos", json={"images": [biden]})
    await asked(front, "POST", "/people/guest/photos", params=VISITORS, json={"images": [obama]})
    for params, name, image in (({}, "ann", biden), (VISITORS, "guest", obama)):
        people = (await asked(front, "GET", "/people", params=params))["people"]
        assert [person["id"] for person in people] == [name]
        (face,) = await asked(front, "POST", "/face-recognition", params=params, json={"image": image})
        assert face["id"] == name
    assert await asked(front, "POST", "/face-recognition", json={"image": obama}) == []
    # The photo contradicts another only where that is: in its own collection.
    await asked(front, "POST", "/people/double/photos", params=VISITORS, json={"images": [obama]})
    assert {one["person"]["id"] for one in (await asked(front, "GET", "/conflicts", params=VISITORS))["conflicts"]} == {
        "guest",
        "double",
    }
    assert await asked(front, "GET", "/conflicts") == {"conflicts": [], "examined": 1, "next": None}
    await asked(front, "DELETE", "/people/double", params=VISITORS)
    await asked(front, "GET", "/people/guest", 404)
    await asked(front, "GET", "/people/ann", 404, params=VISITORS)
    copied = await asked(front, "POST", "/collections/visitors/people", json={"id": "ann"})
    assert copied == {"id": "ann", "photos": 1}
    await asked(front, "POST", "/collections/visitors/people", 409, json={"id": "ann"})
    await asked(front, "POST", "/collections/visitors/people", 404, json={"id": "guest"})
    (face,) = await asked(front, "POST", "/face-recognition", params=VISITORS, json={"image": biden})
    assert face["id"] == "ann"
    await asked(front, "DELETE", "/clear-samples")
    described = await asked(front, "GET", "/collections/visitors")
    assert (described["people"], described["samples"]) == (2, 2)
    await asked(front, "DELETE", "/collections/visitors")
    await asked(front, "GET", "/people", 404, params=VISITORS)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/people?collection=nobody", 404),
        ("GET", "/people?collection=default", 200),
        ("GET", "/people?collection=", 404),
        ("GET", "/people?collection=default&collection=default", 400),
        ("GET", "/conflicts?collection=nobody", 404),
    ],
)
async def test_how_a_collection_is_named(front: TestClient, method: str, path: str, status: int) -> None:
    await asked(front, method, path, status)


async def test_what_takes_no_collection_refuses_one(front: TestClient) -> None:
    """Also at the doors of other services, which pass over what else they do not know."""
    refusing = [operation for operation in OPERATIONS if not operation.in_collection]
    answers = {}
    for operation in refusing:
        path = re.sub(r"{\w+}", "1", operation.path)
        response = await front.request(operation.method, path, params={"collection": "default"})
        answers[f"{operation.method} {path}"] = response.status, "collection is not known here" in await response.text()
    assert answers == dict.fromkeys(answers, (400, True)) and len(answers) == len(refusing)


async def test_a_body_names_none(front: TestClient, photos: Path, data_uri: Callable[[Path | bytes], str]) -> None:
    picture = {"image": data_uri(photos / "obama.jpg"), "collection": "default"}
    for body in (picture, [picture | {"id": "1", "name": "one"}]):
        path = "/update-samples" if isinstance(body, list) else "/face-recognition"
        answer = await asked(front, "POST", path, 400, json=body)
        assert "collection is not known here" in answer["detail"]
    assert await asked(front, "GET", "/people") == {"people": [], "next": None}


async def test_collections_of_other_companies_are_not_there(start_front: Front) -> None:
    front = await start_front()
    assert front.app is not None
    front.app[DIRECTORY].create_tenant("1042", "Acme", TenantSettings())
    headers = {"X-API-Key": front.app[ACCESS].create_key("default", "chief", [Right.ADMIN])[1]}
    theirs = {"X-API-Key": front.app[ACCESS].create_key("1042", "chief", [Right.ADMIN])[1]}
    await asked(front, "POST", "/collections", json=VISITORS, headers=headers)
    await asked(front, "GET", "/people", 404, params=VISITORS, headers=theirs)
    await asked(front, "GET", "/collections/visitors", 404, headers=theirs)
    await asked(front, "DELETE", "/collections/visitors", 404, headers=theirs)
    listed = await asked(front, "GET", "/collections", headers=theirs)
    assert [one["collection"] for one in listed["collections"]] == ["default"]
    await asked(front, "GET", "/collections/visitors", headers=headers)
