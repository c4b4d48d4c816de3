from __future__ import annotations

import pytest

from shared.service_process import ServiceProcess


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
