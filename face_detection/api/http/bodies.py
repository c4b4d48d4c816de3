"""Reading what requests say, wherever it stands: in the path, the query, or a body of any form, all within limits.

Whatever the form, a body becomes one dictionary or list that a pydantic model validates, so every form has the same
rules. Pictures stay text in JSON and become bytes in the other forms. What form a body has is seen in it. Its
Content-Type is heeded where it says more: clients send the picture that ``curl --data-binary`` calls a form, and JSON
that has no type.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiDict
from pydantic import TypeAdapter, ValidationError

from face_detection.api.http.load import PLACE, RESERVE
from face_detection.api.http.slow_clients import arriving
from face_detection.api.validation import COLLECTION, FieldText, faults_of, shown
from shared import exact_json
from shared.errors import BodyTooLarge, InvalidRequest
from shared.formats import LONGEST_SIGNATURE, format_of
from shared.picture_text import is_text, percent_decoded, plus_restored
from shared.settings import FrontSettings

IDEMPOTENCY_KEY = "Idempotency-Key"
"""Header of requests that may be sent again: what is read of their bodies is hashed."""

_DIGEST: web.RequestKey[Any] = web.RequestKey("digest", object)

SETTINGS: web.AppKey[FrontSettings] = web.AppKey("settings", FrontSettings)

T = TypeVar("T")

UNREADABLE = "The body is not what the request's head says of it (Content-Encoding, Transfer-Encoding)."

Members = Sequence[tuple[str, Any]]
"""Names and values in their order; in forms a name may come several times."""

MAX_OTHER = 1 << 20
"""Bytes of a request beside its pictures."""

IMAGE = "image"
"""The member that a body stands for which is one picture and nothing else."""

URLENCODED = "application/x-www-form-urlencoded"

_MAX_PARTS = 16_000
_BIG = 1 << 20
_MOST_FIELD_TEXT = 1000
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PICTURES = frozenset({IMAGE, "image1", "image2", "file", "picture"})
"""Members that are pictures, at all doors."""
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*[{["]')
_FIELD = re.compile(rb"[^=&:;,]{1,100}=(?!=?\s*\Z)")
"""The beginning of an urlencoded form; base64 has its equals signs at the end, a data URI other signs before."""


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
            received(chunk)
            chunks.append(chunk)
    return b"".join(chunks)


def body_digest(request: web.Request) -> bytes:
    """Stands for what was read of a body; of a form whatever its boundary is, which clients choose anew each time."""
    return request[_DIGEST].digest() if _DIGEST in request else b""


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


async def parse_urlencoded(body: bytes) -> list[tuple[str, str]]:
    """The fields of an ``application/x-www-form-urlencoded`` form in their order.

    Raises:
        InvalidRequest: not a well-formed form.
    """
    if len(body) > _BIG:
        return await asyncio.to_thread(_parse_urlencoded, body)
    return _parse_urlencoded(body)


async def read_form(
    request: web.Request, limit: int, file_limit: int, field_limit: int
) -> list[tuple[str, str | bytes]]:
    """The parts of a multipart form in their order: files and pictures as bytes, other fields as text.

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
                    raise InvalidRequest(f"Part {len(parts) + 1} of the form has no name.")
                if len(parts) >= _MAX_PARTS:
                    raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")
                declared = _is_declared_file(part)
                own_limit = file_limit if declared else field_limit
                content = await _read_part(part, min(room, own_limit), received)
                if content is None:
                    if room < own_limit:
                        raise _too_large(limit)
                    raise _part_too_large(part.name, part.filename, len(parts) + 1, own_limit)
                room -= len(content)
                # Some clients send the bytes of a picture as if they were text.
                is_file = declared or format_of(content) is not None
                if _DIGEST in request:
                    request[_DIGEST].update(f"{part.name}\n{is_file} {len(content)}\n".encode())
                parts.append((part.name, content if is_file else _field_text(content.decode("utf-8"))))
    except (ValueError, AssertionError, RuntimeError, UnicodeDecodeError, HttpProcessingError) as error:
        # aiohttp's reader reports malformed parts with any of these.
        raise InvalidRequest("The multipart form is malformed.") from error
    return parts


def most_picture_bytes(request: web.Request) -> int:
    """Bytes of a picture in any form: base64 needs four for three; JSON may escape each "/" and wrap lines."""
    return request.app[SETTINGS].max_image_bytes * 3 // 2


def is_picture(body: bytes) -> bool:
    """Whether a body looks like one picture and nothing else: like its bytes, be it of no known format, or its text."""
    return format_of(body) is not None or _BINARY.search(body, 0, LONGEST_SIGNATURE) is not None or is_text(body)


async def read_picture_request(request: web.Request, pictures: int = 1) -> dict[str, Any]:
    """The parameters of a request about pictures, from query and body; one may be the whole body.

    Raises:
        InvalidRequest: a parameter is given twice, or the body is malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``read_body``.
    """
    limit = pictures * most_picture_bytes(request) + MAX_OTHER
    body = await read_members(request, limit, IMAGE if pictures == 1 else None)
    return once_each([*_texts(_query(request)), *body])


async def read_parameters(request: web.Request) -> dict[str, Any]:
    """The parameters of a request from path, query and body, if there is one, their names with underscores.

    Raises:
        InvalidRequest: a parameter is given twice, or the body is malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``read_body``.
    """
    body: Members = ()
    if request.can_read_body:
        body = await read_members(request, most_picture_bytes(request) + MAX_OTHER, IMAGE)
    given = [*_texts(request.match_info), *_texts(_query(request)), *body]
    return once_each((name.replace("-", "_"), value) for name, value in given)


