"""The gunicorn worker of the service, which ends without losing a request, and words its errors as the service does.

Told to end (SIGTERM), gunicorn's own worker answers what it has accepted, also what comes within two seconds on
connections that are kept alive. But it leaves its socket open until then: whoever connects meanwhile waits, and is cut
off in the end. Here a load balancer first gets the time to turn away; then whoever is in the socket's queue is
accepted, and the socket is closed at once, so that clients go to another worker without waiting.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from gunicorn.http import errors as http
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from shared import logs, wire
from shared.errors import InvalidRequest


def _is_malformed(error: BaseException) -> bool:
    """Whether what a client has sent is no HTTP."""
    own = (http.ConfigurationProblem, http.InvalidResponseHeader, http.InvalidResponseHeaderName)
    return isinstance(error, http.ParseException) and not isinstance(error, own)


class DrainingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves a Flask application with ``extensions["extraction"]``, see ``service.Extraction``."""

    _draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM. Signal handlers interrupt whatever runs, so the work is left to the main loop."""
        if not self._draining:
            self._draining = True
            self.method_queue.defer(self._drain, sig)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or pause accepting connections; once the worker ends, for good."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                self._accept_all(listener)
                listener.close()
            # Who has connected and not sent anything is no longer waited for.
            latest = time.monotonic() + STOP_KEEPALIVE_LINGER
            for connection in self.pending_conns:
                connection.timeout = min(connection.timeout, latest)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what is no HTTP in the form of the service's errors; gunicorn's own is a page with what was sent."""
        if not _is_malformed(exc):
            super().handle_error(req, client, addr, exc)
            return
        identity = logs.new_request_id(None)
        self.log.info("not HTTP: %s", type(exc).__name__, extra={"request_id": identity})
        error = InvalidRequest("This is not a well-formed HTTP request.")
        body = json.dumps(wire.error_body(error, identity))
        lines = ("HTTP/1.1 400 Bad Request", "Connection: close", "Content-Type: application/json")
        sizes = (f"Content-Length: {len(body)}", f"{wire.REQUEST_ID_HEADER}: {identity}", "", body)
        with suppress(OSError):  # the client is gone
            write_nonblock(client, "\r\n".join([*lines, *sizes]).encode())

    def _drain(self, sig: int) -> None:
        seconds = self.wsgi.extensions["extraction"].drain()
        self.log.info("Stopping, after %g seconds in which requests are still accepted", seconds)
        timer = threading.Timer(seconds, super().handle_exit, (sig, None))
        timer.daemon = True
        timer.start()

    def _accept_all(self, listener: Any) -> None:
        accepted = -1
        while accepted < self.nr_conns < self.worker_connections:
            accepted = self.nr_conns
            self.accept(listener)
