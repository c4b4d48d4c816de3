"""An operation: a route, its documentation and the models on both sides, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.access import Access, Caller
from face_detection.gallery.directory import Directory, Right
from face_detection.gallery.events import Occasion
from face_detection.people import People
from face_detection.recognition import Recognition
from shared.errors import ServiceError

RECOGNITION: web.AppKey[Recognition] = web.AppKey("recognition", Recognition)
PEOPLE: web.AppKey[People] = web.AppKey("people", People)

ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
DIRECTORY: web.AppKey[Directory] = web.AppKey("directory", Directory)
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
"""Whom the request is from; there in the handlers of operations that ask for a right."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class FailureForm:
    """How a family of operations words its failures.

    Attributes:
        word: error, status and request id to the status and the body of the answer.
        schema: model of that body.
    """

    word: Callable[[ServiceError, int, str], tuple[int, Any]]
    schema: type[BaseModel]


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        method, path: as aiohttp takes them.
        summary: one line for ``/docs``.
        handler: does it.
        tag: group in the documentation.
        right: what the caller must be allowed; None for what is open to everybody, or finds out by itself.
        operator: whether the caller must administer the installation, beside having the right.
        answer: model of the 200 body; None for plain text.
        body: model of the JSON body, or a list of it.
        query: model of the query parameters.
        form: whether ``body`` is also taken as a multipart form.
        urlencoded: whether it is also taken as an urlencoded form.
        picture_body: whether one bare picture is taken as well.
        stream_types: content types of a body that is read bit by bit, without a model; the answer is then NDJSON, of
            lines like ``answer``.
        errors: statuses that it may answer with, beside 429, 500, those of the check of ``right``, and 408 where there
            is a ``body``.
        failure: how errors are worded; None for the service's own body.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    tag: str
    # Without a default, so that no operation is open because it was forgotten.
    right: Right | None = field(kw_only=True)
    operator: bool = field(default=False, kw_only=True)
    answer: TypeAdapter[Any] | None = None
    body: TypeAdapter[Any] | None = None
    query: type[BaseModel] | None = None
    form: bool = False
    urlencoded: bool = False
    picture_body: bool = False
    stream_types: Sequence[str] = ()
    errors: Sequence[int] = ()
    failure: FailureForm | None = None


def occasion_of(request: web.Request) -> Occasion:
    """For the event log: with which API key a request came."""
    return Occasion(api_key=request[CALLER].key)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response; pydantic models inside ``value`` must have been dumped."""
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


def dump(model: BaseModel) -> dict[str, Any]:
    """A model as plain values."""
    return model.model_dump(mode="json")
