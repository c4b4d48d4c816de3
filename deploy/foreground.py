"""Both services as long as somebody wants them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType

from deploy import web_assets
from deploy.services import ROOT, Services
from shared.errors import StartupError
from shared.service_process import fetch_weights
from shared.settings import ExtractionSettings, FrontSettings
from shared.signals import SIGNALS, abandon, ignore, tell


class _Signals:
    """The first one raises KeyboardInterrupt, and Ctrl-C after that ends the services at once.

    No other does: who sends SIGTERM to a group of processes sends it twice, since make passes it on.
    """

    def __init__(self, services: Services) -> None:
        self.ready = self.stopping = False
        self.status = 0
        """With which the program ends for them."""
        self._services = services

    def heed(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            if self.ready:
                with suppress(OSError):  # the terminal is gone
                    os.write(1, b"\nStopping ... (Ctrl-C again: at once)\n")
            else:
                tell(number)
                self.status = 128 + number
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            self.status = 128 + number
            self._services.kill()


def run() -> int:
    """Run both until a signal or the end of one of them; returns the exit status."""
    started, parent = time.monotonic(), os.getppid()
    # A terminal is for people: routine log lines stay out unless asked for.
    environment = {"LOG_LEVEL": "WARNING", **os.environ}
    try:
        services = Services(environment)
        signals = _Signals(services)
        signals.heed()
        try:
            _start(services, environment)
            signals.ready = True
            _greet(services, time.monotonic() - started)
            return _watch(services, parent)
        except BrokenPipeError:  # nobody reads what is printed
            abandon(sys.stdout.fileno())
            signals.status = 128 + signal.SIGPIPE
        finally:
            signals.stopping = True
            services.stop()
            ignore()  # the interpreter would die of them while it ends itself
    except StartupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return signals.status


def _start(services: Services, environment: Mapping[str, str]) -> None:
    services.check_free()
    fetch_weights(environment, ExtractionSettings.from_environment(environment).model)
    problem = web_assets.ensure(ROOT / FrontSettings.from_environment(environment).web_assets)
    if problem:
        print(f"note: {problem}", file=sys.stderr)
    print("Starting ...", flush=True)
    services.start()


def _greet(services: Services, seconds: float) -> None:
    url = services.front.url
    print(f"Ready after {seconds:.1f} seconds: {url} (documentation: {url}/docs). Ctrl-C stops it. Try:")
    print(f"  curl -X POST {url}/face-recognition -H 'Content-Type: image/jpeg' --data-binary @photo.jpg", flush=True)


def _watch(services: Services, parent: int) -> int:
    """Until one ends, or make does: a shell that has ended may have left this running on purpose, make has not."""
    made = "MAKELEVEL" in os.environ
    while not made or os.getppid() == parent:
        for service in (services.extraction, services.front):
            if service.exit_status is not None:
                print(f"error: {service.package} has ended with status {service.exit_status}.", file=sys.stderr)
                return 1
        time.sleep(0.5)
    return 1
