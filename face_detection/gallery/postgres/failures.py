"""The only place where psycopg's exceptions are translated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from shared.errors import InvalidRequest, ServiceError, StorageError, StorageRefused, StorageUnavailable

UNREACHABLE = "The database cannot be reached."
BUSY = "The database is busy."
FAILED = "The database failed."
REFUSED = "The database refuses a value."

_REACHING = (UNREACHABLE, "See that its server runs, and that address, user, password and name in its URL are right.")
_WAITING = (BUSY, "If it stays so, look in pg_stat_activity for a transaction that does not end.")

_PASSING = {
    "08": _REACHING,  # connection_exception
    "25P03": _WAITING,  # idle_in_transaction_session_timeout
    "40": _WAITING,  # transaction_rollback: a deadlock, or a transaction that could not be serialized
    "53300": (  # too_many_connections
        "The database has no free connection.",
        "Raise max_connections of its server, or run fewer fronts; docs/databases.md says how many each wants.",
    ),
    "55P03": _WAITING,  # lock_not_available: the wait for another transaction was too long
    "57014": _WAITING,  # query_canceled: the statement took too long
    "57P": _REACHING,  # it is starting, shutting down, or was shut down
}
"""Messages and advice by the beginning of SQLSTATE, of what may be over when the request is repeated."""

_LASTING = {
    "25006": (  # read_only_sql_transaction
        "The database is read-only.",
        "A standby is: name the primary server in its URL, or promote this one. Otherwise look at "
        "default_transaction_read_only.",
    ),
    "28": ("The database refuses the user or the password.", "Correct them in its URL, or the server's pg_hba.conf."),
    "3D": ("The database does not exist.", "Create it (createdb), or correct the name in its URL."),
    "42501": (  # insufficient_privilege
        "The database user lacks a right.",
        "Let it own the database: ALTER DATABASE name OWNER TO user, and the same of the tables that are there.",
    ),
    "53100": (  # disk_full
        "The disk that holds the database is full.",
        "Make room on the disk of the database server. What is stored is not harmed; the service goes on by itself.",
    ),
    "53": ("The database has no room: no disk space or no memory.", "See the log of the database server."),
    "58": (
        "The disk that holds the database failed.",
        "See the log of the database server, and that of its system for errors of the disk.",
    ),
    "XX": (
        "The database is damaged.",
        "See the log of the database server. A damaged index is made again by REINDEX; otherwise restore a backup "
        "(docs/databases.md).",
    ),
}
"""The same of what stays until somebody repairs it."""


_OF_VALUES = ("23", "44", "P0001")
"""The same of what a constraint or a trigger does not allow."""


def translation(error: psycopg.Error) -> ServiceError:
    """What a failure of the database means to its users."""
    if isinstance(error, psycopg.DataError):  # all of the SQL is fixed, so that it is a value that does not fit
        return InvalidRequest("A text has a NUL character, or a number is too large.")
    if (error.sqlstate or "").startswith(_OF_VALUES) or "cannot adapt" in str(error):
        return StorageRefused(REFUSED)
    if error.sqlstate is None:  # the connection was lost, or none could be made
        return StorageUnavailable(*_REACHING) if isinstance(error, psycopg.OperationalError) else StorageError(FAILED)
    passing = _meaning(_PASSING, error.sqlstate)
    return StorageUnavailable(*passing) if passing else StorageError(*_meaning(_LASTING, error.sqlstate) or (FAILED,))


def _meaning(meanings: Mapping[str, tuple[str, str]], sqlstate: str) -> tuple[str, str] | None:
    return next((meaning for beginning, meaning in meanings.items() if sqlstate.startswith(beginning)), None)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what ``Store`` announces instead of the driver's exceptions."""
    try:
        yield
    except psycopg.Error as error:
        raise translation(error) from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The text is not valid Unicode.") from error
