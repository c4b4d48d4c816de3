"""What requests about pictures say, wherever it stands: in the path, the query, or a body of any form.

What form a body has is seen in it. Its Content-Type is heeded where it says more: clients send the picture that
``curl --data-binary`` calls a form, and JSON that has no type.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from face_detection.api.http.bodies import (
    SETTINGS,
    is_picture,
    most_picture_bytes,
    parse_json,
    parse_urlencoded,
    read_body,
    read_form,
)
from face_detection.api.validation import FieldText
from shared.errors import InvalidRequest
from shared.picture_text import plus_restored

Members = Sequence[tuple[str, Any]]
"""Names and values in their order; in forms a name may come several times."""

MAX_OTHER = 1 << 20
"""Bytes of a request beside its pictures."""

IMAGE = "image"
"""The member that a body stands for which is one picture and nothing else."""

_PICTURES = frozenset({IMAGE, "image1", "image2", "file", "picture"})
"""Members that are pictures, at all doors."""

URLENCODED = "application/x-www-form-urlencoded"
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*[{["]')
_FIELD = re.compile(rb"[^=&:;,]{1,100}=(?!=?\s*\Z)")
"""The beginning of an urlencoded form; base64 has its equals signs at the end, a data URI other signs before."""


async def read_picture_request(request: web.Request, pictures: int = 1) -> dict[str, Any]:
    """The parameters of a request about pictures, from query and body; one may be the whole body.

    Raises:
        InvalidRequest: a parameter is given twice, or the body is malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``bodies.read_body``.
    """
    limit = pictures * most_picture_bytes(request) + MAX_OTHER
    body = await read_members(request, limit, IMAGE if pictures == 1 else None)
    return once_each([*_texts(request.query), *body])


async def read_parameters(request: web.Request) -> dict[str, Any]:
    """The parameters of a request from path, query and body, if there is one, their names with underscores.

    Raises:
        InvalidRequest: a parameter is given twice, or the body is malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``bodies.read_body``.
    """
    body: Members = ()
    if request.can_read_body:
        body = await read_members(request, most_picture_bytes(request) + MAX_OTHER, IMAGE)
    given = [*_texts(request.match_info), *_texts(request.query), *body]
    return once_each((name.replace("-", "_"), value) for name, value in given)


async def read_members(request: web.Request, limit: int, alone: str | None = None) -> Members:
    """The members of a body: a JSON object, a form, or one picture and nothing else.

    Args:
        request: with the body.
        limit: most bytes of it.
        alone: the member that one picture and nothing else stands for; None where there is no such.

    Raises:
        InvalidRequest: it is none of these, or malformed.
        BodyTooLarge, Overloaded, RequestTooSlow: see ``bodies.read_body``.
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


def _texts(parameters: Mapping[str, str]) -> Iterator[tuple[str, FieldText]]:
    return ((name, FieldText(_restored(name, value))) for name, value in parameters.items())


def _restored(name: str, text: str) -> str:
    return plus_restored(text) if name in _PICTURES else text
