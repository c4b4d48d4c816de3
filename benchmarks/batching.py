"""What merging the crops of concurrent requests gains.

The extraction service runs twice at the same time, once with MAX_BATCH=1 (nothing is merged) and once with the
default. Rounds alternate between the two, so that both see the same state of the machine; only one works at a time.
The limit, the engine alone, is in ``benchmarks.pipeline``.

Example:
    python -m benchmarks.batching --clients 8 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests

from shared import wire
from shared.models import find_card
from shared.service_process import ServiceProcess, free_port
from shared.settings import ExtractionSettings


def concurrent_rate(url: str, body: bytes, clients: int, seconds: float) -> float:
    """Crops per second that ``clients`` get who each send one crop after another."""
    stop = time.monotonic() + seconds
    counts = [0] * clients

    def client(number: int) -> None:
        with requests.Session() as session:
            while time.monotonic() < stop:
                session.post(f"{url}/embeddings", data=body, timeout=60).raise_for_status()
                counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)


def row(name: str, rates: Sequence[float], base: float) -> str:
    """One line of the report."""
    median = statistics.median(rates)
    return f"| {name} | {median:.1f} | {min(rates):.1f} … {max(rates):.1f} | {median / base:.2f} |"


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of a round")
    arguments = parser.parse_args()

    settings = ExtractionSettings.from_environment()
    card = find_card(settings.model)
    shape = (1, card.alignment.height, card.alignment.width, 3)
    body = wire.encode_array(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    batch_sizes = {"merged": settings.max_batch, "not merged": 1}
    rates: dict[str, list[float]] = {name: [] for name in batch_sizes}
    with tempfile.TemporaryDirectory() as folder:
        services = {}
        for name, size in batch_sizes.items():
            bind = f"127.0.0.1:{free_port()}"
            environment = {**os.environ, "EXTRACTION_BIND": bind, "MAX_BATCH": str(size)}
            services[name] = ServiceProcess("feature_extraction", bind, environment, Path(folder) / f"{name}.log")
            services[name].start()
        try:
            for service in services.values():
                service.wait_until_ready(120)
            for _ in range(arguments.rounds):
                for name, service in services.items():
                    rates[name].append(concurrent_rate(service.url, body, arguments.clients, arguments.seconds))
        finally:
            for service in services.values():
                service.stop()
    base = statistics.median(rates["not merged"])
    print(f"{card.name} on {settings.engine}, {arguments.clients} clients, one crop a request")
    print("\n| | crops/s (median) | least … most | against not merged |\n|---|---|---|---|")
    print(row("POST /embeddings, not merged", rates["not merged"], base))
    print(row("POST /embeddings, merged", rates["merged"], base))


if __name__ == "__main__":
    main()