async def read_members(request: web.Request, limit: int, alone: str | None = None) -> Members:
    """The members of a body: a JSON object, a form, or one picture and nothing else.

    Args:
        request: with the body.
        limit: most bytes of it.
        alone: the member that one picture and nothing else stands for; None where there is no such.

    Raises:
        InvalidRequest: it is none of these, or malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``read_body``.
    """
    kind = request.content_type
    if kind == "multipart/form-data":
        return await read_form(request, limit, request.app[SETTINGS].max_image_bytes + 1, limit)
    body = await read_body(request, limit)
    if alone and kind.startswith("image/"):
        return [(alone, body)]
    if not _JSON.match(body):
        picture = is_picture(body)
        if kind == URLENCODED and (_FIELD.match(body) or not picture):
            return [(name, _restored(name, text)) for name, text in await parse_urlencoded(body)]
        if alone and picture:
            return [(alone, body)]
    value = await parse_json(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return [*value.items()]


def take_pictures(given: Members, names: Collection[str]) -> tuple[list[Any], Members]:
    """The pictures of a form that may have several, each in a field of its own; and what else it has."""
    pictures = [value for name, value in given if name in names]
    return pictures, [(name, value) for name, value in given if name not in names]


def once_each(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Parameters by their names.

    Raises:
        InvalidRequest: one is given twice.
    """
    members: dict[str, Any] = {}
    for name, value in given:
        if name in members:
            raise InvalidRequest(f"The parameter {name[:50]!a} is given twice.")
        members[name] = value
    return members


def _query(request: web.Request) -> MultiDict[str]:
    """The parameters in the address, but for the collection, which was read together with the key."""
    return MultiDict((name, value) for name, value in request.query.items() if name != COLLECTION)


def _texts(parameters: Mapping[str, str]) -> Iterator[tuple[str, FieldText]]:
    return ((name, FieldText(_restored(name, value))) for name, value in parameters.items())


def _restored(name: str, text: str) -> str:
    return plus_restored(text) if name in _PICTURES else text


def read_query(request: web.Request, elsewhere: Callable[[str], bool] = lambda name: False) -> dict[str, Any]:
    """The parameters in the address, but for those whose names are read ``elsewhere``.

    Raises:
        InvalidRequest: one is given twice.
    """
    return once_each((name, FieldText(value)) for name, value in _query(request).items() if not elsewhere(name))


def validate(adapter: TypeAdapter[T], value: Any) -> T:
    """Validate with pydantic.

    Raises:
        InvalidRequest: with a message that names the first offending members.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error)) from None


@asynccontextmanager
async def _receiving(request: web.Request) -> AsyncIterator[Callable[[bytes], None]]:
    """Bounds the time that a body takes and its place in memory; what it yields is told what has come."""
    size = 0
    digest = None
    if IDEMPOTENCY_KEY in request.headers:
        digest = request[_DIGEST] = hashlib.blake2b()

    def received(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)
        if digest is not None:
            digest.update(chunk)
        arrived()
        place.hold(max(size, place.size))

    place = request[PLACE]
    place.hold(min(request.content_length or 0, RESERVE))
    async with arriving(request.content, request.app[SETTINGS].body_timeout) as arrived:
        try:
            yield received
        except web.RequestPayloadError as error:
            raise InvalidRequest(UNREADABLE) from error


async def _read_part(part: BodyPartReader, limit: int, received: Callable[[bytes], None]) -> bytes | None:
    """The content of a part; None when it has more than ``limit`` bytes."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await part.read_chunk(1 << 16):
        size += len(chunk)
        if size > limit:
            return None
        received(chunk)
        chunks.append(chunk)
    return b"".join(chunks)


def _is_declared_file(part: BodyPartReader) -> bool:
    kind = part.headers.get("Content-Type", "")
    return part.filename is not None or kind.startswith(("image/", "application/octet-stream"))


def _parse(body: bytes | str) -> Any:
    try:
        return exact_json.loads(body)
    except ValueError as error:
        hint = " A picture must be a member of JSON or of a form here." if _holds_picture(body) else ""
        raise InvalidRequest(f"The body is not JSON: {error}.{hint}") from error


def _holds_picture(body: bytes | str) -> bool:
    return isinstance(body, bytes) and is_picture(body)


def _parse_urlencoded(body: bytes) -> list[tuple[str, str]]:
    # Bounds what splitting and unescaping can make of the body; base64 has few of either sign.
    if max(body.count(b"&"), body.count(b"=")) > _MAX_PARTS:
        raise InvalidRequest(f"The form has more than {_MAX_PARTS} fields.")
    if _BROKEN_ESCAPE.search(body):
        raise InvalidRequest("The form has an incomplete escape.")
    try:
        pairs = [field.partition(b"=") for field in body.split(b"&") if field]
        return [(_unescape(name), _field_text(_unescape(value))) for name, _, value in pairs]
    except UnicodeDecodeError as error:
        raise InvalidRequest("The form is not UTF-8.") from error


def _unescape(text: bytes) -> str:
    return percent_decoded(text.replace(b"+", b" ")).decode()


def _field_text(text: str) -> str:
    # A picture as text is no number, and need not be copied.
    return FieldText(text) if len(text) <= _MOST_FIELD_TEXT else text


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request has more than {limit} bytes.")


def _part_too_large(name: str, file: str | None, number: int, limit: int) -> BodyTooLarge:
    which = f"Part {number} of the form" + (f", the file {shown(file)!r}," if file else "")
    error = BodyTooLarge(f"{which} has more than {limit} bytes.")
    error.input = shown(name)
    return error
