"""An operation: a route, its documentation and the models on both sides, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.access import Access, Caller
from face_detection.gallery import GalleryPool
from face_detection.gallery.directory import Right
from face_detection.gallery.events import Occasion
from face_detection.gallery.sql.collections import Collections
from face_detection.gallery.sql.directory import Directory
from face_detection.people import People
from face_detection.recognition.enrolment import OfConflicts
from face_detection.recognition.service import Recognition
from shared import exact_json
from shared.errors import ServiceError
from shared.models import OnConflict

RECOGNITION: web.AppKey[Recognition] = web.AppKey("recognition", Recognition)
PEOPLE: web.AppKey[People] = web.AppKey("people", People)

ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
DIRECTORY: web.AppKey[Directory] = web.AppKey("directory", Directory)
POOL: web.AppKey[GalleryPool] = web.AppKey("pool", GalleryPool)
COLLECTIONS: web.AppKey[Collections] = web.AppKey("collections", Collections)
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
        picture_answer: whether the answer may be a JPEG instead.
        body: model of the JSON body, or a list of it.
        query: model of the query parameters.
        paths: those of them behind whose name there may be the path of a member, with dots.
        form: whether ``body`` is also taken as a multipart form.
        urlencoded: whether it is also taken as an urlencoded form.
        picture_body: whether one picture and nothing else is taken as well, whatever its Content-Type says.
        stream_types: content types of a body that is read bit by bit, without a model; the answer is then NDJSON, of
            lines like ``answer``.
        once: whether a client may send it again, with an ``Idempotency-Key``.
        errors: statuses that it may answer with, beside 429, 500, those of the check of ``right``, 408 where there
            is a ``body``, and 409 where it is done ``once``.
        failure: how errors are worded; None for the service's own body.
        changes: whether it changes something although its method is GET.
        in_collection: whether the query parameter ``collection`` says which of the tenant's collections it acts on.
        strict: whether a query parameter that it does not know is refused; else it is ignored, and logged.
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
    paths: Sequence[str] = ()
    form: bool = False
    urlencoded: bool = False
    picture_body: bool = False
    picture_answer: bool = False
    stream_types: Sequence[str] = ()
    once: bool = False
    errors: Sequence[int] = ()
    failure: FailureForm | None = None
    changes: bool = False
    in_collection: bool = False
    strict: bool = True

    @property
    def safe(self) -> bool:
        """Whether it only tells something, so that HEAD may ask for it, too."""
        return self.method == "GET" and not self.changes


def lenient(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Operations whose clients were written for another service, or are browsers: they may send what nobody knows."""
    return tuple(replace(operation, strict=False) for operation in operations)


def occasion_of(request: web.Request) -> Occasion:
    """For the event log: with which API key a request came."""
    return Occasion(api_key=request[CALLER].key)


def of_conflicts(request: web.Request, action: OnConflict | None = None) -> OfConflicts:
    """What becomes of photos that contradict others, as the request says.

    Who somebody else is may be told only to whoever may find that out by recognising.
    """
    return OfConflicts(action, Right.RECOGNISE in request[CALLER].rights)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response; pydantic models inside ``value`` must have been dumped."""
    return web.Response(body=exact_json.dumps(value), status=status, headers=headers, content_type="application/json")


async def large_json_response(make: Callable[[], Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """The same of what may be large: ``make`` and the rest work in a thread, while the event loop serves others."""
    return await asyncio.to_thread(lambda: json_response(make(), headers=headers))


def dump(model: BaseModel) -> dict[str, Any]:
    """A model as plain values."""
    return model.model_dump(mode="json")
