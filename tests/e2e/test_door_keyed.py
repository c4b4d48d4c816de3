"""The example client of the keyed galleries, over real sockets, with API keys."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.services import ROOT, Services

pytestmark = pytest.mark.e2e


def client(url: str, key: str | None, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "docs" / "examples" / "keyed.py"), "--url", url]
    command += [] if key is None else ["--key", key]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return re.sub(r"\d+ %", "N %", result.stdout)


@pytest.fixture
def keys(environment: dict[str, str], tmp_path: Path) -> list[str]:
    """Keys of two companies, in the database that ``tmp_path`` has."""

    def administer(*arguments: str) -> str:
        command = [sys.executable, "-m", "face_detection", *arguments]
        settings = environment | {"DATABASE": str(tmp_path / "gallery.db")}
        return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True).stdout

    made = []
    for company in ("1", "2"):
        administer("companies", "add", company, f"Company {company}")
        rights = ("--right", "enrol", "--right", "recognise")
        made.append(administer("keys", "create", "cameras", "--company", company, *rights).strip())
    return made


def test_the_example_client(
    start_services: Callable[..., Services], keys: list[str], photos: Path, tmp_path: Path
) -> None:
    url = start_services(DATABASE=str(tmp_path / "gallery.db")).front.url
    first, second = keys
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    obama, other, biden = photos / "obama.jpg", photos / "obama2.jpg", photos / "biden.jpg"

    assert client(url, first, "train", "ann", obama, text).splitlines() == [
        "SUCCESS: Photos learned: 1 of 2.",
        "  text.jpg: The image is not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF.",
    ]
    assert client(url, second, "stream", "ann", text, biden, biden).splitlines() == [
        "  text.jpg: The image is not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF.",
        "SUCCESS: Photos learned: 2 of 3.",
    ]
    assert client(url, first, "recognize", other) == "SUCCESS: ann (N %)\n"
    assert client(url, first, "recognize", other, "--user", "ann") == "SUCCESS: ann (N %)\n"
    assert client(url, first, "recognize", other, "--user", "bob") == "FAILURE: There is nobody with this id.\n"
    for photo in (biden, photos / "t1.jpg"):
        assert client(url, first, "recognize", photo).startswith("FAILURE: The picture shows nobody who is known.")
    assert client(url, second, "recognize", biden, "--user", "ann") == "SUCCESS: ann (N %)\n"
    assert client(url, second, "recognize", other, "--user", "ann").startswith("FAILURE: The picture does not show")

    assert client(url, None, "recognize", other) == "FAILURE: This needs an API key.\n"
    assert client(url, "wrong", "train", "ann", obama) == "FAILURE: The API key is not valid.\n"
    assert client(url, "wrong", "stream", "ann", obama) == "FAILURE: The API key is not valid.\n"


def test_a_long_stream_leaves_others_their_turn(
    start_services: Callable[..., Services], keys: list[str], full_photos: Path, tmp_path: Path
) -> None:
    services = start_services(DATABASE=str(tmp_path / "gallery.db"))
    url, key = services.front.url, keys[0]
    assert client(url, key, "train", "ann", full_photos / "obama.jpg").startswith("SUCCESS")
    command = [sys.executable, str(ROOT / "docs" / "examples" / "keyed.py"), "--url", url, "--key", key]
    many = [*command, "stream", "bob", *[str(full_photos / "biden.jpg")] * 60]
    with subprocess.Popen(many, stdout=subprocess.PIPE, text=True) as streaming:
        answered = 0
        while streaming.poll() is None:
            assert client(url, key, "recognize", full_photos / "obama2.jpg", "--user", "ann") == "SUCCESS: ann (N %)\n"
            answered += 1
        assert streaming.stdout is not None
        assert streaming.stdout.read() == "SUCCESS: Photos learned: 60 of 60.\n"
    assert answered > 3
