"""The example client for companies' totems, over real sockets and with API keys."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.services import ROOT, Services

pytestmark = pytest.mark.e2e


def test_the_example_client(start_services: Callable[..., Services], photos: Path, tmp_path: Path) -> None:
    database = str(tmp_path / "gallery.db")
    url = start_services(DATABASE=database).front.url

    def administer(*arguments: str) -> str:
        command = [sys.executable, "-m", "face_detection", *arguments]
        environment = os.environ | {"DATABASE": database}
        return subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def client(*arguments: str, key: str | None = None, company: str = "1042", device: str = "31") -> str:
        command = [sys.executable, str(ROOT / "docs" / "examples" / "company.py"), "--url", url]
        command += ["--key", key] if key else []
        command += ["--company", company, "--device", device, *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        return (result.stdout or result.stderr).strip()

    for company in ("1042", "7"):
        administer("companies", "add", company, "Acme Ltd.")
        administer("sectors", "add", company, "7", "Ground floor")
        administer("devices", "add", company, "31", "Front door", "--sector", "7")
    administer("devices", "add", "1042", "32", "In its box")

    obama, other, biden = (str(photos / name) for name in ("obama.jpg", "obama2.jpg", "biden.jpg"))
    assert client("identify", obama) == "not found"
    assert client("identify-or-register", obama, "--person", "4711") == "registered: 4711"
    assert client("identify-or-register", other, "--person", "12") == "found: 4711"
    assert client("register", biden, "--person", "12", "--latitude", "1", "--longitude", "2") == "registered: 12"
    assert client("identify", biden) == "found: 12"
    assert client("identify", biden, company="7") == "not found"
    assert client("identify", biden, device="33") == "5012: the device does not exist"
    assert client("identify", biden, device="32") == "5002: the device belongs to no sector"
    assert client("register", biden) == "5001: invalid request code"
    assert client("identify", biden, "--longitude", "181") == "5013: invalid longitude"
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert client("identify", str(text)) == "5009: incompatible image"

    key = administer("keys", "create", "totem", "--company", "1042", "--right", "recognise")
    assert client("identify", other).startswith("401: ")
    assert client("identify", other, key=key) == "found: 4711"
    assert client("register", other, "--person", "4711", key=key).startswith("403: ")
    assert client("identify", other, key=key, company="7") == "5005: the company is not registered"
    assert requests.get(f"{url}/livez", timeout=10).ok
