"""However a client puts its picture into a request, every door takes it, or says what to do instead."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from PIL import Image

from shared.settings import FrontSettings
from tests.enrolling_doors import COMPANY, DEVICE, SECTOR
from tests.pictures import encoded
from tests.running_front import running_front

ADDRESS = "https://example.org/photo.jpg"
FORM = "application/x-www-form-urlencoded"

Made = Callable[[Any], Any]

JSON_DOORS: dict[str, tuple[str, Made]] = {
    "enrolment": ("/update-samples", lambda picture: [{"id": "1", "name": "A", "image": picture}]),
    "recognition": ("/face-recognition", lambda picture: {"image": picture}),
    "detection": ("/face-detection", lambda picture: {"image": picture}),
    "verification": ("/face-verification", lambda picture: {"image1": picture, "image2": picture}),
    "photos": ("/people/1/photos", lambda picture: {"images": [picture]}),
    "verification of a person": ("/people/1/verification", lambda picture: {"image": picture}),
    "keyed training": ("/train", lambda picture: {"userName": "1", "stream": [picture]}),
    "keyed recognition": ("/recognize", lambda picture: {"picture": picture}),
    "data set, new": ("/face", lambda picture: {"image": picture}),
    "data set, match": ("/face/match", lambda picture: {"image": picture}),
    "data set, detect": ("/face/detect", lambda picture: {"image": picture}),
    "training": ("/api/train", lambda picture: {"name": "1", "image": picture}),
    "recognition by vote": ("/api/recognize", lambda picture: {"image": picture}),
    "company": (
        "/companies/recognition",
        lambda picture: {
            "appCode": 1,
            "companyCode": COMPANY,
            "captureDeviceCode": DEVICE,
            "typeImage": 2,
            "imageValidate": picture,
        },
    ),
}
"""An address of each family, and its JSON with a picture."""

FORM_DOORS = {name: door for name, door in JSON_DOORS.items() if name != "company"}
ALONE = ("recognition", "detection", "photos", "verification of a person", "data set, new", "data set, match")
ALONE += ("data set, detect", "recognition by vote")
"""Doors that take a body which is one picture and nothing else."""


@pytest.fixture(scope="module")
def picture(photos: Path) -> bytes:
    """Small, since it is sent often."""
    with Image.open(photos / "obama.jpg") as photo:
        photo.thumbnail((300, 300))
        return encoded(photo, "JPEG", quality=90)


@pytest.fixture(scope="module")
def url(
    detector_home: Path, extraction_url: str, picture: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A front in which person 1 is enrolled, and a device of a company placed."""
    database = tmp_path_factory.mktemp("doors") / "gallery.db"
    settings = FrontSettings(deepface_home=detector_home, extraction_url=extraction_url, database=str(database))
    with running_front(settings) as url:
        company = f"{url}/companies/{COMPANY}"
        requests.put(f"{company}/sectors/{SECTOR}", json={"name": "Ground floor"}).raise_for_status()
        device = {"name": "Front door", "sector": SECTOR}
        requests.put(f"{company}/devices/{DEVICE}", json=device).raise_for_status()
        answer = requests.post(f"{url}/people/1/photos", files={"image": ("a", picture)})
        assert "number" in answer.json()["photos"][0]
        yield url


def codes(answer: requests.Response) -> str:
    """What went wrong, in the words of any door; empty if nothing did."""
    body = answer.json()
    if answer.status_code == 200:
        if isinstance(body, list) or "imageValidate" in body:
            return ""
        photos = body.get("photos")
        failed = [*body.get("errors", {}).values()]
        failed += [one.get("error") for one in photos] if isinstance(photos, list) else []
        return "".join(one.get("code", "") + ": " + one.get("message", "") for one in failed if one)
    return answer.text


@pytest.mark.parametrize("door", JSON_DOORS.values(), ids=JSON_DOORS)
def test_spellings_in_json(url: str, picture: bytes, door: tuple[str, Made]) -> None:
    path, members = door
    text = base64.b64encode(picture).decode()
    for sent in (
        text,
        f" \r\n data:image/jpeg;base64,{text}\n",
        f"data:image/jpeg;base64,\n{base64.encodebytes(picture).decode()}",
        base64.urlsafe_b64encode(picture).decode().rstrip("="),
        f"data:image/jpeg;base64,{quote(text, safe='')}",
        f"image/jpeg;base64,{text}",
    ):
        answer = requests.post(f"{url}{path}", json=members(sent))
        assert answer.status_code == 200 and not codes(answer), answer.text
        if path == "/companies/recognition":
            assert answer.json()["status"] == 1
    untyped = requests.post(f"{url}{path}", data=json.dumps(members(text)), headers={"Content-Type": FORM})
    assert untyped.status_code == 200 and not codes(untyped), untyped.text


@pytest.mark.parametrize("door", JSON_DOORS.values(), ids=JSON_DOORS)
def test_an_address_is_refused_and_not_asked(url: str, door: tuple[str, Made]) -> None:
    path, members = door
    answer = requests.post(f"{url}{path}", json=members(ADDRESS))
    if path == "/companies/recognition":
        assert answer.json()["status"] == 5009
        return
    assert "fetches nothing by itself" in codes(answer), answer.text
    if "/face/" in path or path == "/face":
        assert answer.json()["error_type"] == 306 and "image_url" in answer.text
    else:
        assert "image_by_reference" in answer.text


