"""An installation of the service to be tried: real processes on free ports of 127.0.0.1, with data of their own."""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from pathlib import Path

import cv2
import requests

from deploy import sample_photos
from deploy.services import ROOT, Services
from shared.images import Pixels


def environment(**settings: str) -> dict[str, str]:
    """Settings of both services: those of the proof and none that this process may have, but for its weights."""
    home = os.environ.get("DEEPFACE_HOME", str(ROOT / ".cache" / "deepface"))
    usual = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DEEPFACE_HOME": home}
    return usual | {"LOG_LEVEL": "WARNING"} | settings


def install(folder: Path, **settings: str) -> Services:
    """Services with database and logs in a folder, not started yet; keyword arguments are settings."""
    folder.mkdir(parents=True, exist_ok=True)
    return Services.on_free_ports(environment(**settings), folder)


def tracebacks(folder: Path) -> list[str]:
    """The tracebacks in the logs of a folder: of each the last line.

    Those of requests that failed in a foreseen way, as for want of room on the disk, are warnings and left out.
    """
    found = []
    for log in sorted(folder.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if "Traceback (most recent call last)" not in line and "Fatal Python error" not in line:
                continue
            try:
                entry = json.loads(line)
                if entry["level"] == "WARNING":
                    continue
                text = str(entry["exception"])
            except (ValueError, KeyError):  # not in the form of the services' own lines
                text = line
            found.append(f"{log.name}: {text.strip().splitlines()[-1][:200]}")
    return found


@cache
def portraits() -> dict[str, list[bytes]]:
    """Small JPEGs of real people, by who it is; the first photo of each is for enrolment, the last for recognition."""
    folder = sample_photos.ensure(ROOT / ".cache" / "photos")
    of = {"obama": ["obama.jpg", "obama3.jpg", "obama2.jpg"], "biden": ["biden.jpg"]}
    found = {who: [_jpeg(_read(folder / name), 250) for name in names] for who, names in of.items()}
    # The six of the group, whose faces stand side by side.
    group = _read(folder / "t1.jpg")
    detector = cv2.FaceDetectorYN.create(str(_detector_file()), "", (group.shape[1], group.shape[0]))
    _, faces = detector.detect(group)
    for number, (x, y, width, height) in enumerate(sorted(face[:4].tolist() for face in faces)):
        left, top = max(0, int(x - 0.4 * width)), max(0, int(y - 0.4 * height))
        crop = group[top : int(y + 1.4 * height), left : int(x + 1.4 * width)]
        found[f"friend{number}"] = [_jpeg(crop, 200)]
    return found


def data_uri(photo: bytes) -> str:
    """A JPEG as JSON takes it."""
    return f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"


def documented(url: str) -> dict[tuple[str, str], set[int]]:
    """Statuses that /openapi.json knows, by method and pattern of the path."""
    paths = requests.get(f"{url}/openapi.json", timeout=30).json()["paths"]
    return {
        (method.upper(), path): {int(status) for status in operation["responses"]}
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def _detector_file() -> Path:
    from feature_extraction.weights.store import ensure_detector
    from shared.models import weights_folder

    folder = weights_folder(Path(environment()["DEEPFACE_HOME"]))
    folder.mkdir(parents=True, exist_ok=True)
    return ensure_detector(folder)


def _read(file: Path) -> Pixels:
    picture = cv2.imread(str(file))
    if picture is None:
        raise ValueError(f"{file} is no picture.")
    return picture.astype("uint8")


def _jpeg(picture: Pixels, side: int) -> bytes:
    scale = side / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype("uint8")
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
