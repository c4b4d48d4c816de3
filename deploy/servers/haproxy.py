"""A real HAProxy with the configuration of the deployment."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from deploy.servers.waiting import wait_until
from deploy.services import ROOT
from shared.service_process import free_port

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
        wait_until(self._listens, self.text)

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
