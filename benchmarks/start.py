"""How long both services take to be ready when nothing is left to fetch, and how much memory they hold.

Example:
    python -m benchmarks.start --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy import FACES
from benchmarks.load import generate
from benchmarks.pipeline import CLIENTS, recognition_requests
from benchmarks.processes import resident_bytes
from deploy.services import ROOT, Services


def import_seconds(module: str) -> float:
    """Seconds in which a fresh interpreter imports a module, beyond its own start."""

    def run(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        return time.perf_counter() - started

    return run(f"import {module}") - run("pass")


def row(name: str, values: Sequence[float], unit: str) -> str:
    """One line of the report."""
    return f"| {name} | {statistics.median(values):.2f} {unit} | {min(values):.2f} … {max(values):.2f} |"


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(arguments.photos.glob("*/*.jpg"))]
    measured: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        measured.setdefault(name, []).append(value)

    for _ in range(arguments.rounds):
        for module in ("face_detection.app", "feature_extraction.app"):
            note(f"import {module} | s", import_seconds(module))
        with tempfile.TemporaryDirectory() as folder:
            services = Services.on_free_ports({**os.environ, "LOG_LEVEL": "WARNING"}, Path(folder))
            started = time.perf_counter()
            with services:
                note("both services ready | s", time.perf_counter() - started)
                parts = (("front", services.front), ("extraction service", services.extraction))
                for name, service in parts:
                    note(f"memory of the {name} at rest | MiB", resident_bytes(service.pid) / 2**20)
                if photos:
                    generate(services.front.url, recognition_requests(services.front.url, photos), CLIENTS, 3)
                    for name, service in parts:
                        note(f"memory of the {name} after load | MiB", resident_bytes(service.pid) / 2**20)
    print("| | median | least … most |\n|---|---|---|")
    for name, values in measured.items():
        label, unit = name.split(" | ")
        print(row(label, list(np.round(values, 3)), unit))


if __name__ == "__main__":
    main()