@pytest.mark.parametrize("door", FORM_DOORS.values(), ids=FORM_DOORS)
def test_pictures_in_forms(url: str, picture: bytes, door: tuple[str, Made]) -> None:
    path, members = door
    body = members("PICTURE")
    fields = body[0] if isinstance(body, list) else body
    names = [name for name, value in fields.items() if value in ("PICTURE", ["PICTURE"])]
    others = {name: value for name, value in fields.items() if name not in names}
    names = ["image" if name == "images" else name for name in names]
    text = base64.b64encode(picture).decode()
    uri = f"\ndata:image/jpeg;base64,{text}"
    parts: tuple[Any, ...] = (
        ("photo.jpg", picture),
        ("photo.txt", uri.encode()),
        (None, picture),
        (None, picture, "application/octet-stream"),
        (None, uri),
    )
    for part in parts:
        form = [*((name, (None, value)) for name, value in others.items()), *((name, part) for name in names)]
        answer = requests.post(f"{url}{path}", files=form)
        assert answer.status_code == 200 and not codes(answer), answer.text
    if path == "/update-samples":
        return
    for escaped in (quote(uri, safe=""), " " + text.replace("=", "%3D"), base64.urlsafe_b64encode(picture).decode()):
        body = "&".join([*(f"{name}={value}" for name, value in others.items()), *(f"{n}={escaped}" for n in names)])
        answer = requests.post(f"{url}{path}", data=body, headers={"Content-Type": FORM})
        assert answer.status_code == 200 and not codes(answer), answer.text


@pytest.mark.parametrize("name", ALONE)
def test_a_picture_and_nothing_else(url: str, picture: bytes, name: str) -> None:
    path = JSON_DOORS[name][0]
    text = base64.b64encode(picture)
    kinds = ("image/jpeg", "image/x-anything", "application/octet-stream", "application/json", "text/plain", None)
    bodies = (picture, text, b" \ndata:image/jpeg;base64," + text, base64.urlsafe_b64encode(picture))
    for kind, body in [*((kind, picture) for kind in kinds), *((FORM, body) for body in bodies)]:
        headers = {"Content-Type": kind} if kind else {}
        answer = requests.post(f"{url}{path}", data=body, headers=headers)
        assert answer.status_code == 200 and not codes(answer), (kind, body[:30], answer.text)
    for body, word in ((ADDRESS.encode(), "by itself"), (b"%PDF-1.7\n\0\0\0", "not a JPEG")):
        assert word in codes(requests.post(f"{url}{path}", data=body, headers={"Content-Type": FORM}))


@pytest.mark.parametrize("name", sorted(JSON_DOORS.keys() - set(ALONE) - {"training"}))
def test_where_a_picture_alone_does_not_do_the_error_says_so(url: str, picture: bytes, name: str) -> None:
    for kind in (FORM, "application/octet-stream", "application/json"):
        for body in (picture, base64.b64encode(picture)):
            answer = requests.post(f"{url}{JSON_DOORS[name][0]}", data=body, headers={"Content-Type": kind})
            assert answer.status_code == 400, answer.text
            assert "A picture must be a member of JSON or of a form here." in answer.text


def test_whose_picture_it_is_may_stand_in_the_address(url: str, picture: bytes) -> None:
    added = requests.post(f"{url}/people/7/photos?name=Ann", data=picture, headers={"Content-Type": FORM})
    assert added.json()["photos"][0]["faces"] == 1
    assert requests.get(f"{url}/people/7").json()["name"] == "Ann"
    trained = requests.post(f"{url}/api/train?id=8&name=Bob", data=picture)
    assert (trained.json()["id"], trained.json()["name"], trained.json()["trained"]) == ("8", "Bob", 1)
    assert "id is needed" in requests.post(f"{url}/api/train", data=picture).json()["error"]
    created = requests.post(f"{url}/face?unique_args=%7B%22name%22%3A%22Cy%22%7D", data=picture)
    assert created.json()["unique_args"] == {"name": "Cy"}
    seen = requests.post(f"{url}/face-recognition?include_unknown=1&min_distance=0", data=picture)
    assert [one["id"] for one in seen.json()] == [""]


def test_a_large_picture_may_be_a_text_field(url: str, picture: bytes) -> None:
    """More than the mebibyte that other fields of a form are happy with."""
    text = base64.b64encode(picture + bytes(2 << 20)).decode()
    for path, field in (("/face-recognition", "image"), ("/people/1/photos", "image"), ("/api/train?name=1", "file")):
        answer = requests.post(f"{url}{path}", files={field: (None, text)})
        assert answer.status_code == 200 and not codes(answer), answer.text


def test_photos_of_a_stream(url: str, picture: bytes) -> None:
    text = base64.b64encode(picture)
    sent = [picture, b"data:image/jpeg;base64," + text, base64.urlsafe_b64encode(picture), ADDRESS.encode()]
    parts = b"".join(b"--x\r\nContent-Disposition: form-data\r\n\r\n" + one + b"\r\n" for one in sent) + b"--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    lines = requests.post(f"{url}/train/stream?userName=a", data=parts, headers=kind).text.splitlines()
    assert [json.loads(line).get("errorCode") for line in lines] == [None, None, None, "image_by_reference", None]
