"""Parameters of a request wherever they stand: in the path, the query, or a body of any form."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from face_detection.api.bodies import SETTINGS, read_body, read_form, read_json, read_urlencoded
from shared.errors import InvalidRequest

_MAX_MEMBERS = 1 << 20
"""Bytes of a request beside the picture."""


async def read_parameters(request: web.Request) -> dict[str, Any]:
    """The parameters of a request from path, query and body, their names with underscores.

    Raises:
        InvalidRequest: a parameter is given twice, or the body is malformed.
        BodyTooLarge, RequestTooSlow: see ``read_body``.
    """
    given: list[tuple[str, Any]] = [*request.match_info.items(), *request.query.items()]
    if request.can_read_body:
        given += await _read(request)
    members: dict[str, Any] = {}
    for name, value in given:
        name = name.replace("-", "_")
        if name in members:
            raise InvalidRequest(f"The parameter {name[:50]!a} is given twice.")
        members[name] = value
    return members


async def _read(request: web.Request) -> list[tuple[str, Any]]:
    settings, kind = request.app[SETTINGS], request.content_type
    # Base64 needs four bytes for three; JSON may escape each "/" and wrap lines, and forms escape each "+" and "/".
    limit = settings.max_image_bytes * 3 // 2 + _MAX_MEMBERS
    if kind == "multipart/form-data":
        return [*await read_form(request, limit, settings.max_image_bytes + 1, limit)]
    if kind == "application/x-www-form-urlencoded":
        return [*await read_urlencoded(request, limit)]
    if kind.startswith("image/"):
        return [("image", await read_body(request, settings.max_image_bytes))]
    body = await read_json(request, limit)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return [*body.items()]
