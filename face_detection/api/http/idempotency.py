"""Requests that may be sent again: with an ``Idempotency-Key`` they are done once, and answered the same each time."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from aiohttp import web

from face_detection.api.http.bodies import IDEMPOTENCY_KEY, body_digest
from face_detection.gallery.sql.answers import Answer, Answers, Once
from shared.errors import InvalidRequest

ANSWERS: web.AppKey[Answers] = web.AppKey("answers", Answers)

REPLAYED = "Idempotency-Replayed"
"""Header of an answer that is given again."""

KEY_PATTERN = "[!-~]{1,255}"
_KEY = re.compile(KEY_PATTERN)
_DIGEST_BYTES = 32

T = TypeVar("T")


class Attempt(Generic[T]):
    """A request that enrols, sent for the first time as far as is known.

    Args:
        respond: makes the response of what was stored. Also called in other threads, inside of transactions.

    Attributes:
        once: for whoever stores something; None when the client sent no key.
    """

    def __init__(self, respond: Callable[[T], web.Response]) -> None:
        self.once: Once[T] | None = None
        self._respond = respond
        self._response: web.Response | None = None

    def response(self, stored: T) -> web.Response:
        """The response, the same as was kept."""
        return self._response or self._respond(stored)

    def keep(self, stored: T) -> Answer:
        """The response as it is kept."""
        response = self._response = self._respond(stored)
        body = response.body
        assert isinstance(body, bytes)
        headers = dict(response.headers) | {"Content-Type": response.content_type}
        return Answer(response.status, headers, body)


async def first_attempt(request: web.Request, tenant: str, respond: Callable[[T], web.Response]) -> Attempt[T]:
    """To be asked for when a request's body has been read and its caller is known, before anything is done.

    Raises:
        Answered: the request was done before.
        KeyReused, AnswerDeleted, StorageError: see ``Answers.find``.
        InvalidRequest: the key is none.
    """
    sent = f"{request.method} {request.rel_url} {request.content_type}"
    return await _first(request, tenant, respond, (), (sent, body_digest(request)))


async def first_attempt_at_part(
    request: web.Request,
    tenant: str,
    respond: Callable[[T], web.Response],
    number: int,
    content: Sequence[str | bytes],
) -> Attempt[T]:
    """The same for one part of a stream, by its number and content; what the address says counts for each part."""
    return await _first(request, tenant, respond, (str(number),), (str(request.rel_url), *content))


async def _first(
    request: web.Request,
    tenant: str,
    respond: Callable[[T], web.Response],
    part: Sequence[str],
    content: Sequence[str | bytes],
) -> Attempt[T]:
    attempt = Attempt(respond)
    key = _key_of(request)
    if key is not None:
        attempt.once = Once(_digest(tenant, _operation_of(request), key, *part), _digest(*content), attempt.keep)
        await asyncio.to_thread(request.app[ANSWERS].find, attempt.once)
    return attempt


def _key_of(request: web.Request) -> str | None:
    """The Idempotency-Key of a request; None when it sends none.

    Raises:
        InvalidRequest: it is none, or there are several.
    """
    keys = request.headers.getall(IDEMPOTENCY_KEY, [])
    if len(keys) > 1 or not all(_KEY.fullmatch(key) for key in keys):
        raise InvalidRequest(f"The header {IDEMPOTENCY_KEY} must be 1 to 255 visible ASCII characters, once.")
    return keys[0] if keys else None


def _operation_of(request: web.Request) -> str:
    """What is asked for, without the ids of people."""
    resource = request.match_info.route.resource
    assert resource is not None
    return f"{request.method} {resource.canonical}"


def _digest(*parts: str | bytes) -> bytes:
    """32 bytes that stand for these parts."""
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.digest()


def replay(answer: Answer) -> web.Response:
    """A kept answer as a response."""
    return web.Response(body=answer.body, status=answer.status, headers={**answer.headers, REPLAYED: "true"})
