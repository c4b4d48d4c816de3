"""Both services as child processes."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from shared import tethered
from shared.errors import StartupError
from shared.settings import ExtractionSettings, FrontSettings, split_bind

ROOT = tethered.ROOT

_STOP_SECONDS = 35


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """One service under gunicorn.

    Args:
        package: ``feature_extraction`` or ``face_detection``.
        bind: its address.
        environment: its settings.
        log: file that gets its log; None leaves it on this process's standard error.
    """

    def __init__(self, package: str, bind: str, environment: Mapping[str, str], log: Path | None = None) -> None:
        self.package = package
        self.bind = bind
        self.configuration = ROOT / package / "gunicorn.conf.py"
        host, port = split_bind(bind)
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        self.url = f"http://{reachable}:{port}"
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
        with nullcontext() if self._log is None else self._log.open("ab") as log:
            self._process = tethered.start(
                "gunicorn",
                "-c",
                str(self.configuration),
                environment=self._environment,
                cwd=ROOT,
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
            try:
                response = requests.get(f"{self.url}/readyz", timeout=5)
                if response.status_code == 200:
                    return
                reason = response.json()["error"]["message"]
            except (requests.RequestException, ValueError, KeyError):
                pass
            time.sleep(0.1)
        raise StartupError(f"{self.package} was not ready within {seconds:g} seconds: {reason}")

    def stop(self) -> None:
        """Ask the process to finish what it does and to end; kill it when it does not."""
        if self._process is not None:
            tethered.stop(self._process, _STOP_SECONDS)

    def kill(self) -> None:
        """End the process and its workers at once."""
        if self._process is not None:
            tethered.kill(self._process)


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
        self.extraction = Service(
            "feature_extraction", extraction.extraction_bind, environment, logs and logs / "extraction.log"
        )
        own = {"EXTRACTION_URL": self.extraction.url}
        self.front = Service("face_detection", front.front_bind, own | environment, logs and logs / "front.log")

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
