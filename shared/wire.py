"""Arrays and errors as both services send them: bodies, and the status of each error.

Between the services an array travels as one NumPy ``.npy`` file (format version 1.0 or 2.0), which states
its own dtype and shape. Pickled objects are never read.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from shared import errors
from shared.errors import InvalidRequest, ServiceError

ARRAY_TYPE = "application/x-npy"
MODEL_HEADER = "X-Model"
REVISION_HEADER = "X-Model-Revision"
SPACE_HEADER = "X-Embedding-Space"
REQUEST_ID_HEADER = "X-Request-ID"

STATUS: Mapping[type[ServiceError], int] = {
    ServiceError: 500,
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
    errors.HostNotAllowed: 421,
    errors.ImageError: 422,
    errors.FaceNotFound: 422,
    errors.AmbiguousFace: 422,
    errors.LowQuality: 422,
    errors.Overloaded: 429,
    errors.StorageError: 500,
    errors.StorageUnavailable: 503,
    errors.ExtractionError: 502,
    errors.ExtractionUnavailable: 503,
    errors.NotReady: 503,
    errors.LivenessUnavailable: 501,
    errors.DeadlinePassed: 504,
}
"""Status of each error; an error without an entry has its nearest base's."""

_MAX_NPY_HEADER = 1024

_parsing = threading.Lock()
"""NumPy reads a header with ``ast``, which fails now and then when two threads use it at once: CPython counts the depth
of recursion for all of them together (python/cpython#106905)."""


def encode_array(array: NDArray[Any]) -> bytes:
    """The array as an ``.npy`` file, C-contiguous."""
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def decode_array(data: bytes, *, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Read an ``.npy`` file as a read-only array over ``data``, without a copy.

    Args:
        data: the whole file.
        dtype: the only dtype that is accepted.
        shape: the expected shape; None accepts any length on that axis.

    Raises:
        InvalidRequest: not an ``.npy`` file, another dtype or shape, or not as many bytes as it announces.
    """
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        with _parsing:
            if version == (1, 0):
                actual, fortran, found = npy.read_array_header_1_0(stream, max_header_size=_MAX_NPY_HEADER)
            elif version == (2, 0):
                actual, fortran, found = npy.read_array_header_2_0(stream, max_header_size=_MAX_NPY_HEADER)
            else:
                raise ValueError("unknown version of the .npy format")
    except Exception as error:  # the header parser raises whatever its tokenizer does: SyntaxError, UnicodeError, …
        raise InvalidRequest("The body is not an .npy array.") from error
    if found != np.dtype(dtype) or found.hasobject:
        raise InvalidRequest(f"The array must be of type {np.dtype(dtype)}, not {found}.")
    if len(actual) != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, actual, strict=True)
    ):
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
        raise InvalidRequest(f"The array must have the shape ({wanted}), not {actual}.")
    if any(length < 0 for length in actual):
        raise InvalidRequest("The array has a negative length.")
    count = 1
    for length in actual:
        count *= length
    if len(data) - stream.tell() != count * found.itemsize:
        raise InvalidRequest("The array's body has not the length that its header announces.")
    flat = np.frombuffer(data, dtype=found, count=count, offset=stream.tell())
    try:
        return flat.reshape(actual, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:  # nothing on one axis, and more on another than NumPy can count
        raise InvalidRequest("The array has an axis that is too long.") from error


def error_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The JSON body of an error: ``{"error": {"code", "message"}, "request_id"}``, with its details beside the code."""
    return {"error": {"code": error.code, "message": error.message, **error.details}, "request_id": request_id}


def status_of(error: ServiceError, table: Mapping[type[ServiceError], int] = STATUS) -> int:
    """The HTTP status of an error."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
