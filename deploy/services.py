"""Both services as child processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from shared import tethered
from shared.service_process import ServiceProcess, free_port
from shared.settings import ExtractionSettings, FrontSettings

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
