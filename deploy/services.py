"""Both services as child processes, and who else has their addresses."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from shared import tethered
from shared.errors import StartupError
from shared.service_process import ServiceProcess, free_port
from shared.settings import ExtractionSettings, FrontSettings, split_bind

ROOT = tethered.ROOT


class Services:
    """The extraction service and the front, started and stopped together.

    Args:
        environment: the settings of both. The front uses this extraction service unless EXTRACTION_URL is among them.
        logs: folder for their logs; None leaves them on this process's standard error.

    Raises:
        SettingsError: a setting is malformed.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path | None = None) -> None:
        extraction = ExtractionSettings.from_environment(environment)
        front = FrontSettings.from_environment(environment)
        self.extraction = ServiceProcess(
            "feature_extraction", extraction.extraction_bind, environment, logs and logs / "extraction.log"
        )
        own = {"EXTRACTION_URL": self.extraction.url}
        self.front = ServiceProcess("face_detection", front.front_bind, own | environment, logs and logs / "front.log")

    @classmethod
    def on_free_ports(cls, environment: Mapping[str, str], folder: Path) -> Self:
        """Services that get in nobody's way: free ports, and database and logs in ``folder``."""
        extraction_port = free_port()
        return cls(
            {
                "DATABASE": str(folder / "gallery.db"),
                **environment,
                "EXTRACTION_BIND": f"127.0.0.1:{extraction_port}",
                "EXTRACTION_URL": f"http://127.0.0.1:{extraction_port}",
                "FRONT_BIND": f"127.0.0.1:{free_port()}",
            },
            folder,
        )

    def check_free(self) -> None:
        """Look whether nobody holds their addresses.

        Raises:
            StartupError: somebody does; a service of an earlier start is named.
        """
        services = (self.extraction, self.front)
        own = {service.configuration.parts[-2:]: service.package for service in services}
        for service in services:
            host, port = split_bind(service.bind)
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    reason = _leftover(port, own) if error.errno == errno.EADDRINUSE else None
                    reason = reason or f"{error.strerror}. Choose another address with FRONT_BIND or EXTRACTION_BIND."
                    raise StartupError(f"Cannot bind to {service.bind}: {reason}") from error

    def start(self, seconds: float = 300) -> None:
        """Start both and wait until both are ready.

        Raises:
            StartupError: one of them cannot start; both are stopped then.
        """
        try:
            self.extraction.start()
            self.front.start()
            self.extraction.wait_until_ready(seconds)
            self.front.wait_until_ready(60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both, the front first, so that it can finish what it has accepted."""
        self.front.stop()
        self.extraction.stop()

    def kill(self) -> None:
        """End both at once. May be called while another method is at work, whose waiting then ends."""
        self.front.kill()
        self.extraction.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _leftover(port: int, own: dict[tuple[str, ...], str]) -> str | None:
    """Which service of this project listens at a port, as far as this user may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                process = psutil.Process(connection.pid)
                parent = process.parent()
                while parent is not None and _package(parent, own):  # from a worker to gunicorn's master
                    process, parent = parent, parent.parent()
                package = _package(process, own)
                return package and _who(process.pid, package, parent)
    return None


def _package(process: psutil.Process, own: dict[tuple[str, ...], str]) -> str | None:
    return next(filter(None, (own.get(Path(word).parts[-2:]) for word in process.cmdline())), None)


def _who(pid: int, package: str, parent: psutil.Process | None) -> str:
    if parent is not None and "deploy.run" in parent.cmdline():
        return f"make run is at work already, as process {parent.pid}. End it with: kill {parent.pid}"
    return f"{package} of an earlier start still runs, as process {pid}. End it with: kill {pid}"
