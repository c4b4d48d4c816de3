"""The only place where psycopg's exceptions are translated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from shared.errors import InvalidRequest, ServiceError, StorageError, StorageUnavailable

UNREACHABLE = "The database cannot be reached."
BUSY = "The database is busy."
FAILED = "The database failed."

_PASSING = {
    "08": UNREACHABLE,  # connection_exception
    "25P03": BUSY,  # idle_in_transaction_session_timeout
    "40": BUSY,  # transaction_rollback: a deadlock, or a transaction that could not be serialized
    "53300": "The database has no free connection.",  # too_many_connections
    "55P03": BUSY,  # lock_not_available: the wait for another transaction was too long
    "57014": BUSY,  # query_canceled: the statement took too long
    "57P": UNREACHABLE,  # it is starting, shutting down, or was shut down
}
"""Messages by the beginning of SQLSTATE, of what may be over when the request is repeated."""

_LASTING = {
    "25006": "The database is read-only.",  # read_only_sql_transaction: a standby, perhaps
    "28": "The database refuses the user or the password.",
    "3D": "The database does not exist.",
    "53": "The database has no room: no disk space or no memory.",
    "58": "The disk that holds the database failed.",
    "XX": "The database is damaged.",
}
"""The same of what stays until somebody repairs it."""


def translation(error: psycopg.Error) -> ServiceError:
    """What a failure of the database means to its users."""
    if isinstance(error, psycopg.DataError):  # all of the SQL is fixed, so that it is a value that does not fit
        return InvalidRequest("A text has a NUL character, or a number is too large.")
    if error.sqlstate is None:  # the connection was lost, or none could be made
        return StorageUnavailable(UNREACHABLE) if isinstance(error, psycopg.OperationalError) else StorageError(FAILED)
    passing = _reason(_PASSING, error.sqlstate)
    return StorageUnavailable(passing) if passing else StorageError(_reason(_LASTING, error.sqlstate) or FAILED)


def _reason(reasons: Mapping[str, str], sqlstate: str) -> str | None:
    return next((reason for beginning, reason in reasons.items() if sqlstate.startswith(beginning)), None)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what ``Store`` announces instead of the driver's exceptions."""
    try:
        yield
    except psycopg.Error as error:
        raise translation(error) from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The text is not valid Unicode.") from error
