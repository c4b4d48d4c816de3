"""Every door through which somebody can be enrolled, as requests that tests send."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from face_detection.gallery.directory import Device, Sector
from face_detection.gallery.sql.directory import Directory

COMPANY, SECTOR, DEVICE = "default", 7, 31
NDJSON = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True)
class Request:
    """What a client sends: a JSON body, or lines."""

    path: str
    json: Any = None
    data: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def _base64(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def _line(photo: bytes) -> bytes:
    return b'{"picture": "' + base64.b64encode(photo) + b'"}\n'


def _company(photo: bytes) -> dict[str, Any]:
    members = {"appCode": 3, "companyCode": COMPANY, "captureDeviceCode": DEVICE, "keyPerson": 44}
    return members | {"requestNumber": 1, "typeImage": 2, "imageValidate": _base64(photo)}


DOORS: Mapping[str, Callable[[bytes], Request]] = {
    "original": lambda photo: Request("/update-samples", [{"id": "44", "name": "Ann", "image": _base64(photo)}]),
    "people": lambda photo: Request("/people/44/photos", {"images": [_base64(photo)], "name": "Ann"}),
    "company": lambda photo: Request("/companies/recognition", _company(photo)),
    "keyed": lambda photo: Request("/train", {"userName": "44", "stream": [_base64(photo)]}),
    "keyed stream": lambda photo: Request("/train/stream?userName=44", data=_line(photo), headers=NDJSON),
    "data set": lambda photo: Request("/face", {"image": _base64(photo), "unique_args": {"name": "Ann"}}),
    "training": lambda photo: Request("/api/train", {"image": _base64(photo), "id": "44"}),
}
"""Requests that enrol the person of a photo."""


def place_device(directory: Directory) -> None:
    """What the company's door asks for before it takes anybody."""
    directory.put_sector(Sector(COMPANY, SECTOR, "Ground floor"))
    directory.put_device(Device(COMPANY, DEVICE, "Front door", SECTOR))
