"""The extraction service for tests of what happens around it: they send the same few photos thousands of times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shared.service_process import ServiceProcess


class RememberingExtraction(ServiceProcess):
    """The extraction service as a real process with its real network, which computes each crop once.

    Args:
        bind: its address.
        environment: its settings otherwise.
        log: file that gets its log.
        seconds: what each crop takes from the second time on, without the processor.
    """

    def __init__(self, bind: str, environment: Mapping[str, str], log: Path, seconds: float = 0) -> None:
        own = {"EXTRACTION_BIND": bind, "REMEMBERED_SECONDS": str(seconds)}
        super().__init__("feature_extraction", bind, {**environment, **own}, log)
        self.configuration = Path(__file__).with_name("remembering.conf.py")
