"""A real HAProxy with the configuration of the deployment, and small real HTTP servers behind it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

import requests

from deploy.services import free_port
from tests.conftest import ROOT
from tests.waiting import wait_until

CONFIGURATION = ROOT / "deploy" / "haproxy.cfg"

MISSING = "needs HAProxy (on Debian: apt-get install haproxy)"


def program() -> str | None:
    """HAProxy, which Debian keeps where only root looks; None without one."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def check(configuration: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What HAProxy says of a configuration."""
    command = [str(program()), "-c", "-f", str(configuration)]
    return subprocess.run(command, env=dict(variables), capture_output=True, text=True, timeout=60)


def addresses(fronts: Sequence[str], workers: Sequence[str]) -> dict[str, str]:
    """The variables that ``deploy/haproxy.cfg`` reads, with free ports for itself.

    Args:
        fronts: two addresses, host:port.
        workers: three.
    """
    return {
        "FRONTS_BIND": f"127.0.0.1:{free_port()}",
        "EXTRACTION_BIND": f"127.0.0.1:{free_port()}",
        **{f"FRONT_{number}": address for number, address in enumerate(fronts, 1)},
        **{f"EXTRACTION_{number}": address for number, address in enumerate(workers, 1)},
    }


class HAProxy:
    """HAProxy while it runs.

    Args:
        fronts: addresses of the two fronts, host:port.
        workers: of the three extraction workers.
        log: file that gets what it writes.
        configuration: that of the deployment, or one made of it.
    """

    def __init__(
        self, fronts: Sequence[str], workers: Sequence[str], log: Path, configuration: Path = CONFIGURATION
    ) -> None:
        variables = addresses(fronts, workers)
        self.fronts_url = f"http://{variables['FRONTS_BIND']}"
        self.extraction_url = f"http://{variables['EXTRACTION_BIND']}"
        self.log = log
        with log.open("ab") as opened:
            command = [str(program()), "-f", str(configuration)]
            self._process = subprocess.Popen(command, env=variables, stdout=opened, stderr=opened)
        wait_until(lambda: self._listens(), self.text)

    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.text()
        try:
            requests.get(f"{self.fronts_url}/livez", timeout=5)
        except requests.ConnectionError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)


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
