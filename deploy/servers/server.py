"""A real server for tests and benchmarks: a process of its own, a free port, data in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from shared.service_process import free_port


class Server(ABC):
    """A server; ``stop``, ``kill`` and ``start`` take it down and bring it up again on the same port.

    Args:
        name: what its folder's name begins with.
    """

    shutdown: ClassVar[signal.Signals]
    """What an administrator sends it."""

    def __init__(self, name: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id. It must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def data(self) -> Path:
        """The folder with its data."""
        return self._folder / "data"

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it takes connections."""

    def stop(self) -> None:
        """Shut it down as an administrator does; clients lose their connections."""
        self._end(self.shutdown)

    def kill(self) -> None:
        """Take it away in the middle of whatever it does (kill -9); its children, if any, follow by themselves."""
        self._end(signal.SIGKILL)

    @contextmanager
    def killed(self) -> Iterator[None]:
        """The same, until it is back at the end of the context."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder)
