"""How the data set words its failures: a number for each error, and a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from face_detection.api.operation import FailureForm
from shared import errors

ERROR_TYPES: Mapping[type[errors.ServiceError], int] = {
    errors.ServiceError: 100,
    errors.StorageError: 101,
    errors.DeadlinePassed: 102,
    errors.NotReady: 103,
    errors.StorageUnavailable: 104,
    errors.SearchUnavailable: 105,
    errors.StorageRefused: 106,
    errors.ExtractionError: 110,
    errors.ExtractionFailed: 111,
    errors.ExtractionUnavailable: 112,
    errors.Overloaded: 120,
    errors.RateLimited: 121,
    errors.InvalidRequest: 200,
    errors.BodyTooLarge: 201,
    errors.RequestTooSlow: 202,
    errors.NotFound: 210,
    errors.CursorExpired: 211,
    errors.Conflict: 220,
    errors.SpaceMismatch: 221,
    errors.KeyReused: 222,
    errors.AnswerDeleted: 223,
    errors.NoPhotoOfModel: 224,
    errors.Unauthorized: 230,
    errors.Forbidden: 231,
    errors.QuotaExceeded: 232,
    errors.HostNotAllowed: 233,
    errors.ImageError: 300,
    errors.ImageTooLarge: 301,
    errors.TooManyPixels: 302,
    errors.UnsupportedImage: 303,
    errors.UndecodableImage: 304,
    errors.FetchFailed: 305,
    errors.ImageByReference: 306,
    errors.FaceNotFound: 310,
    errors.AmbiguousFace: 311,
}
"""``error_type`` of each error; one without an entry has its nearest base's. A number never changes its meaning."""


def error_type(error: errors.ServiceError) -> int:
    """The number of an error."""
    return next(ERROR_TYPES[kind] for kind in type(error).__mro__ if kind in ERROR_TYPES)


class FailureAnswer(BaseModel):
    """The body of an error at the data set's addresses."""

    error_type: int = Field(description="Stable number of the error.")
    error_message: str


def _word(error: errors.ServiceError, status: int, request_id: str) -> tuple[int, dict[str, Any]]:
    hint = " Its address may stand in image_url." if isinstance(error, errors.ImageByReference) else ""
    return status, {"error_type": error_type(error), "error_message": error.message + hint}


DATASET = FailureForm(_word, FailureAnswer)
