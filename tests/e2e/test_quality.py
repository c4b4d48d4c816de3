"""How well people are recognised, through both services, on the photo set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def enrol(url: str, photos: dict[str, Path | bytes]) -> None:
    files: list[tuple[str, Any]] = []
    for id, photo in photos.items():
        content = photo if isinstance(photo, bytes) else photo.read_bytes()
        files += [("id", (None, id)), ("name", (None, f"Name of {id}")), ("image", ("photo.jpg", content))]
    answer = requests.post(f"{url}/update-samples", files=files, timeout=120).json()
    assert answer["success"] == list(photos)


def recognise(url: str, photo: Path | bytes, **query: Any) -> list[dict[str, Any]]:
    content = photo if isinstance(photo, bytes) else photo.read_bytes()
    headers = {"Content-Type": "image/jpeg"}
    response = requests.post(f"{url}/face-recognition", params=query, data=content, headers=headers, timeout=60)
    response.raise_for_status()
    faces: list[dict[str, Any]] = response.json()
    return faces


def central(faces: list[dict[str, Any]]) -> dict[str, Any]:
    """LFW's photos are 250 x 250, and the face in the middle is the one that is meant."""

    def off_centre(face: dict[str, Any]) -> float:
        x, y, width, height = (int(part) for part in face["bbox"].split(", "))
        return abs(x + width / 2 - 125) + abs(y + height / 2 - 125)

    return min(faces, key=off_centre)


@pytest.fixture
def known(url: str, faces: Path) -> dict[str, list[Path]]:
    """Photos of 20 people; the first photo of each is enrolled."""
    people = {folder.name: sorted(folder.iterdir()) for folder in sorted((faces / "lfw_known").iterdir())}
    enrol(url, {name: photos[0] for name, photos in people.items()})
    return people


def test_twenty_people_and_forty_strangers(url: str, known: dict[str, list[Path]], faces: Path) -> None:
    probes = [(name, photo) for name, photos in known.items() for photo in photos[1:]]
    strangers = sorted((faces / "lfw_unknown").rglob("*.jpg"))
    assert (len(known), len(probes), len(strangers)) == (20, 140, 40)

    # With a threshold that lets everything match, the nearest sample is named.
    rank_one = sum(central(recognise(url, photo, min_distance=20))["id"] == name for name, photo in probes)
    assert rank_one >= 0.99 * len(probes)

    named_right = named_wrong = 0
    for name, photo in probes:
        found = central(recognise(url, photo, include_unknown=1))["id"]
        named_right += found == name
        named_wrong += found not in (name, "")
    assert named_right >= 0.93 * len(probes)
    assert named_wrong == 0
    assert sum(central(recognise(url, photo, include_unknown=1))["id"] != "" for photo in strangers) <= 1


def test_every_exif_orientation_gives_the_same_face(url: str, faces: Path) -> None:
    enrol(url, {"obama": faces / "stills" / "obama2.jpg"})
    boxes = []
    for photo in sorted((faces / "exif").iterdir()):
        (face,) = recognise(url, photo)
        assert face["id"] == "obama"
        boxes.append([int(part) for part in face["bbox"].split(", ")])
    assert len(boxes) == 8
    assert np.ptp(boxes, axis=0).max() <= 2


def test_two_known_people_and_a_stranger(url: str, faces: Path) -> None:
    stills = faces / "stills"
    enrol(
        url,
        {"obama": stills / "obama.jpg", "biden": stills / "biden2.jpg", "miranda": stills / "lin-manuel-miranda.png"},
    )
    pictures = [cv2.imread(str(stills / name)) for name in ("obama2.jpg", "alex-lacamoire.png", "biden.jpg")]
    row = np.hstack([cv2.resize(one, (round(one.shape[1] * 500 / one.shape[0]), 500)) for one in pictures])
    found = recognise(url, cv2.imencode(".jpg", row)[1].tobytes())
    assert sorted(face["id"] for face in found) == ["biden", "obama"]
    found = recognise(url, stills / "obama_and_biden.jpg")
    assert sorted(face["id"] for face in found) == ["biden", "obama"]
