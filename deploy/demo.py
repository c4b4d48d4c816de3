"""``make demo``: enrol and recognise sample photos with throw-away data, and draw the answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy import sample_photos
from deploy.services import ROOT, Services
from shared.errors import StartupError
from shared.images import Pixels
from shared.service_process import fetch_weights
from shared.settings import ExtractionSettings
from shared.signals import run

OUTPUT = ROOT / "build" / "demo"
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
PEOPLE = {"obama.jpg": "Barack_Obama.jpg", "biden.jpg": "Joe_Biden.jpg"}


def main() -> int:
    """Run the demonstration; returns the exit status."""
    try:
        photos = sample_photos.ensure(ROOT / ".cache" / "photos")
        with tempfile.TemporaryDirectory() as folder:
            environment = {"LOG_LEVEL": "WARNING", **os.environ}
            fetch_weights(environment, ExtractionSettings.from_environment(environment).model)
            with Services.on_free_ports(environment, Path(folder)) as services:
                _show(services.front.url, photos, Path(folder))
    except StartupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


def _show(url: str, photos: Path, folder: Path) -> None:
    people = folder / "people"
    people.mkdir()
    for photo, name in PEOPLE.items():
        shutil.copy(photos / photo, people / name)
    print("Enrolling two people:")
    print(_client(url, "enrol", str(people)))

    OUTPUT.mkdir(parents=True, exist_ok=True)
    picture = OUTPUT / "picture.jpg"
    pixels = _side_by_side(photos / "obama2.jpg", photos / "t1.jpg")
    cv2.imwrite(str(picture), pixels)
    print("Recognising a picture of one of them with six strangers:")
    answer = _client(url, "recognise", str(picture), "--unknown")
    print(answer)
    annotated = OUTPUT / "annotated.jpg"
    cv2.imwrite(str(annotated), draw(pixels, json.loads(answer)))
    print(f"The annotated picture: {annotated.relative_to(ROOT)}")


def _client(url: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "test_request.py"), "--url", url, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _side_by_side(left: Path, right: Path) -> Pixels:
    pictures = [cv2.imread(str(path)) for path in (left, right)]
    height = 700
    scaled = [cv2.resize(one, (round(one.shape[1] * height / one.shape[0]), height)) for one in pictures]
    return np.asarray(np.hstack(scaled), np.uint8)


def draw(pixels: Pixels, faces: list[dict[str, Any]]) -> Pixels:
    """A copy of a picture with the boxes and names of an answer of ``/face-recognition``."""
    drawn = pixels.copy()
    for face in faces:
        x, y, width, height = (int(part) for part in face["bbox"].split(", "))
        colour = (40, 140, 40) if face["id"] else (90, 90, 90)
        label = f"{face['name'] or 'unknown'} {face['distance']:.1f}"
        (wide, high), _ = cv2.getTextSize(label, _FONT, _SCALE, 1)
        left, top = min(x, drawn.shape[1] - wide - 8), max(y, high + 10)
        cv2.rectangle(drawn, (x, y), (x + width, y + height), colour, 2)
        cv2.rectangle(drawn, (left, top - high - 10), (left + wide + 8, top), colour, cv2.FILLED)
        cv2.putText(drawn, label, (left + 4, top - 6), _FONT, _SCALE, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


if __name__ == "__main__":
    run(main)
