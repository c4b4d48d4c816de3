"""What is no HTTP, before both services as gunicorn runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.servers.waiting import wait_until
from deploy.services import Services
from tests.not_http import MALFORMED, answer_to, leave_in_the_middle

pytestmark = pytest.mark.e2e


def test_both_services_answer_400_without_a_traceback(start_services: Callable[..., Services], tmp_path: Path) -> None:
    services = start_services(own_extraction=True, COMPUTE_THREADS="1")
    for service, path in ((services.front, "/face-detection"), (services.extraction, "/embeddings")):
        answers = {what: answer_to(service.url, path, pieces) for what, pieces in MALFORMED.items()}
        assert answers == dict.fromkeys(MALFORMED, (400, "invalid_request"))
        assert requests.get(f"{service.url}/livez", timeout=10).status_code == 200
    for log in ("front.log", "extraction.log"):
        text = (tmp_path / log).read_text()
        assert "not HTTP" in text and "Traceback" not in text and "secret" not in text


PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nxxx'
BODIES = (
    ("/face-recognition", "image/jpeg", b"x" * 10),
    ("/update-samples", "application/json", b"[{"),
    ("/face-detection", "image/jpeg", b"a\r\nxxxxxxxxxx\r\n"),
    ("/people/1/photos", "multipart/form-data; boundary=x", PART),
    ("/train", "application/x-www-form-urlencoded", b"userName=a"),
    ("/train/stream?userName=a", "application/x-ndjson", b'{"picture": "'),
)


def test_who_goes_in_the_middle_is_no_fault(start_services: Callable[..., Services], tmp_path: Path) -> None:
    """Neither answered nor heard of as a fault of the services; what it held is free again."""
    services = start_services(own_extraction=True, COMPUTE_THREADS="1")
    for how in ("closed", "reset", "half closed"):
        for path, kind, body in BODIES:
            leave_in_the_middle(services.front.url, path, kind, body, how)
        leave_in_the_middle(services.extraction.url, "/embeddings", "application/octet-stream", b"x", how)
    log = tmp_path / "front.log"
    wait_until(lambda: log.read_text().count('"status": 400') == 3 * len(BODIES), log.read_text)
    assert "front_pending_requests 0.0" in requests.get(f"{services.front.url}/metrics", timeout=10).text
    for name in ("front.log", "extraction.log"):
        text = (tmp_path / name).read_text()
        assert "Traceback" not in text and "ERROR" not in text
