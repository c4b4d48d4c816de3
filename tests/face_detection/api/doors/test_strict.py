"""What every door takes and refuses alike: numbers, ids, names, and what nobody knows."""

from __future__ import annotations

import asyncio
import base64
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import aiohttp
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from face_detection.gallery import open_gallery
from shared.settings import FrontSettings
from tests.contracts.databases import DATABASES
from tests.gallery_samples import sample, vectors
from tests.running_front import running_front
from tests.shared.test_exact_json import TREES

JSON = {"Content-Type": "application/json"}
JPEG = {"Content-Type": "image/jpeg"}

BIG = ("89014103211118510720", "89014103211118510721")


@pytest.fixture(scope="module")
def picture(photos: Path) -> bytes:
    return (photos / "obama.jpg").read_bytes()


@pytest.fixture
def url(front_settings: FrontSettings) -> Iterator[str]:
    with running_front(front_settings) as address:
        yield address


@pytest.fixture(params=["sqlite file", "postgresql"])
def url_of_any(request: pytest.FixtureRequest, front_settings: FrontSettings) -> Iterator[str]:
    database = DATABASES[request.param](request)
    with running_front(front_settings.model_copy(update={"database": database})) as address:
        yield address


def base(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def message(response: requests.Response) -> str:
    """Of a refusal, in the words of any door."""
    assert response.status_code == 400, response.text
    body = response.json()
    error = body.get("error")
    words = error["message"] if isinstance(error, dict) else body.get("detail", error)
    return str(words or body.get("error_message") or body.get("failureDescription"))


def test_ids_that_are_numbers_are_taken_as_written(url_of_any: str, picture: bytes) -> None:
    samples = ",".join(f'{{"id": {id}, "name": "N{id}", "image": "{base(picture)}"}}' for id in BIG)
    answer = requests.post(f"{url_of_any}/update-samples", data=f"[{samples}]", headers=JSON).json()
    assert answer["success"] == list(BIG)
    people = requests.get(f"{url_of_any}/people").json()["people"]
    assert [(one["id"], one["name"]) for one in people] == [(id, f"N{id}") for id in BIG]
    for id in ("1.0", "1e3", "true", "-0.0", "null", "[1]"):
        body = f'[{{"id": {id}, "name": "A", "image": "x"}}]'
        assert message(requests.post(f"{url_of_any}/update-samples", data=body, headers=JSON)).startswith(
            "[0].id: must be"
        )


def test_metadata_comes_back_as_it_was_sent(url_of_any: str, picture: bytes) -> None:
    requests.post(f"{url_of_any}/people/1/photos", files={"image": ("x", picture)}).raise_for_status()
    person = f"{url_of_any}/people/1"

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(TREES | st.integers(min_value=-(10**60), max_value=10**60))
    def comes_back(value: Any) -> None:
        text = json.dumps({"metadata": {"value": value}}, ensure_ascii=True)
        changed = requests.patch(person, data=text, headers=JSON)
        # Only what is no Unicode is refused.
        if changed.status_code == 400:
            assert "\\ud" in text
            return
        for answer in (changed, requests.get(person)):
            assert json.loads(answer.content)["metadata"] == {"value": value}

    comes_back()
    sent = f'{{"metadata": {{"n": [{BIG[0]}, -9223372036854775809, 0.1, 1e22]}}}}'
    requests.patch(person, data=sent, headers=JSON).raise_for_status()
    kept = json.loads(sent)["metadata"]
    seen = requests.post(f"{url_of_any}/face-recognition", data=picture, headers=JPEG)
    assert json.loads(seen.content)[0]["metadata"] == kept
    entries = json.loads(requests.get(f"{url_of_any}/faces/sync").content)
    assert entries[0]["uniqueArgs"] == kept
    number = entries[0]["faceId"]
    assert json.loads(requests.get(f"{url_of_any}/face/{number}").content)["unique_args"] == kept
    arguments = f'{{"n": {BIG[1]}, "name": "A"}}'
    updated = requests.post(f"{url_of_any}/face/update", data={"face_id": number, "unique_args": arguments})
    assert json.loads(updated.content)["unique_args"] == json.loads(arguments)
    for number in ("0.1000000000000000055511151231257827", "1e400", "3.14159265358979323846"):
        refused = requests.patch(person, data=f'{{"metadata": [{{"a": {number}}}]}}', headers=JSON)
        assert message(refused).startswith("metadata: has a number with more digits")
    for body in (
        '{"metadata": {"a": 1, "a": 2}}',
        '{"metadata": NaN}',
        '{"name": "A", "name": "B"}',
        '{"metadata": "\\ud800"}',
    ):
        assert message(requests.patch(person, data=body, headers=JSON)).startswith("The body is not JSON")


Send = Callable[[str, str, Any], requests.Response]

DOORS: dict[str, Callable[[str, str, Any], requests.Response]] = {
    "recognition": lambda url, image, value: requests.post(
        f"{url}/face-recognition", json={"image": image, "min_distance": value}
    ),
    "face verification": lambda url, image, value: requests.post(
        f"{url}/face-verification", json={"image1": image, "image2": image, "min_distance": value}
    ),
    "person verification": lambda url, image, value: requests.post(
        f"{url}/people/1/verification", json={"image": image, "min_distance": value}
    ),
    "company": lambda url, image, value: requests.patch(
        f"{url}/companies/default", json={"settings": {"min_distance": value}}
    ),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_threshold_is_a_number(url: str, picture: bytes, door: Send) -> None:
    image = base(picture)
    for value in (True, False, "9", "", [9], {}, "nan"):
        assert message(door(url, image, value)).endswith("min_distance: must be a number")
    assert message(door(url, image, -1)).endswith("min_distance: must be at least 0")
    assert door(url, image, 9).status_code in (200, 404)


def test_truth_values_and_whole_numbers(url: str, picture: bytes) -> None:
    image, address = base(picture), f"{url}/face-recognition"
    for value in ("yes", "true", 1, 0, [], ""):
        refused = requests.post(address, json={"image": image, "include_unknown": value})
        assert message(refused) == "include_unknown: must be true or false"
    for value in ("1", 1.0, True, "x"):
        refused = requests.post(address, json={"image": image, "candidates": value})
        assert message(refused) == "candidates: must be a whole number"
    for text, faces in (("true", 1), ("1", 1), ("false", 0), ("0", 0)):
        for query in (True, False):
            sent: dict[str, Any] = {"params" if query else "data": {"include_unknown": text, "min_distance": "9.5"}}
            answer = requests.post(address, files={"image": ("x", picture)}, **sent)
            assert len(answer.json()) == faces, answer.text
    assert message(requests.post(f"{address}?include_unknown=yes", data=picture, headers=JPEG)).endswith(
        "true or false"
    )
    assert message(requests.post(f"{address}?min_distance=1_0", data=picture, headers=JPEG)).endswith(
        "must be a number"
    )
    assert message(requests.get(f"{url}/people?limit=1.0")) == "limit: must be a whole number"
    key = {"name": "k", "rights": ["admin"], "expires_at": 4102444800}
    assert message(requests.post(f"{url}/companies/default/keys", json=key)) == "expires_at: must be an ISO 8601 time"
    # At the doors of others numbers may be text, but nothing else than numbers.
    for value in (True, "1_0", "1.0", 1.5, "x"):
        assert (
            message(requests.post(f"{url}/face/delete", json={"face_id": value})) == "face_id: must be a whole number"
        )
    assert requests.post(f"{url}/face/delete", json={"face_id": "7"}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        (
            "POST",
            "/face-recognition?min_distanc=0.1",
            None,
            "min_distanc is not known here, did you mean min_distance?",
        ),
        ("GET", "/people?search=zoe", None, "search is not known here"),
        ("GET", "/people?limti=5", None, "limti is not known here, did you mean limit?"),
        ("GET", "/people/1?text=x", None, "text is not known here (known: collection)"),
        ("DELETE", "/people/1?force=1", None, "force is not known here"),
        ("GET", "/events?peron=1", None, "peron is not known here, did you mean person?"),
        ("GET", "/companies?x=1", None, "x is not known here"),
        ("GET", "/livez?x=1", None, "x is not known here"),
        ("GET", "/offline/models?x=1", None, "x is not known here"),
        ("PATCH", "/people/1", {"nmae": "x"}, "nmae is not known here, did you mean name?"),
        ("PATCH", "/people/1", {"id": "2"}, "id is not known here"),
        ("PATCH", "/people/1", {}, "There is nothing to change"),
        ("PATCH", "/companies/default", {}, "There is nothing to change"),
        ("PATCH", "/companies/default", {"settings": {"ruel": "vote"}}, "ruel is not known here, did you mean rule?"),
        ("POST", "/people/1/photos", {"images": ["x"], "nam": "A"}, "nam is not known here, did you mean name?"),
        ("POST", "/people/1/verification", {"image": "x", "mindistance": 1}, "did you mean min_distance?"),
        ("POST", "/face-verification", {"image1": "x", "image2": "x", "image3": "x"}, "image3 is not known here"),
        ("POST", "/face-recognition", {"image": "x", "include_unknow": True}, "did you mean include_unknown?"),
        ("PUT", "/companies/default/sectors/1", {"name": "A", "colour": 1}, "colour is not known here"),
    ],
)
def test_what_nobody_knows_is_refused(url: str, picture: bytes, method: str, path: str, body: Any, words: str) -> None:
    sent: dict[str, Any] = {"json": body} if body is not None else {}
    if method == "POST" and body is None:
        sent = {"data": picture, "headers": JPEG}
    assert words in message(requests.request(method, f"{url}{path}", **sent))


def test_what_other_services_know_is_ignored(url: str, picture: bytes) -> None:
    image = base(picture)
    answers = [
        requests.post(f"{url}/update-samples", json=[{"id": "1", "name": "A", "image": image, "album": "x"}]),
        requests.post(f"{url}/face-recognition", json={"image": image, "album": "x"}),
        requests.post(f"{url}/api/recognize?cachebuster=1", files={"file": ("x", picture)}),
        requests.get(f"{url}/api/faces?cachebuster=1"),
        requests.post(f"{url}/face/match?cachebuster=1", json={"image": image, "album": "x"}),
        requests.post(f"{url}/recognize/?cachebuster=1", json={"picture": image, "album": "x"}),
        requests.get(f"{url}/?utm_source=x"),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)


NAMED: dict[str, Callable[[str, str, str], requests.Response]] = {
    "update-samples": lambda url, image, name: requests.post(
        f"{url}/update-samples", json=[{"id": "1", "name": name, "image": image}]
    ),
    "photos": lambda url, image, name: requests.post(f"{url}/people/1/photos", json={"images": [image], "name": name}),
    "patch": lambda url, image, name: requests.patch(f"{url}/people/1", json={"name": name}),
    "training": lambda url, image, name: requests.post(
        f"{url}/api/train", json={"id": "1", "image": image, "name": name}
    ),
    "data set": lambda url, image, name: requests.post(
        f"{url}/face", json={"image": image, "unique_args": {"name": name}}
    ),
    "keyed": lambda url, image, name: requests.post(f"{url}/train/", json={"userName": name, "stream": [image]}),
    "company": lambda url, image, name: requests.post(f"{url}/companies", json={"company": "1", "name": name}),
    "device": lambda url, image, name: requests.put(f"{url}/companies/default/devices/1", json={"name": name}),
    "sector": lambda url, image, name: requests.put(f"{url}/companies/default/sectors/1", json={"name": name}),
}


@pytest.mark.parametrize("door", NAMED.values(), ids=NAMED)
def test_no_name_is_blank(url: str, picture: bytes, door: Callable[[str, str, str], requests.Response]) -> None:
    for name in ("", " ", "\t\u00a0"):
        assert "must not be empty or blank" in message(door(url, base(picture), name))
    assert requests.get(f"{url}/people").json()["people"] == []


def test_a_change_that_repeats_what_is_there(url: str, picture: bytes) -> None:
    requests.post(f"{url}/people/1/photos", files={"image": ("x", picture)}).raise_for_status()
    person = f"{url}/people/1"
    sent = {"name": "Ada", "metadata": {"floor": 1, "big": 2**70}}
    first = requests.patch(person, json=sent).json()
    assert requests.patch(person, json=sent).json() == first
    other = requests.patch(person, json={"metadata": {"floor": True, "big": 2**70}}).json()
    assert other["metadata"]["floor"] is True and other["updated_at"] > first["updated_at"]


KIM = "김민수"
APART = unicodedata.normalize("NFD", KIM)


def test_what_looks_alike_is_one_person(url_of_any: str, picture: bytes) -> None:
    url, image = url_of_any, base(picture)
    for id, name in ((KIM, "Ägnes"), (APART, unicodedata.normalize("NFD", "Ägnes"))):
        sent = [{"id": id, "name": name, "image": image}]
        assert requests.post(f"{url}/update-samples", json=sent).json()["success"] == [KIM]
        assert requests.post(f"{url}/people/{id}/photos", json={"images": [image]}).status_code == 200
        assert requests.post(f"{url}/api/train", json={"id": id, "name": name, "image": image}).json()["id"] == KIM
        assert requests.post(f"{url}/train/", json={"userName": id, "stream": [image]}).status_code == 200
        lines = json.dumps({"userName": id, "picture": image}) + "\n"
        stream = requests.post(f"{url}/train/stream", data=lines, headers={"Content-Type": "application/x-ndjson"})
        assert stream.status_code == 200
        for kind in ("sectors", "devices"):
            requests.put(f"{url}/companies/default/{kind}/1", json={"name": name}).raise_for_status()
            assert requests.get(f"{url}/companies/default/{kind}/1").json()["name"] == "Ägnes"
    people = requests.get(f"{url}/people").json()["people"]
    assert [(one["id"], one["name"]) for one in people] == [(KIM, "Ägnes")]
    for id in (KIM, APART):
        assert requests.get(f"{url}/people/{id}").json()["id"] == KIM
        assert requests.get(f"{url}/people", params={"text": id}).json()["people"] == people
        verified = requests.post(f"{url}/people/{id}/verification", data=picture, headers=JPEG)
        assert verified.json()["same"] is True
        asked = requests.post(f"{url}/recognize/", json={"userName": id, "picture": image})
        assert asked.json()["successDescription"] == KIM
    assert requests.post(f"{url}/api/clear", json={"name": APART}).status_code == 200
    assert requests.get(f"{url}/people").json()["people"] == []


UNADDRESSABLE = (".", "..", "a\nb", "\x7f", " ")

ENTRANCES: dict[str, Callable[[str, str, str], requests.Response]] = {
    "update-samples": lambda url, image, id: requests.post(
        f"{url}/update-samples", json=[{"id": id, "name": "A", "image": image}]
    ),
    "training": lambda url, image, id: requests.post(f"{url}/api/train", json={"id": id, "name": "A", "image": image}),
    "training by name": lambda url, image, id: requests.post(f"{url}/api/train", json={"name": id, "image": image}),
    "keyed": lambda url, image, id: requests.post(f"{url}/train/", json={"userName": id, "stream": [image]}),
    "stream": lambda url, image, id: requests.post(
        f"{url}/train/stream",
        params={"userName": id},
        data=json.dumps({"picture": image}) + "\n",
        headers={"Content-Type": "application/x-ndjson"},
    ),
}


@pytest.mark.parametrize("door", ENTRANCES.values(), ids=ENTRANCES)
def test_ids_that_no_address_can_carry(url: str, picture: bytes, door: Callable[..., requests.Response]) -> None:
    for id in UNADDRESSABLE:
        assert "must not be" in message(door(url, base(picture), id))
    assert requests.get(f"{url}/people").json()["people"] == []


IDS = (
    *("a/b", "a/../b", "../x", "./x", "...", "a b", " a", "%2e%2e", "%2F", "?&#;+", "ä", KIM, "a\\b", "{id}"),
    *(".hidden", "100%", "a%2Fb", "x/..", "'\"<>|^`~", "photos"),
)


@pytest.mark.parametrize("client", ["requests", "aiohttp", "urllib"])
def test_every_other_id_can_be_addressed(url: str, picture: bytes, client: str) -> None:
    sent = [{"id": id, "name": "A", "image": base(picture)} for id in IDS]
    assert requests.post(f"{url}/update-samples", json=sent).json()["success"] == list(IDS)
    for id in IDS:
        address = f"{url}/people/{quote(id, safe='')}"
        assert fetched(client, "GET", address)["id"] == id
        assert len(fetched(client, "GET", f"{address}/photos")["photos"]) == 1
        assert fetched(client, "DELETE", address) == {"success": "The person has been removed."}
    assert requests.get(f"{url}/people").json()["people"] == []


def fetched(client: str, method: str, address: str) -> Any:
    """The answer to a request, as clients of different ways with addresses make it."""
    if client == "requests":
        return requests.request(method, address).json()
    if client == "urllib":
        with urlopen(Request(address, method=method)) as response:
            return json.loads(response.read())

    async def ask() -> Any:
        async with aiohttp.ClientSession() as session, session.request(method, URL(address, encoded=True)) as response:
            return await response.json()

    return asyncio.run(ask())


def test_people_of_former_releases_can_be_deleted(front_settings: FrontSettings, picture: bytes) -> None:
    ids = (".", "..", "a\nb", APART, KIM)
    gallery = open_gallery(front_settings.database)
    gallery.store.upsert("default", [sample(id, vector) for id, vector in zip(ids, vectors(len(ids)), strict=True)])
    gallery.close()
    with running_front(front_settings) as url:
        assert requests.delete(f"{url}/people", params={"id": "...."}).status_code == 404
        for id in (".", ".."):
            assert requests.delete(f"{url}/people", params={"id": id}).status_code == 200
        assert requests.delete(f"{url}/people/a%0Ab").status_code == 200
        assert requests.get(f"{url}/people/{APART}").json()["id"] == APART
        assert requests.get(f"{url}/people?limit=1").json()["next"] == APART
        page = requests.get(f"{url}/people", params={"after": APART}).json()
        assert [one["id"] for one in page["people"]] == [KIM]
        assert requests.delete(f"{url}/people/{APART}").status_code == 200
        assert requests.get(f"{url}/people/{APART}").json()["id"] == KIM, "the other one stays"


def test_searching_without_regard_to_case_and_accents(url_of_any: str, picture: bytes) -> None:
    names = ["Ägnes Müller", "Σοφία", "Weiß", "Łukasz", "Işık", "100% _x"]
    sent = [{"id": f"p{n}", "name": name, "image": base(picture)} for n, name in enumerate(names)]
    requests.post(f"{url_of_any}/update-samples", json=sent).raise_for_status()

    def found(text: str) -> list[str]:
        people = requests.get(f"{url_of_any}/people", params={"text": text}).json()["people"]
        return [one["name"] for one in people]

    for text in ("ägnes", "AGNES", "agnes", "muller", "gnes m", "MÜLL", unicodedata.normalize("NFD", "ägnes"), "P0"):
        assert found(text) == ["Ägnes Müller"], text
    others = {"σοφια": "Σοφία", "weiss": "Weiß", "lukasz": "Łukasz", "ISIK": "Işık", "% _": "100% _x"}
    for text, name in others.items():
        assert found(text) == [name], text
    assert found("x_") == found("zzz") == []
    requests.patch(f"{url_of_any}/people/p0", json={"name": "Zoë"}).raise_for_status()
    assert found("zoe") == ["Zoë"] and found("agnes") == []
    requests.patch(f"{url_of_any}/people/p0", json={"metadata": 1}).raise_for_status()
    assert found("zoe") == ["Zoë"]
