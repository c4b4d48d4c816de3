"""What lists of people with large metadata cost: how long others wait meanwhile, and memory of the front.

Example:
    python -m benchmarks.answers --people 1000 --metadata 65000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import requests

from benchmarks.processes import children
from deploy.services import Services
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample
from shared.service_process import ServiceProcess


def peak_mib(service: ServiceProcess) -> float:
    """The most memory that a process of a service has held, in MiB."""
    statuses = (Path(f"/proc/{child}/status").read_text() for child in children(service.pid))
    peaks = [status.split("VmHWM:")[1].split()[0] for status in statuses]
    return max(map(int, peaks)) / 1024


def longest_wait(url: str, work: threading.Event) -> float:
    """Seconds that the slowest of many ``/livez`` took until ``work`` was done."""
    session, longest = requests.Session(), 0.0
    while not work.is_set():
        started = time.perf_counter()
        session.get(f"{url}/livez", timeout=60).raise_for_status()
        longest = max(longest, time.perf_counter() - started)
        time.sleep(0.002)
    return longest


def follow(url: str, path: str) -> tuple[int, int]:
    """Ask for all parts of a list; how many there were, and bytes of the largest."""
    parts = largest = 0
    address: str | None = f"{url}{path}?limit=1000"
    while address:
        response = requests.get(address, timeout=120, headers={"Accept-Encoding": "identity"})
        response.raise_for_status()
        parts, largest = parts + 1, max(largest, len(response.content))
        if path == "/people":
            after = response.json()["next"]
            address = after and f"{url}{path}?limit=1000&after={after}"
        else:
            following = response.links.get("next")
            address = following and f"{url}{path}?{following['url'].partition('?')[2]}"
    return parts, largest


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--metadata", type=int, default=65_000, help="bytes of each")
    arguments = parser.parse_args()
    print("| list | parts | largest, MiB | longest wait of others, ms | peak memory of the front, MiB |")
    print("|---|---|---|---|---|")
    for path in ("/people", "/faces/sync"):
        with tempfile.TemporaryDirectory() as folder:
            database = Path(folder) / "gallery.db"
            environment = {**os.environ, "LOG_LEVEL": "WARNING", "DATABASE": str(database)}
            with Services.on_free_ports(environment, Path(folder)) as services:
                url = services.front.url
                space = requests.get(f"{url}/faces/sync", timeout=60).headers["X-Embedding-Space"]
                gallery = open_gallery(str(database))
                metadata = {"lines": ["x" * 60] * (arguments.metadata // 63)}
                vectors = np.random.default_rng(0).standard_normal((arguments.people, 128)).astype(np.float32)
                gallery.store.upsert(
                    DEFAULT_TENANT,
                    [NewSample(f"{i:06}", f"{i}", metadata, space, vector) for i, vector in enumerate(vectors)],
                )
                gallery.close()
                done = threading.Event()
                waits: list[float] = []
                watching = threading.Thread(target=lambda: waits.append(longest_wait(url, done)))  # noqa: B023
                watching.start()
                parts, largest = follow(url, path)
                done.set()
                watching.join()
                peak = peak_mib(services.front)
            print(f"| {path} | {parts} | {largest / 2**20:.1f} | {waits[0] * 1000:.0f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
