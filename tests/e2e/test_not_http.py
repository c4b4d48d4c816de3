"""What is no HTTP, before both services as gunicorn runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.services import Services
from tests.not_http import MALFORMED, answer_to

pytestmark = pytest.mark.e2e


def test_both_services_answer_400_without_a_traceback(start_services: Callable[..., Services], tmp_path: Path) -> None:
    services = start_services(COMPUTE_THREADS="1")
    for service, path in ((services.front, "/face-detection"), (services.extraction, "/embeddings")):
        answers = {what: answer_to(service.url, path, pieces) for what, pieces in MALFORMED.items()}
        assert answers == dict.fromkeys(MALFORMED, (400, "invalid_request"))
        assert requests.get(f"{service.url}/livez", timeout=10).status_code == 200
    for log in ("front.log", "extraction.log"):
        text = (tmp_path / log).read_text()
        assert "not HTTP" in text and "Traceback" not in text and "secret" not in text
