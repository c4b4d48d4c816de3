"""The example client that trains and recognises, over real sockets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from deploy.services import ROOT

pytestmark = pytest.mark.e2e


def client(url: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "docs" / "examples" / "training.py"), "--url", url, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout or result.stderr


def test_the_example_client(url: str, photos: Path, tmp_path: Path) -> None:
    for person, names in {"Barack Obama": ["obama.jpg", "obama3.jpg"], "Joe Biden": ["biden.jpg"]}.items():
        (tmp_path / "people" / person).mkdir(parents=True)
        for name in names:
            shutil.copy(photos / name, tmp_path / "people" / person)
    (tmp_path / "people" / "Joe Biden" / "text.jpg").write_text("no picture")
    assert client(url, "train", tmp_path / "people").splitlines() == [
        "Barack Obama: 2 of 2 photos",
        "Joe Biden: 1 of 2 photos",
        "  text.jpg: The image is not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF.",
    ]
    photo, drawn, masked = photos / "obama2.jpg", tmp_path / "drawn.jpg", tmp_path / "masked.jpg"
    assert client(url, "recognize", photo).startswith('Barack Obama at {"top": ')
    assert client(url, "recognize", photos / "t1.jpg").count("unknown at") == 6

    assert client(url, "recognize", photo, "--draw", "--output", drawn) == ""
    assert cv2.imread(str(drawn)).shape == cv2.imread(str(photo)).shape
    assert client(url, "recognize", drawn).startswith("Barack Obama")
    assert client(url, "recognize", photo, "--mask", "all", "--output", masked) == ""
    assert client(url, "recognize", masked) == ""

    assert client(url, "clear", "Joe Biden") == "1 photos deleted\n"
    assert client(url, "recognize", photos / "biden.jpg").startswith("unknown")
    assert client(url, "clear", "Joe Biden") == "404: There is nobody with this id.\n"
    assert client(url, "clear") == "2 photos deleted\n"
