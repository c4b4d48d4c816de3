"""Requests made from /openapi.json, well-formed and not: every answer is as described, and none is a server error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.services import ROOT, Services

pytestmark = pytest.mark.e2e

CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"


@pytest.mark.slow
def test_the_service_is_as_described(
    environment: dict[str, str], start_services: Callable[..., Services], tmp_path: Path
) -> None:
    environment = environment | {"DATABASE": str(tmp_path / "gallery.db")}
    # With a key, since requests that make keys would otherwise lock out all that follow.
    create = [sys.executable, "-m", "face_detection", "keys", "create", "operator", "--right", "admin"]
    made = subprocess.run(create, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    services = start_services(DATABASE=environment["DATABASE"])
    result = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{services.front.url}/openapi.json",
            f"--header=X-API-Key: {made.stdout.strip()}",
            f"--checks={CHECKS}",
            "--phases=coverage,fuzzing",
            "--max-examples=15",
            "--seed=1",
            "--generation-database=none",
            "--continue-on-failure",
            "--warnings=off",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "No issues found" in result.stdout
