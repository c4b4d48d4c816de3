"""Who a request is from: reads the API key, and lets an operation be done by whoever may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from face_detection.access import Caller, demand, demand_operator
from face_detection.api.http.bodies import SETTINGS
from face_detection.api.operation import ACCESS, CALLER, COLLECTIONS, Handler, Operation
from face_detection.api.validation import COLLECTION, log_ignored, names_of, unknown_fault
from shared.errors import InvalidRequest, StorageUnavailable, Unauthorized

KEY_HEADER = "X-API-Key"


def guarded(operation: Operation) -> Handler:
    """The operation's handler, behind a check of the right that it asks for.

    The handler finds the caller in ``request[CALLER]``, unless the operation asks for no right.

    Raises (when handling):
        InvalidRequest: the address has a parameter that the operation does not know.
        Unauthorized, Forbidden, RateLimited, StorageError: see ``Access.authenticate`` and ``demand``.
    """
    right, known = operation.right, names_of(operation.query) if operation.query else frozenset[str]()
    if operation.in_collection:
        known |= {COLLECTION}

    async def handle(request: web.Request) -> web.StreamResponse:
        if right is not None:
            caller = await authenticate(request)
            demand(caller, right)
            if operation.operator:
                demand_operator(caller)
            request[CALLER] = await _in_collection(request, caller) if operation.in_collection else caller
        if unknown := [name for name in request.query if name not in known and not _is_path(operation, name)]:
            _take_unknown(operation, unknown, known)
        return await operation.handler(request)

    return handle


def _is_path(operation: Operation, name: str) -> bool:
    return name.partition(".")[0] in operation.paths


def _take_unknown(operation: Operation, unknown: list[str], known: frozenset[str]) -> None:
    if operation.strict or COLLECTION in unknown:  # whoever names a collection must not be served from another
        raise InvalidRequest(unknown_fault(unknown, known))
    if operation.body is None:  # else the door may read members from the address too, and logs what it does not know
        log_ignored(operation.path, unknown)


async def authenticate(request: web.Request) -> Caller:
    """Whom a request is from, see ``Access.authenticate``."""
    text = key_text(request)
    return await _in_time(request, lambda: request.app[ACCESS].authenticate(text))


async def caller_for_company(request: web.Request, company: str) -> Caller:
    """Whom a request is from that names the company, see ``Access.in_company``."""
    caller = request[CALLER] if CALLER in request else await authenticate(request)
    return await _in_time(request, lambda: request.app[ACCESS].in_company(caller, company))


async def _in_collection(request: web.Request, caller: Caller) -> Caller:
    """The same caller for the collection that the address names, if it does.

    Raises:
        InvalidRequest: it names several.
        NotFound: the tenant has no such collection.
    """
    names = request.query.getall(COLLECTION, [])
    if len(names) > 1:
        raise InvalidRequest(f"{COLLECTION} is given twice.")
    if not names:
        return caller
    get = request.app[COLLECTIONS].get
    return await _in_time(request, lambda: replace(caller, gallery=get(caller.tenant, names[0]).gallery))


async def _in_time(request: web.Request, ask: Callable[[], Caller]) -> Caller:
    """What the database says of a caller; a connection that it has stopped to serve is waited for much longer below."""
    try:
        async with asyncio.timeout(request.app[SETTINGS].request_timeout):
            return await asyncio.to_thread(ask)
    except TimeoutError as error:
        raise StorageUnavailable("The database does not answer.") from error


def key_text(request: web.Request) -> str | None:
    """The API key that a request sends in ``Authorization: Bearer`` or ``X-API-Key``; None when it sends none.

    Raises:
        Unauthorized: it sends several different ones, or something else as authorization.
    """
    texts = {text.strip() for text in request.headers.getall(KEY_HEADER, ())}
    for authorization in request.headers.getall("Authorization", ()):
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            texts.add(credentials.strip())
        elif scheme.lower() != "basic":  # a password is for the proxy before this service, which may pass it on
            raise Unauthorized("The header Authorization must be Bearer and an API key.")
    if len(texts) > 1:
        raise Unauthorized("The request has several different API keys.")
    return next(iter(texts), None)
