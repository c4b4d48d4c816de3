"""Companies, sectors, devices and keys over HTTP, and how tenants are kept apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient
from numpy.typing import NDArray

from face_detection.api.doors.totem import AppCode, Status
from face_detection.api.operation import ACCESS, DIRECTORY, PEOPLE
from face_detection.app import OPERATIONS
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import MAX_INTEGER, Device, Right, Sector, TenantSettings
from feature_extraction.embedder import Embedder
from shared.errors import SettingsError
from shared.settings import ExtractionSettings, FrontSettings
from tests.conftest import Front, ServeExtraction

DEFAULTS = {
    "min_distance": None,
    "false_match_rate": None,
    "rule": "nearest",
    "neighbours": 5,
    "keep_crops": False,
    "event_days": None,
    "liveness": "optional",
}


class Api:
    """Sends requests with one key."""

    def __init__(self, client: TestClient, key: str | None) -> None:
        self.client = client
        self.headers = {"X-API-Key": key} if key else {}

    async def __call__(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        response = await self.client.request(method, path, json=body, headers=self.headers)
        answer = await response.json()
        assert response.status == status, answer
        return answer


@pytest.fixture
async def operator(front: TestClient) -> Api:
    """With a key of the default company, beside the companies 1042 and 77."""
    text = (await Api(front, None)("POST", "/companies/default/keys", {"name": "op", "rights": ["admin"]}))["key"]
    api = Api(front, text)
    await api("POST", "/companies", {"company": 1042, "name": "Acme"})
    await api("POST", "/companies", {"company": "77", "name": "Other"})
    return api


@pytest.fixture
async def chief(operator: Api) -> Api:
    """With an ADMIN key of the company 1042."""
    answer = await operator("POST", "/companies/1042/keys", {"name": "chief", "rights": ["admin"]})
    return Api(operator.client, answer["key"])


async def test_companies(operator: Api) -> None:
    answer = await operator("GET", "/companies/1042")
    created = answer.pop("created_at")
    assert answer == {"company": "1042", "name": "Acme", "settings": DEFAULTS}
    assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(minutes=1)
    changed = await operator("PATCH", "/companies/1042", {"settings": {"min_distance": 8, "rule": "vote"}})
    assert changed["settings"] == DEFAULTS | {"min_distance": 8.0, "rule": "vote"}
    changed = await operator("PATCH", "/companies/1042", {"name": "New", "settings": {"min_distance": None}})
    assert (changed["name"], changed["settings"]) == ("New", DEFAULTS | {"rule": "vote"})
    companies = (await operator("GET", "/companies"))["companies"]
    assert [one["company"] for one in companies] == ["1042", "77", "default"] and companies[0] == changed
    await operator("DELETE", "/companies/1042")
    await operator("GET", "/companies/1042", status=404)


async def test_settings_of_a_new_company(operator: Api) -> None:
    answer = await operator("POST", "/companies", {"company": "5", "name": "N", "settings": {"event_days": 0}})
    assert answer["settings"] == DEFAULTS | {"event_days": 0}
    assert await operator("GET", "/companies/5") == answer


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/companies", {"company": "1042", "name": "again"}, 409),
        ("POST", "/companies", {"company": "a/b", "name": "a"}, 400),
        ("POST", "/companies", {"company": "..", "name": "a"}, 400),
        ("POST", "/companies", {"company": "1\n", "name": "a"}, 400),
        ("POST", "/companies", {"company": "1", "name": ""}, 400),
        ("POST", "/companies", {"company": "1", "name": "a\0"}, 400),
        ("POST", "/companies", {"company": "1", "name": "\ud800"}, 400),
        ("POST", "/companies", {"company": "1", "name": "a" * 513}, 400),
        ("POST", "/companies", {"company": "1", "name": "a", "settings": {"rule": "best"}}, 400),
        ("POST", "/companies", {"company": "1", "name": "a", "settings": {"neighbors": 3}}, 400),
        ("POST", "/companies", {"company": "1", "name": "a" * 70_000}, 413),
        ("POST", "/companies", [], 400),
        ("PATCH", "/companies/1042", {"settings": {"rule": None}}, 400),
        ("PATCH", "/companies/1042", {"settings": {"min_distance": -1}}, 400),
        ("PATCH", "/companies/1042", {"company": "2"}, 400),
        ("PATCH", "/companies/nobody", {"name": "a"}, 404),
        ("DELETE", "/companies/default", None, 409),
        ("DELETE", "/companies/nobody", None, 404),
        ("PUT", "/companies/1042/sectors/-1", {"name": "a"}, 400),
        ("PUT", "/companies/1042/sectors/x", {"name": "a"}, 400),
        ("PUT", f"/companies/1042/sectors/{MAX_INTEGER + 1}", {"name": "a"}, 400),
        ("GET", f"/companies/1042/sectors/{'9' * 5000}", None, 400),
        ("GET", "/companies/1042/devices/1", None, 404),
        ("GET", "/companies/nobody/devices", None, 404),
        ("PUT", "/companies/nobody/devices/1", {"name": "a"}, 404),
        ("PUT", "/companies/1042/devices/1", {"name": "a", "sector": 9}, 404),
        ("PUT", "/companies/1042/devices/1", {"name": "a", "sector": MAX_INTEGER + 1}, 400),
        ("POST", "/companies/nobody/keys", {"name": "a", "rights": ["enrol"]}, 404),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": []}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["everything"]}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["enrol"], "max_sample": 5}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["enrol"], "max_samples": 2**63}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["enrol"], "requests_per_minute": 0}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["enrol"], "expires_at": "2040-01-01T00:00:00"}, 400),
        ("POST", "/companies/1042/keys", {"name": "a", "rights": ["enrol"], "expires_at": "2020-01-01T00:00Z"}, 400),
        (
            "POST",
            "/companies/1042/keys",
            {"name": "a", "rights": ["enrol"], "expires_at": "9999-12-31T23:00-05:00"},
            400,
        ),
        ("POST", "/companies/1042/keys/unknown/rotate", None, 404),
        ("DELETE", "/companies/1042/keys/unknown", None, 404),
    ],
)
async def test_what_is_refused(operator: Api, method: str, path: str, body: object, status: int) -> None:
    before = await operator("GET", "/companies")
    assert (await operator(method, path, body, status=status))["error"]["message"]
    assert await operator("GET", "/companies") == before


async def test_sectors_and_devices(chief: Api) -> None:
    assert await chief("PUT", "/companies/1042/sectors/7", {"name": "Hall"}) == {"code": 7, "name": "Hall"}
    device = {"code": MAX_INTEGER, "name": "Door", "sector": 7}
    assert await chief("PUT", f"/companies/1042/devices/{MAX_INTEGER}", {"name": "Door", "sector": 7}) == device
    assert await chief("GET", f"/companies/1042/devices/{MAX_INTEGER}") == device
    assert await chief("GET", "/companies/1042/devices") == {"devices": [device], "next": None}
    await chief("DELETE", "/companies/1042/sectors/7", status=409)
    await chief("DELETE", f"/companies/1042/devices/{MAX_INTEGER}")
    assert await chief("GET", "/companies/1042/sectors/7") == {"code": 7, "name": "Hall"}
    await chief("DELETE", "/companies/1042/sectors/7")
    assert await chief("GET", "/companies/1042/sectors") == {"sectors": [], "next": None}


async def test_keys(chief: Api) -> None:
    wanted = {
        "name": "door",
        "rights": ["recognise", "enrol"],
        "requests_per_minute": 60,
        "max_samples": 5,
        "expires_at": "2999-01-31T18:00:00+01:00",
    }
    made = await chief("POST", "/companies/1042/keys", wanted)
    text = made.pop("key")
    assert made["rights"] == ["enrol", "recognise"] and made["company"] == "1042" and made["revoked_at"] is None
    listed = (await chief("GET", "/companies/1042/keys"))["keys"]
    assert listed[-1]["id"] == made["id"] and all("key" not in one and "hash" not in one for one in listed)
    assert datetime.fromisoformat(made["expires_at"]) == datetime(2999, 1, 31, 17, tzinfo=UTC)
    door = Api(chief.client, text)
    await door("GET", "/people")
    await door("GET", "/companies/1042", status=403)
    rotated = await chief("POST", f"/companies/1042/keys/{made['id']}/rotate")
    await door("GET", "/people", status=401)
    door = Api(chief.client, rotated["key"])
    await door("GET", "/people")
    assert (await chief("DELETE", f"/companies/1042/keys/{made['id']}"))["revoked_at"]
    await door("GET", "/people", status=401)
    await chief("POST", f"/companies/1042/keys/{made['id']}/rotate", status=409)


async def test_a_company_administers_itself_and_sees_no_other(operator: Api, chief: Api) -> None:
    theirs = await operator("POST", "/companies/77/keys", {"name": "theirs", "rights": ["enrol"]})
    await operator("PUT", "/companies/77/sectors/1", {"name": "a"})
    assert [one["company"] for one in (await chief("GET", "/companies"))["companies"]] == ["1042"]
    assert (await chief("PATCH", "/companies/1042", {"settings": {"keep_crops": True}}))["settings"]["keep_crops"]
    messages = set()
    for company in ("77", "default", "nobody"):
        for method, path, body in [
            ("GET", "", None),
            ("PATCH", "", {"name": "mine"}),
            ("GET", "/keys", None),
            ("POST", "/keys", {"name": "a", "rights": ["admin"]}),
            ("POST", f"/keys/{theirs['id']}/rotate", None),
            ("DELETE", f"/keys/{theirs['id']}", None),
            ("GET", "/sectors", None),
            ("GET", "/sectors/1", None),
            ("PUT", "/sectors/1", {"name": "mine"}),
            ("DELETE", "/sectors/1", None),
            ("GET", "/devices", None),
            ("PUT", "/devices/1", {"name": "mine"}),
            ("GET", "/devices/1", None),
            ("DELETE", "/devices/1", None),
        ]:
            answer = await chief(method, f"/companies/{company}{path}", body, status=404)
            messages.add(answer["error"]["message"])
    assert messages == {"There is no such company."}
    await chief("POST", "/companies", {"company": "9", "name": "a"}, status=403)
    for company in ("1042", "77", "nobody"):
        await chief("DELETE", f"/companies/{company}", status=403)
    await chief("POST", f"/companies/1042/keys/{theirs['id']}/rotate", status=404)
    await chief("DELETE", f"/companies/1042/keys/{theirs['id']}", status=404)


async def test_tenants_do_not_see_one_another(
    operator: Api, chief: Api, photos: Path, data_uri: Callable[[Path | bytes], str]
) -> None:
    image = data_uri(photos / "obama.jpg")
    await chief("POST", "/update-samples", [{"id": "a", "name": "A", "image": image}])
    assert [face["id"] for face in await chief("POST", "/face-recognition", {"image": image})] == ["a"]
    assert await operator("POST", "/face-recognition", {"image": image}) == []
    await operator("GET", "/people/a", status=404)
    await operator("DELETE", "/clear-samples")
    await operator("DELETE", "/companies/1042", status=409)
    assert (await chief("GET", "/people/a"))["name"] == "A"
    await chief("DELETE", "/clear-samples")
    await operator("DELETE", "/companies/1042")
    await chief("GET", "/people", status=401)


class Interrupted:
    """The real model; while it computes, something happens."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.meanwhile: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    @property
    def runs(self) -> Sequence[Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
        return [self._run]

    def _run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.meanwhile()
        return self._embedder.embed(crops)


async def test_nobody_is_enrolled_in_a_company_that_is_deleted_meanwhile(
    start_front: Front,
    serve_extraction: ServeExtraction,
    extraction_settings: ExtractionSettings,
    facenet: Embedder,
    photos: Path,
    data_uri: Callable[[Path | bytes], str],
) -> None:
    embedder = Interrupted(facenet)
    front = await start_front(extraction_url=serve_extraction(extraction_settings, embedder))
    access, directory = front.app[ACCESS], front.app[DIRECTORY]
    access.create_key("default", "op", [Right.ADMIN])
    image = data_uri(photos / "obama.jpg")
    registration = {"companyCode": 1042, "captureDeviceCode": 1, "appCode": AppCode.REGISTER, "typeImage": 2}
    registration |= {"keyPerson": 5, "imageValidate": image.partition(",")[2]}
    for path, body, expected in [
        ("/update-samples", [{"id": "a", "name": "A", "image": image}], (404, "There is no such company.")),
        ("/people/a/photos", {"images": [image]}, (404, "There is no such company.")),
        ("/face", {"image": image, "unique_args": {}}, (404, "There is no such company.")),
        ("/companies/recognition", registration, (200, f'"status":{Status.COMPANY_NOT_REGISTERED:d}')),
    ]:
        directory.create_tenant("1042", "Acme", TenantSettings(keep_crops=True))
        directory.put_sector(Sector("1042", 1, "Ground floor"))
        directory.put_device(Device("1042", 1, "Front door", 1))
        _, text = access.create_key("1042", "reception", [Right.ENROL])
        embedder.meanwhile = lambda: directory.delete_tenant("1042")
        response = await front.post(path, json=body, headers={"X-API-Key": text})
        status, said = expected
        assert (response.status, said in await response.text()) == (status, True)
    directory.create_tenant("1042", "Another", TenantSettings())
    people = front.app[PEOPLE]
    assert await people.count("1042") == len(await people.events("1042", 10, None)) == 0


async def test_every_operation_asks_for_its_right(operator: Api) -> None:
    """Without a key nothing but the open operations answers; each right opens its own."""
    open_paths = {("GET", path) for path in ("/livez", "/readyz", "/openapi.json", "/docs", "/")}
    open_paths |= {("GET", "/update-samples"), ("GET", "/face-recognition")}
    guarded = [one for one in OPERATIONS if one.right is not None]
    assert open_paths <= {(one.method, one.path) for one in OPERATIONS if one.right is None}
    keys: dict[Right, str] = {}
    for right in Right:
        answer = await operator("POST", "/companies/1042/keys", {"name": right, "rights": [right]})
        keys[right] = answer["key"]
    for operation in guarded:
        path = re.sub(r"{\w+}", "1", operation.path.replace("{company}", "1042"))
        response = await operator.client.request(operation.method, path)
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer"), operation
        for right, text in keys.items():
            if right not in (operation.right, Right.ADMIN):
                response = await operator.client.request(operation.method, path, headers={"X-API-Key": text})
                assert response.status == 403, (operation, right)
        if operation.operator:
            response = await operator.client.request(operation.method, path, headers={"X-API-Key": keys[Right.ADMIN]})
            assert response.status == 403, operation


async def test_strangers_learn_nothing_from_probes(operator: Api) -> None:
    stranger = Api(operator.client, None)
    assert "samples" not in await stranger("GET", "/readyz")
    assert "samples" not in await Api(operator.client, "wrong")("GET", "/readyz")
    assert (await operator("GET", "/readyz"))["samples"] == 0
    await stranger("GET", "/metrics", status=401)
    assert (await operator.client.get("/metrics", headers=operator.headers)).status == 200


async def test_anonymous_access_beside_keys(start_front: Front) -> None:
    front = await start_front(allow_anonymous=True)
    front.app[ACCESS].create_key("default", "op", [Right.ADMIN])
    anybody = Api(front, None)
    await anybody("GET", "/people")
    await anybody("DELETE", "/clear-samples", status=401)
    await anybody("GET", "/companies", status=401)
    assert (await anybody("GET", "/readyz"))["samples"] == 0


async def test_the_description_names_keys_and_refusals(front: TestClient) -> None:
    described = await (await front.get("/openapi.json")).json()
    assert set(described["components"]["securitySchemes"]) == {"bearer", "header"}
    for operation in OPERATIONS:
        one = described["paths"][operation.path][operation.method.lower()]
        if operation.right is None:
            assert "security" not in one
        else:
            assert one["security"] == [{"bearer": []}, {"header": []}]
            assert {"401", "403"} <= set(one["responses"]) and f"`{operation.right}`" in one["description"]


async def test_an_open_address_needs_a_key(start_front: Front, front_settings: FrontSettings) -> None:
    with pytest.raises(SettingsError, match="Refusing to bind to 0.0.0.0:80: there is no API key"):
        await start_front(front_bind="0.0.0.0:80")
    await start_front(front_bind="0.0.0.0:80", allow_anonymous=True)
    gallery = open_gallery(front_settings.database)
    gallery.directory.create_tenant("1042", "Acme", gallery.directory.tenant("default").settings)
    gallery.close()
    with pytest.raises(SettingsError):
        await start_front(front_bind="[::]:80")
    front = await start_front()
    front.app[ACCESS].create_key("1042", "door", [Right.RECOGNISE])
    assert (await (await start_front(front_bind="[::]:80")).get("/people")).status == 401
