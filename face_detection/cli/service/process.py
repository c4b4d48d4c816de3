"""The extraction service as a child of this process, for commands that work without a running installation."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping

from shared import tethered
from shared.errors import StartupError
from shared.service_process import ServiceProcess, free_port

_START_SECONDS = 900
"""The first start may download the model's weights."""

_LONGEST_REASON = 300


class ExtractionProcess:
    """Not started before it is needed. ``url`` is known at once.

    Args:
        environment: its settings, apart from the address.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        bind = f"127.0.0.1:{free_port()}"
        self._environment = {**environment, "EXTRACTION_BIND": bind}
        self._log = tempfile.TemporaryFile()
        self._process = ServiceProcess("feature_extraction", bind, self._environment, self._log)
        self.url = self._process.url
        self._started = False

    def ensure_ready(self) -> None:
        """Start it, unless it was started, and wait until it can embed.

        Raises:
            StartupError: it has ended, or is not ready in time.
        """
        if self._started:
            return
        fetch_weights(self._environment)
        self._started = True
        self._process.start()
        try:
            self._process.wait_until_ready(_START_SECONDS)
        except StartupError as error:
            self._log.seek(0)
            reason = reason_in(self._log.read().decode(errors="replace"))
            raise StartupError(f"The extraction service does not start: {reason}") from error

    def close(self) -> None:
        """Stop it."""
        self._process.stop()
        self._log.close()


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
