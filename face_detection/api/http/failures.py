"""Errors as HTTP answers, also to what is no HTTP: bare line feeds, impossible headers, TLS, chunks that break off.

That aiohttp answers by itself, before there is a request for a middleware: in its own words, with a part of what was
sent, and with a traceback in the log.
"""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo

from face_detection.api.operation import FailureForm, json_response
from shared import logs, wire
from shared.errors import InvalidRequest, RequestTooSlow, ServiceError

log = logging.getLogger(__name__)


def failure_response(
    error: ServiceError, request_id: str, form: FailureForm | None, status: int | None = None
) -> web.Response:
    """The answer for an error.

    Args:
        error: what went wrong.
        request_id: of the request.
        form: how the operation words its failures; None for the service's own body.
        status: overrides the table's, for errors of HTTP itself.
    """
    status = status or wire.status_of(error)
    body: object = wire.error_body(error, request_id)
    if form is not None:
        status, body = form.word(error, status, request_id)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = json_response(body, status, headers)
    if isinstance(error, RequestTooSlow):
        response.force_close()  # the rest of the body may never come
    return response


class _Protocol(web.RequestHandler):
    """A connection."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Tell whoever reads a body at once that no more of it can be read, and not only when they are done."""
        super().data_received(data)
        request = self._current_request
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo) and request and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("The body is not well-formed."))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be read as a request."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        # What stands behind the colon is the client's, and may be a key.
        reason = exc.message.strip().partition(":")[0].rstrip(".")
        log.info("not HTTP: %s", reason, extra={"peer": request.remote})
        identity = logs.new_request_id(None)
        error = InvalidRequest(f"This is not a well-formed HTTP request: {reason}.")
        response = failure_response(error, identity, form=None, status=status)
        response.headers[wire.REQUEST_ID_HEADER] = identity
        response.force_close()
        return response

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Log an error of this program; what a client sends is none."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError | HttpProcessingError):
            super().log_exception(*arguments, **options)


class _Server(web.Server):
    """All connections."""

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new one."""
        return _Protocol(self, loop=self._loop, **self._kwargs)


def speak_plainly(app: web.Application) -> None:
    """Let an application answer what is no HTTP as it answers other errors, whoever runs it."""

    def make_server(**options: Any) -> web.Server:
        return _Server(app._handle, request_factory=app._make_request, **options)  # type: ignore[arg-type]

    # aiohttp has no other way to choose the class of a server, for its own worker under gunicorn and for tests alike.
    app._make_handler = make_server  # type: ignore[method-assign]
