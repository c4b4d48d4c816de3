"""Errors as HTTP answers: two forms of body."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from face_detection.api import schemas
from face_detection.api.operation import FailureForm, json_response
from shared import errors, wire


def failure_response(
    error: errors.ServiceError, request_id: str, form: FailureForm | None, status: int | None = None
) -> web.Response:
    """The answer for an error.

    Args:
        error: what went wrong.
        request_id: of the request.
        form: how the operation words its failures; None for the service's own body.
        status: overrides the table's, for errors of HTTP itself.
    """
    status = status or wire.status_of(error)
    body: object = wire.error_body(error, request_id)
    if form is not None:
        status, body = form.word(error, status, request_id)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = json_response(body, status, headers)
    if isinstance(error, errors.RequestTooSlow):
        response.force_close()  # the rest of the body may never come
    return response


def _word_originally(error: errors.ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    return status, {
        "error": "Invalid request." if status == 400 else error.message,
        "code": error.code,
        "detail": error.message,
        "request_id": request_id,
        **error.details,
    }


ORIGINAL = FailureForm(_word_originally, schemas.PlainErrorAnswer)
"""The original service's body, whose ``error`` is a string."""
