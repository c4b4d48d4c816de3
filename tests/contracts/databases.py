"""Every kind of database that a gallery may be in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def _file(request: pytest.FixtureRequest) -> str:
    folder: Path = request.getfixturevalue("tmp_path")
    return str(folder / "gallery.db")


def _postgres(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    return url


DATABASES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite file": _file,
    "sqlite memory": lambda request: ":memory:",
    "postgresql": _postgres,
}
"""What DATABASE is set to, by kind."""
