"""Whether the services can have their addresses, and who has them otherwise."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from shared.errors import StartupError
from shared.service_process import ServiceProcess
from shared.settings import split_bind


def check_free(services: Iterable[ServiceProcess]) -> None:
    """Look whether nobody holds the addresses of services.

    Raises:
        StartupError: somebody does; a service of an earlier start is named.
    """
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
