from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.errors import StartupError
from shared.service_process import ServiceProcess, fetch_weights


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:6337", "http://127.0.0.1:6337"),
        ("localhost:80", "http://localhost:80"),
        ("0.0.0.0:6337", "http://127.0.0.1:6337"),
        ("[::]:6337", "http://127.0.0.1:6337"),
        ("[::1]:6337", "http://[::1]:6337"),
    ],
)
def test_the_address_at_which_a_service_is_reached(bind: str, url: str) -> None:
    assert ServiceProcess("face_detection", bind, {}).url == url


def test_weights_that_cannot_be_had(detector_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "DEEPFACE_HOME": str(detector_home)}
    with pytest.raises(StartupError, match="see above"):
        fetch_weights(environment, "nonsense")
    assert "no such model: nonsense" in capfd.readouterr().err
    fetch_weights(environment, "yunet")
