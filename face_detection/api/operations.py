"""An operation: a route, its documentation and the models on both sides, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.recognition import Recognition

RECOGNITION: web.AppKey[Recognition] = web.AppKey("recognition", Recognition)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TENANT = "default"
"""Whose gallery anonymous requests act on."""


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        method, path: as aiohttp takes them.
        summary: one line for ``/docs``.
        handler: does it.
        answer: model of the 200 body; None for plain text.
        body: model of the JSON body, or a list of it.
        query: model of the query parameters.
        form: whether ``body`` is also taken as a multipart form.
        picture_body: whether one bare picture is taken as well.
        errors: statuses that it may answer with, beside 429 and 500.
        plain_errors: whether errors have the original service's body.
        tag: group in the documentation.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    tag: str
    answer: TypeAdapter[Any] | None = None
    body: TypeAdapter[Any] | None = None
    query: type[BaseModel] | None = None
    form: bool = False
    picture_body: bool = False
    errors: Sequence[int] = ()
    plain_errors: bool = False


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response; pydantic models inside ``value`` must have been dumped."""
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


def dump(model: BaseModel) -> dict[str, Any]:
    """A model as plain values."""
    return model.model_dump(mode="json")
