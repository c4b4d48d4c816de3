"""``make demo`` on a machine where nothing has been fetched yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_demonstration(environment: dict[str, str], tmp_path: Path) -> None:
    settings = environment | {"DEEPFACE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"name": "Barack Obama"') == 1
    assert (ROOT / "build" / "demo" / "annotated.jpg").stat().st_size > 10_000
