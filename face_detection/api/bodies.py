"""Reading request bodies: JSON, multipart forms and bare pictures, all within limits.

Whatever the form, a body becomes one dictionary or list that a pydantic model validates, so every form has the
same rules. Pictures stay text in JSON and become bytes in the other forms.
"""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import TypeAdapter, ValidationError

from face_detection.api.gate import PLACE
from face_detection.api.pace import arriving
from shared.errors import BodyTooLarge, InvalidRequest
from shared.settings import FrontSettings

SETTINGS: web.AppKey[FrontSettings] = web.AppKey("settings", FrontSettings)

T = TypeVar("T")

_MAX_FIELD = 1 << 20
_MAX_PARTS = 16_000
_BIG = 1 << 20
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than ``limit`` bytes; found out before they are read when Content-Length tells.
        Overloaded: it is larger than announced, and there is no room for it.
        RequestTooSlow: it did not arrive in time.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async with _receiving(request) as received:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            received(len(chunk))
            chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: web.Request, limit: int) -> Any:
    """The body as JSON.

    Raises:
        InvalidRequest: not JSON.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``read_body``.
    """
    return await parse_json(await read_body(request, limit))


async def parse_json(body: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidRequest: not JSON.
    """
    if len(body) > _BIG:
        return await asyncio.to_thread(_parse, body)
    return _parse(body)


async def read_urlencoded(request: web.Request, limit: int) -> list[tuple[str, str]]:
    """The fields of an ``application/x-www-form-urlencoded`` form in their order.

    Raises:
        InvalidRequest: not a well-formed form.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``read_body``.
    """
    body = await read_body(request, limit)
    if len(body) > _BIG:
        return await asyncio.to_thread(_parse_urlencoded, body)
    return _parse_urlencoded(body)


async def read_form(
    request: web.Request, limit: int, file_limit: int, field_limit: int = _MAX_FIELD
) -> list[tuple[str, str | bytes]]:
    """The parts of a multipart form in their order: files as bytes, fields as text.

    Raises:
        InvalidRequest: not a well-formed multipart body.
        BodyTooLarge: the form, a file or a field is too large.
        Overloaded: see ``read_body``.
        RequestTooSlow: the form did not arrive in time.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    parts: list[tuple[str, str | bytes]] = []
    room = limit
    try:
        async with _receiving(request) as received:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise InvalidRequest("The form has a part without a name.")
                if len(parts) >= _MAX_PARTS:
                    raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")
                is_file = part.filename is not None or part.headers.get("Content-Type", "").startswith("image/")
                content = await _read_part(part, min(room, file_limit if is_file else field_limit), received)
                room -= len(content)
                parts.append((part.name, content if is_file else content.decode("utf-8")))
    except (ValueError, AssertionError, RuntimeError, UnicodeDecodeError, HttpProcessingError) as error:
        # aiohttp's reader reports malformed parts with any of these.
        raise InvalidRequest("The multipart form is malformed.") from error
    return parts


async def read_picture_request(request: web.Request, picture_fields: int = 1) -> Mapping[str, Any]:
    """The members of a request about pictures: a JSON object, a multipart form, or for one picture its bare bytes.

    A bare picture says so by its Content-Type, ``image/…``; its other members are query parameters.
    """
    settings = request.app[SETTINGS]
    # Base64 needs four bytes for three; JSON may escape each "/" and wrap lines.
    limit = picture_fields * (settings.max_image_bytes * 3 // 2) + _MAX_FIELD
    kind = request.content_type
    if kind == "multipart/form-data":
        members: dict[str, Any] = {}
        for name, content in await read_form(request, limit, settings.max_image_bytes + 1):
            if name in members:
                raise InvalidRequest(f"The field {name} appears twice.")
            members[name] = content
        return members
    if kind.startswith("image/") and picture_fields == 1:
        return {**request.query, "image": await read_body(request, settings.max_image_bytes)}
    body = await read_json(request, limit)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def validate(adapter: TypeAdapter[T], value: Any) -> T:
    """Validate with pydantic.

    Raises:
        InvalidRequest: with a message that names the first offending members.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        shown = "; ".join(f"{_path(fault['loc'])}: {fault['msg']}" for fault in faults[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InvalidRequest(shown + more) from None


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.lstrip(".") or "body"


@asynccontextmanager
async def _receiving(request: web.Request) -> AsyncIterator[Callable[[int], None]]:
    """Bounds the time that a body takes and its place in memory; what it yields is told how many bytes have come."""
    size = 0

    def received(count: int) -> None:
        nonlocal size
        size += count
        arrived()
        request[PLACE].hold(size)

    async with arriving(request.content, request.app[SETTINGS].body_timeout) as arrived:
        yield received


async def _read_part(part: BodyPartReader, limit: int, received: Callable[[int], None]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await part.read_chunk(1 << 16):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        received(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes | str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not JSON.") from error


def _parse_urlencoded(body: bytes) -> list[tuple[str, str]]:
    # Bounds what splitting and unescaping can make of the body; base64 has few of either sign.
    if max(body.count(b"&"), body.count(b"=")) > _MAX_PARTS:
        raise InvalidRequest(f"The form has more than {_MAX_PARTS} fields.")
    if _BROKEN_ESCAPE.search(body):
        raise InvalidRequest("The form has an incomplete escape.")
    try:
        pairs = [field.partition(b"=") for field in body.split(b"&") if field]
        return [(_unescape(name), _unescape(value)) for name, _, value in pairs]
    except UnicodeDecodeError as error:
        raise InvalidRequest("The form is not UTF-8.") from error


def _unescape(text: bytes) -> str:
    # As quoted-printable, which differs in the sign only: urllib would make an object of every escape, hundreds of
    # bytes for each three of a picture.
    quoted = text.replace(b"+", b" ").replace(b"=", b"%3D").replace(b"%", b"=")
    return binascii.a2b_qp(quoted).decode()


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request has more than {limit} bytes.")
