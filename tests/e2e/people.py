"""People for the tests that look at a service from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests


def enrol(url: str, id: str, name: str, *photos: Path, metadata: Any = None) -> None:
    """Give somebody photos and metadata; ``id`` as it stands in an address."""
    files = [("image", (photo.name, photo.read_bytes())) for photo in photos]
    answer = requests.post(f"{url}/people/{id}/photos", data={"name": name}, files=files, timeout=60).json()
    assert all("number" in photo for photo in answer["photos"]), answer
    if metadata is not None:
        requests.patch(f"{url}/people/{id}", json={"metadata": metadata}, timeout=10).raise_for_status()
