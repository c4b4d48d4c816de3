"""Errors as HTTP answers: one table of statuses, two forms of body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from face_detection.api import schemas
from face_detection.api.operation import FailureForm, json_response
from shared import errors, wire

STATUS: Mapping[type[errors.ServiceError], int] = {
    errors.ServiceError: 500,
    errors.InvalidRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RequestTooSlow: 408,
    errors.Conflict: 409,
    errors.CursorExpired: 410,
    errors.ImageTooLarge: 413,
    errors.TooManyPixels: 413,
    errors.BodyTooLarge: 413,
    errors.UnsupportedImage: 415,
    errors.ImageError: 422,
    errors.FaceNotFound: 422,
    errors.AmbiguousFace: 422,
    errors.HostNotAllowed: 421,
    errors.Overloaded: 429,
    errors.StorageError: 500,
    errors.StorageUnavailable: 503,
    errors.ExtractionError: 502,
    errors.ExtractionUnavailable: 503,
    errors.NotReady: 503,
    errors.DeadlinePassed: 504,
}
"""Status of each error; an error without an entry has its nearest base's."""


def status_of(error: errors.ServiceError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


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
    status = status or status_of(error)
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
