"""The extraction service as a child of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from face_detection.cli.service.local import ExtractionProcess, reason_in
from face_detection.cli.service.remote import extraction_status
from shared.errors import StartupError

pytestmark = pytest.mark.processes


@pytest.fixture
def environment(detector_home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DEEPFACE_HOME": str(detector_home)}


def test_it_starts_when_it_is_needed_and_ends_with_close(environment: dict[str, str]) -> None:
    process = ExtractionProcess(environment)
    assert extraction_status(process.url) is None
    process.ensure_ready()
    assert extraction_status(process.url) == 200
    process.ensure_ready()
    process.close()
    assert extraction_status(process.url) is None


def test_what_was_never_started_is_closed(environment: dict[str, str]) -> None:
    ExtractionProcess(environment).close()


def test_it_says_why_it_does_not_start(environment: dict[str, str]) -> None:
    process = ExtractionProcess(environment | {"EXECUTION_PROVIDERS": "cuda"})
    with pytest.raises(StartupError) as refused:
        process.ensure_ready()
    process.close()
    assert "cuda" in refused.value.message.lower() and "{" not in refused.value.message


def test_reasons() -> None:
    own = '{"level": "CRITICAL", "logger": "feature_extraction.service", "message": "no model"}'
    gunicorn = '{"level": "ERROR", "logger": "gunicorn.error", "message": "Worker failed to boot."}'
    assert reason_in(f"{own}\n{gunicorn}\n") == "no model"
    assert reason_in("Traceback\nModuleNotFoundError: gunicorn\n") == "ModuleNotFoundError: gunicorn"
    assert reason_in("") == "it does not say why." and len(reason_in("x" * 1000)) == 300
