"""A real Milvus Lite server for tests and benchmarks: its own process and data, a free port."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

MISSING = "needs Milvus Lite: pip install -r requirements-dev.txt"


def installed() -> bool:
    """Whether the server and the client are there."""
    return all(importlib.util.find_spec(package) is not None for package in ("milvus_lite", "pymilvus"))


_FLUSH_BYTES = 2 * 1024 * 1024
"""Rows in memory beyond which Milvus Lite writes a segment and indexes it; by default only after 128 MiB."""


class MilvusServer:
    """A running server; ``stop``, ``kill`` and ``start`` take it down and bring it up again on the same port.

    It works on one request at a time, since Milvus Lite does not promise that writes at the same time are safe.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="milvus-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """What SEARCH_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        import grpc

        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self._folder / "data")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--max-workers", "1"]
        environment = {**os.environ, "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(_FLUSH_BYTES)}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(60)
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]

    def stop(self) -> None:
        """Shut it down as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Take it away in the middle of whatever it does (kill -9)."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Halt it for a while; its connections stay open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all of its threads stand still
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)

    def __enter__(self) -> MilvusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder)
