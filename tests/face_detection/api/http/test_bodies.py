"""Bodies that are not what the head of their request says, at every door."""

from __future__ import annotations

import re

import pytest
from aiohttp.test_utils import TestClient

from face_detection.api.operation import Operation
from face_detection.app import OPERATIONS

TAKING = [operation for operation in OPERATIONS if operation.body is not None or operation.stream_types]

VALUES = {"id": "a", "name": "a", "number": "1", "company": "default", "code": "1", "face_id": "1"}


def kinds(operation: Operation) -> list[str]:
    """Content types of the bodies that an operation takes."""
    forms = ["multipart/form-data; boundary=x"] * operation.form + ["image/jpeg"] * operation.picture_body
    forms += ["application/x-www-form-urlencoded"] * operation.urlencoded
    streams = [f"{kind}; boundary=x" if "multipart" in kind else kind for kind in operation.stream_types]
    return ["application/json"] * (operation.body is not None) + forms + streams


@pytest.mark.parametrize("operation", TAKING, ids=lambda operation: f"{operation.method} {operation.path}")
async def test_what_cannot_be_unpacked_is_refused(front: TestClient, operation: Operation) -> None:
    path = re.sub(r"{(\w+)}", lambda name: VALUES[name[1]], operation.path)
    for kind in kinds(operation):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        response = await front.request(operation.method, path, data=b"not packed", headers=headers)
        assert (response.status, response.headers["Connection"]) == (400, "close"), await response.text()
        assert "Content-Encoding" in await response.text()
