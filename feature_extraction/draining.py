"""The gunicorn worker of the service, which ends without losing a request.

Told to end (SIGTERM), gunicorn's own worker answers what it has accepted, also what comes within two seconds on
connections that are kept alive. But it leaves its socket open until then: whoever connects meanwhile waits, and is cut
off in the end. Here a load balancer first gets the time to turn away; then whoever is in the socket's queue is
accepted, and the socket is closed at once, so that clients go to another worker without waiting.
"""

from __future__ import annotations

import threading
import time
from types import FrameType
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker


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
