"""The connection to Milvus, and the only place where the exceptions of pymilvus and gRPC are translated.

pymilvus connects again by itself: a call that finds the channel broken opens another one or fails at once. It is
imported when a connection is opened, which is after gunicorn has forked: gRPC does not survive a fork.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from shared.errors import SearchUnavailable, SettingsError, StartupError

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
WRITE_TIMEOUT = 60.0
"""Seconds after which a call has failed; creating and loading a collection counts as writing."""

_CHANNEL = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}
"""gRPC's options: a new channel tries to connect at once, and does not wait until others to the same address would."""

INSTALL = "SEARCH=milvus needs the client of Milvus: pip install -r requirements-milvus.txt"

UNREACHABLE = "The search index cannot be reached."
BUSY = "The search index is overloaded, or has no room."
FAILED = "The search index failed."

# Milvus's error codes (pkg/util/merr/errors.go).
_UNAVAILABLE = {2, 10001}  # unavailable, timeout
_OVERLOADED = {3, 4, 8, 9, 11, 12, 103}  # memory, requests, rate, quota, lag, resources; not loaded fully yet
_NOT_FOUND = {100, 1600, 1603}  # collection, alias, collection of the alias
_NOT_LOADED = {101}
_REFUSED = {1400, 1401, 1800}  # not authenticated, not permitted
_NO_DATABASE = {800}


class NoSuchCollection(Exception):
    """The collection or the alias does not exist (any more)."""


class NotLoaded(Exception):
    """The collection exists, and is not in memory."""


class Connection:
    """One channel for all threads, which several indexes may share."""

    def __init__(self, url: str, token: str | None) -> None:
        """Connect, and see whether the database is there.

        Args:
            url: ``http(s)://host:port``, and ``/name`` of a database that is not the default one.
            token: as Milvus wants it, or ``user:password``; None where it asks for none.

        Raises:
            SettingsError: the address is none, or Milvus refuses the token or does not know the database.
            StartupError: pymilvus is missing, or what answers is no Milvus that can be used.
            SearchUnavailable: nothing answers.
        """
        address, database = _parse(url)
        # gRPC would log lost connections in a format of its own, and pymilvus would read settings from a file .env.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
        try:
            import grpc
            from pymilvus import MilvusClient
            from pymilvus.exceptions import MilvusException
        except ImportError as error:
            raise StartupError(INSTALL) from error
        # pymilvus imports it, where it is there, at the first search: several threads that do so at once may fail.
        with suppress(ImportError):
            importlib.import_module("scipy.sparse")
        # Whatever it logs as an error is raised too; it would log each with a traceback, to its own handler.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._failures = (MilvusException, grpc.RpcError)
        self._lock = threading.Lock()
        self._users = 1
        self._client: Any = None
        try:
            # Its own channel, since a shared one is never closed.
            self._client = MilvusClient(
                uri=address,
                token=token or "",
                db_name=database,
                timeout=CONNECT_TIMEOUT,
                dedicated=True,
                grpc_options=_CHANNEL,
            )
            self._client.list_collections(timeout=READ_TIMEOUT)
        except self._failures as error:
            if self._client is not None:
                self._client.close()
            raise _refusal(error, address, database) from error

    @contextmanager
    def client(self) -> Iterator[Any]:
        """The ``MilvusClient``, for calls that have a timeout.

        Raises:
            NoSuchCollection, NotLoaded: see there.
            SearchUnavailable: the call failed for another reason.
        """
        try:
            yield self._client
        except self._failures as error:
            raise _translation(error) from error

    def share(self) -> Connection:
        """The same connection for one more user, who closes it too."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Close it when this was the last user."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._client.close()


def _parse(url: str) -> tuple[str, str]:
    """Address, and name of the database, which is empty for the default one."""
    wrong = SettingsError("SEARCH_URL must be http://host:19530 or https://host:19530, and /name of a database.")
    try:
        parts = urlsplit(url)
        port = parts.port or 19530
    except ValueError:
        raise wrong from None
    if parts.username is not None or parts.password is not None:
        raise SettingsError("SEARCH_URL must have no user and password; they belong in SEARCH_TOKEN.")
    database = parts.path.removeprefix("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or "/" in database or parts.query or parts.fragment:
        raise wrong
    return f"{parts.scheme}://{parts.hostname}:{port}", database


def _code(error: Exception) -> tuple[int | None, str | None]:
    """Code of Milvus, and name of gRPC's status if that is the cause; what is missing is None."""
    number, status = None, None
    for part in (error, error.__cause__):  # pymilvus names an error its own cause at times
        code: Any = getattr(part, "code", None)
        if callable(code):
            code = code()
        if isinstance(code, int):
            number = code
        else:
            status = status or getattr(code, "name", None)
    return number, status


def _is_away(code: int | None, status: str | None) -> bool:
    return code in _UNAVAILABLE or status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")


def _translation(error: Exception) -> Exception:
    code, status = _code(error)
    if code in _NOT_FOUND:
        return NoSuchCollection()
    if code in _NOT_LOADED:
        return NotLoaded()
    if _is_away(code, status):
        return SearchUnavailable(UNREACHABLE)
    return SearchUnavailable(BUSY if code in _OVERLOADED or status == "RESOURCE_EXHAUSTED" else FAILED)


def _refusal(error: Exception, address: str, database: str) -> Exception:
    code, status = _code(error)
    if code in _REFUSED or status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return SettingsError(f"Milvus at {address} refuses SEARCH_TOKEN.")
    if code in _NO_DATABASE:
        return SettingsError(f"Milvus at {address} has no database {database!r}, which SEARCH_URL names.")
    if _is_away(code, status):
        return SearchUnavailable(UNREACHABLE)
    return StartupError(f"Milvus at SEARCH_URL={address} cannot be used: {getattr(error, 'message', status)}.")
