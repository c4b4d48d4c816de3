"""``make run``: fetch what is missing, start both services, wait until they are ready, stop both on Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

from deploy import web_assets
from deploy.services import ROOT, Services
from shared.errors import StartupError
from shared.settings import ExtractionSettings, FrontSettings, split_bind


def main() -> int:
    """Run until a signal or the end of a service; returns the exit status."""
    # A terminal is for people: routine log lines stay out unless asked for.
    environment = {"LOG_LEVEL": "WARNING", **os.environ}
    # SIGINT too: who is started in the background of a shell script inherits that it is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        services = Services(environment)
        for bind in services.binds:
            _check_free(bind)
        _fetch_weights(ExtractionSettings.from_environment(environment).model)
        problem = web_assets.ensure(ROOT / FrontSettings.from_environment(environment).web_assets)
        if problem:
            print(f"note: {problem}", file=sys.stderr)
        print("Starting ...", flush=True)
        services.start()
    except StartupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    try:
        _greet(services, time.monotonic() - started)
        return _watch(services)
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
        return 0
    finally:
        services.stop()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_free(bind: str) -> None:
    host, port = split_bind(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"Cannot bind to {bind}: {error.strerror}. Choose another address with FRONT_BIND or EXTRACTION_BIND."
            ) from error


def _fetch_weights(model: str) -> None:
    """In a process of its own, which shows its progress and gives its memory back."""
    command = [sys.executable, "-m", "feature_extraction.weights", "fetch", model]
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        raise StartupError(f"The weights of {model} are not complete (see above).")


def _greet(services: Services, seconds: float) -> None:
    url = services.front.url
    print(f"Ready after {seconds:.1f} seconds: {url} (documentation: {url}/docs). Ctrl-C stops it. Try:")
    print(f"  curl -X POST {url}/face-recognition -H 'Content-Type: image/jpeg' --data-binary @photo.jpg", flush=True)


def _watch(services: Services) -> int:
    while True:
        for service in (services.extraction, services.front):
            if service.exit_status is not None:
                print(f"error: {service.package} has ended with status {service.exit_status}.", file=sys.stderr)
                return 1
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
