"""Memory of the extraction service over many requests with changing numbers of faces.

Example:
    python -m benchmarks.memory --requests 10000 --most-crops 8
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.load import generate, request
from benchmarks.pipeline import CLIENTS
from benchmarks.processes import resident_bytes
from deploy.services import Services
from shared import wire
from shared.models import find_card
from shared.settings import ExtractionSettings

_ROUND_SECONDS = 10


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--most-crops", type=int, default=8, help="each request has 1 to this many")
    arguments = parser.parse_args()
    alignment = find_card(ExtractionSettings.from_environment().model).alignment
    numbers = np.random.default_rng(0)
    shape = (arguments.most_crops, alignment.height, alignment.width, 3)
    crops = numbers.integers(0, 256, shape, dtype=np.uint8)
    bodies = [wire.encode_array(crops[: count + 1]) for count in numbers.integers(0, arguments.most_crops, 64)]
    with tempfile.TemporaryDirectory() as folder:
        with Services.on_free_ports({**os.environ, "LOG_LEVEL": "WARNING"}, Path(folder)) as services:
            service = services.extraction
            requests = [request(service.url, "/embeddings", body, wire.ARRAY_TYPE) for body in bodies]
            print("| requests | MiB |\n|---|---|")
            print(f"| 0 | {resident_bytes(service.pid) / 2**20:.0f} |", flush=True)
            done = failed = 0
            while done < arguments.requests:
                load = generate(service.url, requests, CLIENTS, _ROUND_SECONDS)
                done, failed = done + len(load.latencies), failed + load.failures
                print(f"| {done:,} | {resident_bytes(service.pid) / 2**20:.0f} |", flush=True)
    print(f"\n{failed} requests failed.")


if __name__ == "__main__":
    main()
