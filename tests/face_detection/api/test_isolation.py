"""No request reads, matches, counts, changes or infers what belongs to another tenant, whichever operation it uses."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp.test_utils import TestClient

from face_detection.api.operation import ACCESS, COLLECTIONS, DIRECTORY, PEOPLE, Operation
from face_detection.app import OPERATIONS
from face_detection.gallery.directory import Device, Right, Sector, TenantSettings
from face_detection.gallery.events import EventKind, Occasion
from face_detection.gallery.people import Cursor
from shared.errors import NotFound
from tests.conftest import Front

MINE, THEIRS = "1042", "77"
HIDDEN = "hidden"
SECRET = "Rumpelstilzchen"
WRONG_KEY = "fr_0123456789abcdef_" + "x" * 43

ABSENT = {"id": "nobody", "number": "987654", "company": "88", "code": "4711", "face_id": "987654", "file": "index.js"}
ABSENT |= {"network": "facenet", "name": "absent"}
"""Values of path parameters that exist in no tenant."""


@dataclass
class TwoTenants:
    """A front with a gallery of two tenants, of which the first asks and the second must not be felt."""

    front: TestClient
    key: str
    their_key: str
    theirs: dict[str, str]
    image: str

    def request_of(self, operation: Operation, values: dict[str, str], key: str) -> dict[str, Any]:
        """What to send: the path's parameters and every member that names something get these values."""
        path = re.sub(r"{(\w+)}", lambda name: values[name[1]], operation.path)
        body: Any = {
            "image": self.image,
            "image1": self.image,
            "image2": self.image,
            "images": [self.image],
            "picture": self.image,
            "stream": [self.image],
            "imageValidate": self.image,
            "typeImage": 2,
            "appCode": 1,
            "requestNumber": 1,
            "companyCode": int(values["company"]),
            "captureDeviceCode": int(values["code"]),
            "keyPerson": 5,
            "face_id": int(values["face_id"]),
            "unique_args": {},
            "userName": values["id"],
            "API_KEY": key,
            "id": "probe",
            "name": "probe",
            "rights": ["recognise"],
        }
        if operation.path == "/update-samples":
            body = [{"id": "probe", "name": "probe", "image": self.image}]
        elif operation.path == "/collections/{name}/people":
            body = {"id": values["id"]}
        sent: dict[str, Any] = {"headers": {"Authorization": f"Bearer {key}"}, "allow_redirects": False}
        if operation.method in ("POST", "PUT", "PATCH"):
            sent["json"] = body
        elif operation.query is not None and "face_id" in operation.query.model_fields:
            sent["params"] = {"face_id": values["face_id"]}
        return {"method": operation.method, "path": path} | sent


@pytest_asyncio.fixture
async def tenants(start_front: Front, photos: Path) -> TwoTenants:
    front = await start_front()
    assert front.app is not None
    access, directory = front.app[ACCESS], front.app[DIRECTORY]
    keys = {}
    for tenant in (MINE, THEIRS):
        directory.create_tenant(tenant, f"Company {tenant}", TenantSettings(keep_crops=True))
        keys[tenant] = access.create_key(tenant, "all", list(Right))[1]
    directory.put_sector(Sector(THEIRS, 900, SECRET))
    directory.put_device(Device(THEIRS, 901, SECRET, 900))
    other_key, _ = access.create_key(THEIRS, SECRET, list(Right))
    headers = {"X-API-Key": keys[THEIRS]}
    obama, biden = (base64.b64encode((photos / name).read_bytes()).decode() for name in ("obama.jpg", "biden.jpg"))
    sample = {"id": "theirs", "name": SECRET, "metadata": {"of": SECRET}, "image": obama}
    answer = await (await front.post("/update-samples", json=[sample], headers=headers)).json()
    assert answer["success"] == ["theirs"]
    await front.post("/people/theirs/photos", json={"images": [obama]}, headers=headers)
    mine = {"id": "mine", "name": "Joe", "image": biden}
    await front.post("/update-samples", json=[mine], headers={"X-API-Key": keys[MINE]})
    theirs = {"id": "theirs", "number": "2", "company": THEIRS, "code": "901", "face_id": "2", "file": "index.js"}
    theirs |= {"key": other_key.id, "network": "facenet", "name": SECRET}
    for tenant in (MINE, THEIRS):  # a collection each, which nobody names but whoever it belongs to
        front.app[COLLECTIONS].create(tenant, {MINE: HIDDEN, THEIRS: SECRET}[tenant])
    await front.post(
        "/people/theirs/photos",
        params={"collection": HIDDEN},
        json={"images": [obama, obama], "name": SECRET},
        headers={"X-API-Key": keys[MINE]},
    )
    return TwoTenants(front, keys[MINE], keys[THEIRS], theirs, obama)


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def described(text: str) -> str:
    """An answer without what differs between two requests anyway."""
    return re.sub(
        r'"(request_id|requestId|at|updated_at|created_at|updatedAt|detectionTime)":\s*("[^"]*"|[\d.e-]+)', "", text
    )


OPEN = {
    "/",
    "/api",
    "/docs",
    "/livez",
    "/offline",
    "/offline/page/{file}",
    "/offline/runtime/{file}",
    "/offline/service-worker.js",
    "/openapi.json",
    "/readyz",
}
"""What everybody may read with GET."""

