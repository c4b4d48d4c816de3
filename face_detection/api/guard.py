"""Who a request is from: reads the API key, and lets an operation be done by whoever may."""

from __future__ import annotations

import asyncio

from aiohttp import web

from face_detection.access import Caller, demand, demand_operator
from face_detection.api.operations import ACCESS, CALLER, Handler, Operation
from shared.errors import Unauthorized

KEY_HEADER = "X-API-Key"


def guarded(operation: Operation) -> Handler:
    """The operation's handler, behind a check of the right that it asks for.

    The handler finds the caller in ``request[CALLER]``. An operation without a right is left as it is.

    Raises (when handling):
        Unauthorized, Forbidden, RateLimited, StorageError: see ``Access.authenticate`` and ``demand``.
    """
    right = operation.right
    if right is None:
        return operation.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        caller = await authenticate(request)
        demand(caller, right)
        if operation.operator:
            demand_operator(caller)
        request[CALLER] = caller
        return await operation.handler(request)

    return handle


async def authenticate(request: web.Request) -> Caller:
    """Whom a request is from, see ``Access.authenticate``."""
    text = key_text(request)
    return await asyncio.to_thread(request.app[ACCESS].authenticate, text)


async def caller_for_company(request: web.Request, company: str) -> Caller:
    """Whom a request is from whose body names the company, see ``Access.caller_for_company``."""
    text = key_text(request)
    return await asyncio.to_thread(request.app[ACCESS].caller_for_company, text, company)


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
