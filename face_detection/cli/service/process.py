"""The extraction service as a child of this process, for commands that work without a running installation."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping

from face_detection.cli.service.remote import extraction_status
from shared import tethered
from shared.errors import StartupError

_START_SECONDS = 900
"""The first start may download the model's weights."""

_STOP_SECONDS = 35
_LONGEST_REASON = 300


class ExtractionProcess:
    """Not started before it is needed. ``url`` is known at once.

    Args:
        environment: its settings, apart from the address.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bind = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{bind}"
        self._environment = {**environment, "EXTRACTION_BIND": bind}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()

    def ensure_ready(self) -> None:
        """Start it, unless it was started, and wait until it can embed.

        Raises:
            StartupError: it has ended, or is not ready in time.
        """
        if self._process is not None:
            return
        fetch_weights(self._environment)
        configuration = tethered.ROOT / "feature_extraction" / "gunicorn.conf.py"
        self._process = tethered.start(
            "gunicorn",
            "-c",
            str(configuration),
            environment=self._environment,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + _START_SECONDS
        while extraction_status(self.url) != 200:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StartupError(f"The extraction service does not start: {self._reason()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Stop it."""
        if self._process is not None:
            tethered.stop(self._process, _STOP_SECONDS)
        self._log.close()

    def _reason(self) -> str:
        self._log.seek(0)
        return reason_in(self._log.read().decode(errors="replace"))


def reason_in(log: str) -> str:
    """Why a service has ended, from its log: its last error, rather than what gunicorn says of that."""
    reason = "it does not say why."
    for line in log.strip().splitlines():
        try:
            entry = json.loads(line)
            if entry["level"] in ("ERROR", "CRITICAL") and not entry["logger"].startswith("gunicorn"):
                reason = str(entry["message"])
        except (ValueError, KeyError, TypeError):  # not from a logger: from an interpreter that could not begin
            reason = line
    return reason[:_LONGEST_REASON]


def fetch_weights(environment: Mapping[str, str], *models: str) -> None:
    """Fetch weights that are missing: those of the setting MODEL and the detector's unless some are named.

    Raises:
        StartupError: they cannot be had, or this installation has no extraction service.
    """
    if not (tethered.ROOT / "feature_extraction").is_dir():
        raise StartupError("There is no extraction service in this installation: set EXTRACTION_URL to one that runs.")
    # Its progress and its complaints go to this process's standard error.
    if tethered.run("feature_extraction.weights", "fetch", *models, environment=environment, stdout=subprocess.DEVNULL):
        raise StartupError("The weights are not complete (see above).")
