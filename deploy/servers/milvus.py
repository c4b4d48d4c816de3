"""A real Milvus Lite server for tests and benchmarks: its own process and data, a free port."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

from deploy.servers.server import Server

MISSING = "needs Milvus Lite: pip install -r requirements-dev.txt"


def installed() -> bool:
    """Whether the server and the client are there."""
    return all(importlib.util.find_spec(package) is not None for package in ("milvus_lite", "pymilvus"))


_FLUSH_BYTES = 2 * 1024 * 1024
"""So little that galleries of tests have segments and indexes."""


class MilvusServer(Server):
    """A running Milvus Lite, which works on one request at a time: it does not promise that writes at the same time are
    safe.

    Args:
        flush_bytes: rows in memory beyond which it writes a segment and indexes it; None takes its own 128 MiB.
    """

    shutdown = signal.SIGTERM

    def __init__(self, flush_bytes: int | None = _FLUSH_BYTES) -> None:
        super().__init__("milvus")
        self._environment = dict(os.environ)
        if flush_bytes is not None:
            self._environment["MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES"] = str(flush_bytes)
        self.start()

    @property
    def url(self) -> str:
        """What SEARCH_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    @override
    def start(self) -> None:
        import grpc

        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.data)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--max-workers", "1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self._environment
            )
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(60)
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Halt it for a while; its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # until all of its threads stand still
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)
