"""Fixtures that every test may use: weights, photos, and where the real data set is."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"


@pytest.fixture(scope="session")
def deepface_home() -> Path:
    """A DEEPFACE_HOME that outlives the test run, so that weights are fetched once per checkout."""
    return CACHE / "deepface"


@pytest.fixture(scope="session")
def faces() -> Path:
    """The folder with the project's real photos (see its MANIFEST.tsv)."""
    folder = ROOT.parent / "shared" / "faces"
    if not folder.is_dir():
        pytest.skip("needs the photo set in ../shared/faces")
    return folder
