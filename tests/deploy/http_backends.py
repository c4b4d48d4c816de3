"""Small real HTTP servers, to stand behind a load balancer."""

from __future__ import annotations

import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import urlsplit

from shared.service_process import free_port


class Backend:
    """An HTTP server that tells its name, and can be unready, slow, rude, or away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = True
        self.hold = threading.Event()
        self.hold.set()
        self.seen: list[tuple[str, str, str]] = []
        """Method, path and X-Request-ID of each request other than a check."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Listen, again on the same port."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Be away: connections are refused."""
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        super().__init__(("127.0.0.1", backend.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        backend = cast(_Server, self.server).backend
        if self.path == "/readyz":
            self._answer(200 if backend.ready else 503, b"")
            return
        backend.seen.append((self.command, self.path, self.headers.get("X-Request-ID", "")))
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        match urlsplit(self.path).path:
            case "/hang-up":
                return
            case "/slow":
                backend.hold.wait(60)
            case "/live":
                self._echo()
                return
        self._answer(200, f"{backend.name} {len(body)}".encode())

    do_POST = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        """What a WebSocket is to a balancer: a connection that changes its protocol."""
        assert self.headers["Upgrade"] == "websocket" and self.headers["Connection"].lower() == "upgrade"
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        while line := self.rfile.readline():
            self.wfile.write(line.upper())

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the tests look at ``seen``."""
