"""Detection and verification over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from PIL import Image

from tests.conftest import Front
from tests.pictures import RED_IS_BLUE, encoded

DataUri = Callable[[Path | bytes], str]

PICTURE = {"Content-Type": "image/png"}


async def test_detection(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    faces = await (await front.post("/face-detection", json={"image": data_uri(photos / "t1.jpg")})).json()
    assert len(faces) == 6
    for face in faces:
        x, y, width, height = (int(part) for part in face["bbox"].split(", "))
        assert 0.7 < face["score"] <= 1
        assert set(face["landmarks"]) == {"right_eye", "left_eye", "nose", "right_mouth", "left_mouth"}
        for px, py in face["landmarks"].values():
            assert x - width / 4 < px < x + width * 1.25 and y < py < y + height
        # The person's right eye is on the left of the picture.
        assert face["landmarks"]["right_eye"][0] < face["landmarks"]["left_eye"][0]


async def test_detection_needs_no_extraction_service(start_front: Front, photos: Path, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    body = (photos / "obama.jpg").read_bytes()
    response = await front.post("/face-detection", data=body, headers={"Content-Type": "image/jpeg"})
    assert len(await response.json()) == 1


async def test_verification(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    images = {name: data_uri(photos / f"{name}.jpg") for name in ("obama", "obama2", "biden")}
    body = {"image1": images["obama"], "image2": images["obama2"]}
    same = await (await front.post("/face-verification", json=body)).json()
    assert same["same"] and same["distance"] < same["threshold"] == 9
    other = await (await front.post("/face-verification", json=body | {"image2": images["biden"]})).json()
    assert not other["same"] and other["distance"] > 9
    strict = await (await front.post("/face-verification", json=body | {"min_distance": same["distance"] - 0.1})).json()
    assert not strict["same"] and strict["distance"] == same["distance"]
    itself = await (await front.post("/face-verification", json=body | {"image2": images["obama"]})).json()
    assert itself["distance"] == 0 and itself["bbox1"] == itself["bbox2"]


async def test_verification_as_a_form(front: TestClient, photos: Path) -> None:
    form = FormData()
    for field, name in (("image1", "obama.jpg"), ("image2", "obama2.jpg")):
        form.add_field(field, (photos / name).read_bytes(), filename=name)
    assert (await (await front.post("/face-verification", data=form)).json())["same"]


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "TIFF", "GIF", "WEBP"])
async def test_photos_of_every_format(front: TestClient, photos: Path, data_uri: DataUri, kind: str) -> None:
    with Image.open(photos / "obama.jpg") as photo:
        other = encoded(photo, kind)
    for declared in (f"image/{kind.lower()}", "image/jpeg"):
        response = await front.post("/face-detection", data=other, headers={"Content-Type": declared})
        assert len(await response.json()) == 1
    body = {"image1": data_uri(photos / "obama.jpg"), "image2": data_uri(other)}
    assert (await (await front.post("/face-verification", json=body)).json())["distance"] < 4


async def test_a_photo_in_wide_colours_is_the_same_face(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    """Only its profile tells that red is blue."""
    with Image.open(photos / "obama.jpg") as photo:
        blue, green, red = photo.split()
        odd = Image.merge("RGB", (red, green, blue))
    distances = []
    for profile in (RED_IS_BLUE, None):
        other = encoded(odd, "JPEG", quality=95, icc_profile=profile)
        body = {"image1": data_uri(photos / "obama.jpg"), "image2": data_uri(other)}
        distances.append((await (await front.post("/face-verification", json=body)).json())["distance"])
    assert distances[0] < 2 < 4 < distances[1]


async def test_who_is_erased_by_transparency_is_not_seen(front: TestClient, photos: Path) -> None:
    with Image.open(photos / "t1.jpg") as photo:
        image = photo.convert("RGBA")
    alpha = image.getchannel("A")
    alpha.paste(0, (0, 0, image.width // 2, image.height))
    image.putalpha(alpha)
    faces = await (await front.post("/face-detection", data=encoded(image, "PNG"), headers=PICTURE)).json()
    assert 0 < len(faces) < 6
    assert all(int(face["bbox"].split(",")[0]) > image.width // 2 - 60 for face in faces)


async def test_who_is_not_to_be_seen_is_not_enrolled(front: TestClient, photos: Path) -> None:
    with Image.open(photos / "obama.jpg") as photo:
        image = photo.convert("RGBA")
    image.putalpha(0)
    for kind, options in (("PNG", {}), ("WEBP", {"exact": True, "lossless": True}), ("TIFF", {})):
        form = FormData()
        form.add_field("image", encoded(image, kind, **options), filename="x")
        answer = await (await front.post("/people/ghost/photos", data=form)).json()
        assert answer["photos"][0]["error"]["code"] == "no_face"


async def test_who_is_drawn_in_transparency_alone_is_seen(front: TestClient, photos: Path) -> None:
    with Image.open(photos / "obama.jpg") as photo:
        gray = photo.convert("L")
    ink = Image.new("RGBA", gray.size)
    ink.putalpha(gray.point(lambda value: 255 - value))
    faces = await (await front.post("/face-detection", data=encoded(ink, "PNG"), headers=PICTURE)).json()
    assert len(faces) == 1


BLANK = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()


async def test_verification_without_a_face(front: TestClient, photos: Path, data_uri: DataUri) -> None:
    body = {"image1": data_uri(photos / "obama.jpg"), "image2": data_uri(BLANK)}
    response = await front.post("/face-verification", json=body)
    assert response.status == 422
    answer = await response.json()
    assert answer["error"]["code"] == "no_face"
    assert answer["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (BLANK, "no_face"),
        (b"no picture", "unsupported_image_type"),
        (b"\xff\xd8\xff" + bytes(100), "undecodable_image"),
    ],
)
async def test_an_error_names_the_picture(
    front: TestClient, photos: Path, data_uri: DataUri, bad: bytes, code: str
) -> None:
    good = photos.joinpath("obama.jpg").read_bytes()
    for pictures, expected in (([good, bad], "image2"), ([bad, good], "image1"), ([bad, BLANK], "image1")):
        body = {"image1": data_uri(pictures[0]), "image2": data_uri(pictures[1])}
        form = FormData()
        for name, picture in zip(body, pictures, strict=True):
            form.add_field(name, picture, filename="x")
        for sent in ({"json": body}, {"data": form}):
            error = (await (await front.post("/face-verification", **sent)).json())["error"]
            assert (error["code"], error["input"]) == (code, expected)
            assert error["message"].startswith(f"{expected}: ")


async def test_an_error_about_the_only_picture_does_not_name_it(front: TestClient, data_uri: DataUri) -> None:
    response = await front.post("/face-detection", json={"image": data_uri(b"no picture")})
    assert set((await response.json())["error"]) == {"code", "message"}


async def test_a_part_that_is_too_large_is_named(start_front: Front, photos: Path) -> None:
    front = await start_front(max_image_bytes=300_000)
    form = FormData()
    form.add_field("image1", photos.joinpath("obama2.jpg").read_bytes(), filename="passport.jpg")
    form.add_field("image2", bytes(300_500), filename="visitor.jpg")
    response = await front.post("/face-verification", data=form)
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["input"]) == (413, "body_too_large", "image2")
    assert "Part 2 of the form, the file 'visitor.jpg', has more than" in error["message"]


@pytest.mark.parametrize("path", ["/face-verification", "/face-detection"])
@pytest.mark.parametrize("body", [{}, {"image": 1}, {"image1": "x"}, [], 7])
async def test_malformed_requests(front: TestClient, path: str, body: object) -> None:
    response = await front.post(path, json=body)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