NAMED_IN_THE_REQUEST = {
    "POST /",
    "POST /companies/recognition",
    "POST /recognize",
    "POST /recognize/",
    "GET /face",
    "POST /face/update",
    "POST /face/delete",
}
"""Where the body or the query names what may be another tenant's."""


GUARDED = [
    operation
    for operation in OPERATIONS
    if operation.method != "GET" or operation.path not in {*OPEN, "/update-samples", "/face-recognition"}
]


async def test_a_wrong_key_opens_nothing(tenants: TwoTenants) -> None:
    for operation in GUARDED:
        response = await tenants.front.request(**tenants.request_of(operation, ABSENT, WRONG_KEY))
        text = await response.text()
        assert response.status == 401, f"{name_of(operation)}: {text}"
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert SECRET not in text


async def test_no_key_opens_nothing_where_there_are_keys(tenants: TwoTenants) -> None:
    for operation in GUARDED:
        sent = tenants.request_of(operation, tenants.theirs, "")
        del sent["headers"]
        if isinstance(sent.get("json"), dict):
            sent["json"].pop("API_KEY", None)
        response = await tenants.front.request(**sent)
        assert response.status == 401, f"{name_of(operation)}: {await response.text()}"


async def test_another_tenants_things_are_like_things_that_do_not_exist(tenants: TwoTenants) -> None:
    assert tenants.front.app is not None
    people, collections = tenants.front.app[PEOPLE], tenants.front.app[COLLECTIONS]
    directory = tenants.front.app[DIRECTORY]

    async def state() -> object:
        return (
            (await people.feed(THEIRS, Cursor(), 100))[0].entries,
            directory.tenant(THEIRS),
            directory.sectors(THEIRS),
            directory.devices(THEIRS),
            directory.keys(THEIRS),
            [(one, collections.contents(one)) for one in collections.page(THEIRS).collections],
        )

    await look_for_theirs(tenants, OPERATIONS, state)


async def test_another_collections_things_are_like_things_that_do_not_exist(tenants: TwoTenants) -> None:
    assert tenants.front.app is not None
    people, gallery = tenants.front.app[PEOPLE], tenants.front.app[COLLECTIONS].get(MINE, HIDDEN).gallery

    async def state() -> object:
        return (await people.feed(gallery, Cursor(), 100))[0].entries

    assert len((await people.feed(gallery, Cursor(), 100))[0].entries) == 2
    await look_for_theirs(tenants, [operation for operation in OPERATIONS if operation.in_collection], state)


async def look_for_theirs(
    tenants: TwoTenants, operations: Sequence[Operation], state: Callable[[], Awaitable[object]]
) -> None:
    """Ask for what is elsewhere: nothing is told of it, nothing changes, and it is like what is nowhere."""
    assert tenants.front.app is not None
    people = tenants.front.app[PEOPLE]
    before = await state()
    for operation in operations:
        name = name_of(operation)
        elsewhere = tenants.theirs | ({"id": tenants.theirs["key"]} if "/keys/" in operation.path else {})
        asked_for_theirs = await tenants.front.request(**tenants.request_of(operation, elsewhere, tenants.key))
        theirs = (await asked_for_theirs.read()).decode(errors="replace")
        assert SECRET not in theirs, name
        assert await state() == before, name
        if "{" not in operation.path and name not in NAMED_IN_THE_REQUEST:
            continue
        with suppress(NotFound):  # adding to a person who does not exist yet makes one, in the own gallery
            await people.delete(MINE, tenants.theirs["id"])
            continue
        asked_for_nothing = await tenants.front.request(**tenants.request_of(operation, ABSENT, tenants.key))
        nothing = (await asked_for_nothing.read()).decode(errors="replace")
        assert (asked_for_theirs.status, described(theirs)) == (asked_for_nothing.status, described(nothing)), name


async def test_nobody_recognises_another_tenants_people(tenants: TwoTenants) -> None:
    """The second tenant's own photo is nobody for the first, and its numbers say nothing about the other."""
    headers = {"X-API-Key": tenants.key}
    body = {"image": tenants.image, "min_distance": 20, "include_unknown": True}
    (face,) = await (await tenants.front.post("/face-recognition", json=body, headers=headers)).json()
    assert (face["id"], face["distance"] > 9) == ("mine", True)
    photos = (await (await tenants.front.get("/people/mine/photos", headers=headers)).json())["photos"]
    assert [photo["number"] for photo in photos] == [1]
    added = await tenants.front.post("/people/new/photos", json={"images": [tenants.image]}, headers=headers)
    assert (await added.json())["photos"][0]["number"] == 2


async def test_events_and_crops_are_the_tenants_own(tenants: TwoTenants) -> None:
    assert tenants.front.app is not None
    journal = tenants.front.app[PEOPLE]._events  # written at once, without waiting for the journal
    from face_detection.gallery.events import NewEvent

    journal.append([(THEIRS, NewEvent(1, EventKind.ENROLLED, "theirs", None, Occasion(), b"jpeg"))])
    (event, *_) = await tenants.front.app[PEOPLE].events(THEIRS, 10, None)
    headers = {"X-API-Key": tenants.key}
    assert (await tenants.front.get(f"/events/{event.number + 50}/crop", headers=headers)).status == 404
    page = await (await tenants.front.get("/events", params={"person": "theirs"}, headers=headers)).json()
    assert page["events"] == []
