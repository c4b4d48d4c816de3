"""A service of this installation as a child process."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO

from shared import tethered
from shared.errors import StartupError
from shared.settings import split_bind

_STOP_SECONDS = 35


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch_weights(environment: Mapping[str, str], *models: str, stdout: int | None = None) -> None:
    """Fetch weights that are missing, in a process of its own, which shows its progress and gives its memory back.

    Args:
        environment: the settings.
        models: whose weights; those of the setting MODEL and of the detector when there are none.
        stdout: where the files that are there then are listed, as for ``subprocess.Popen``.

    Raises:
        StartupError: they cannot be had, or this installation has no extraction service.
    """
    if not (tethered.ROOT / "feature_extraction").is_dir():
        raise StartupError("There is no extraction service in this installation: set EXTRACTION_URL to one that runs.")
    if tethered.run("feature_extraction.weights", "fetch", *models, environment=environment, stdout=stdout):
        whose = f" of {', '.join(models)}" if models else ""
        raise StartupError(f"The weights{whose} are not complete (see above).")


class ServiceProcess:
    """One service under gunicorn, which ends with this process, see ``tethered``.

    Args:
        package: ``feature_extraction`` or ``face_detection``.
        bind: its address.
        environment: its settings, which name the address, too.
        log: file that gets its log; None leaves it on this process's standard error.
    """

    def __init__(
        self, package: str, bind: str, environment: Mapping[str, str], log: Path | IO[bytes] | None = None
    ) -> None:
        self.package = package
        self.bind = bind
        self.configuration = tethered.ROOT / package / "gunicorn.conf.py"
        host, self._port = split_bind(bind)
        self._host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of gunicorn's master. The service must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Status with which the process has ended, None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the process; ``wait_until_ready`` waits for it."""
        with self._log.open("ab") if isinstance(self._log, Path) else nullcontext(self._log) as log:
            self._process = tethered.start(
                "gunicorn",
                "-c",
                str(self.configuration),
                environment=self._environment,
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until /readyz answers 200.

        Raises:
            StartupError: the process has ended, or is not ready in time.
        """
        deadline = time.monotonic() + seconds
        reason = "it does not answer"
        while time.monotonic() < deadline:
            if self.exit_status is not None:
                raise StartupError(f"{self.package} has ended with status {self.exit_status}; its log says why.")
            with closing(http.client.HTTPConnection(self._host, self._port, timeout=5)) as connection:
                try:
                    connection.request("GET", "/readyz")
                    response = connection.getresponse()
                    if response.status == 200:
                        return
                    reason = json.loads(response.read())["error"]["message"]
                except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
                    pass
            time.sleep(0.05)
        raise StartupError(f"{self.package} was not ready within {seconds:g} seconds: {reason}")

    def stop(self) -> None:
        """Ask the process to finish what it does and to end; kill it when it does not."""
        if self._process is not None:
            tethered.stop(self._process, _STOP_SECONDS)

    def kill(self) -> None:
        """End the process and its workers at once."""
        if self._process is not None:
            tethered.kill(self._process)
