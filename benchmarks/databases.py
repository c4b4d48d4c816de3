"""SQLite beside PostgreSQL: how fast people are stored, asked for and loaded.

Both databases sync every transaction to the same disk. PostgreSQL is a server of its own on this machine, with the
settings that it comes with, reached over TCP; --postgres measures another one, in an empty database of yours.

Example:
    python -m benchmarks.databases --samples 100000 --dimensions 512
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deploy.servers.postgres import MISSING, PostgresServer, programs
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.sql.store import Store
from shared.models import Metric

BATCH = 1000
SPACE = "benchmark"


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median of a call."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


def batch(first: int, count: int, dimensions: int) -> list[NewSample]:
    """People with numbers as ids."""
    vectors = np.random.default_rng(first).standard_normal((count, dimensions)).astype(np.float32)
    return [
        NewSample(str(number), f"Person {number}", {"number": number}, SPACE, vector)
        for number, vector in enumerate(vectors, start=first)
    ]


def storing(store: Store, samples: int, dimensions: int) -> float:
    """Seconds in which people are stored in batches."""
    taken = 0.0
    for first in range(0, samples, BATCH):
        new = batch(first, BATCH, dimensions)
        started = time.perf_counter()
        store.upsert(DEFAULT_TENANT, new)
        taken += time.perf_counter() - started
    return taken


def measure(store: Store, samples: int, dimensions: int) -> Iterator[tuple[str, str]]:
    """Fill a new store and ask it; a row of the table after the other."""
    yield f"store {samples:,} people, {BATCH:,} at once", f"{samples / storing(store, samples, dimensions):,.0f} /s"
    again = min(samples, 10_000)
    yield f"store {again:,} of them again", f"{again / storing(store, again, dimensions):,.0f} /s"
    one = iter(batch(samples, 200, dimensions))
    yield "store one person", f"{milliseconds(lambda: store.upsert(DEFAULT_TENANT, [next(one)]), 200):.2f} ms"
    yield "ask for the last change", f"{milliseconds(store.last_change, 2000) * 1000:.0f} µs"
    key = store.samples(DEFAULT_TENANT, "7")[0].key
    yield "get one sample", f"{milliseconds(lambda: store.by_keys(DEFAULT_TENANT, [key]), 1000) * 1000:.0f} µs"
    yield "a page of 100 people", f"{milliseconds(lambda: store.page(DEFAULT_TENANT, 100, '5'), 200):.2f} ms"
    started = time.perf_counter()
    index = MemoryIndex(store, SPACE, Metric.EUCLIDEAN)
    index.refresh()
    assert index.size(DEFAULT_TENANT) == samples + 200
    yield f"load {index.size(DEFAULT_TENANT):,} samples into memory", f"{time.perf_counter() - started:.2f} s"


@contextmanager
def databases(postgres: str | None) -> Iterator[dict[str, str]]:
    """What DATABASE is for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite = str(Path(folder) / "gallery.db")
        if postgres is not None:
            yield {"SQLite": sqlite, "PostgreSQL": postgres}
            return
        found = programs()
        if found is None:
            raise SystemExit(f"This benchmark {MISSING}, or --postgres.")
        with PostgresServer(found) as server:
            yield {"SQLite": sqlite, "PostgreSQL": server.database("benchmark")}


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--postgres", metavar="URL", help="an empty database to measure; it is filled")
    arguments = parser.parse_args()
    columns: dict[str, dict[str, str]] = {}
    with databases(arguments.postgres) as urls:
        for kind, url in urls.items():
            gallery = open_gallery(url)
            columns[kind] = dict(measure(gallery.store, arguments.samples, arguments.dimensions))
            gallery.close()
    print(f"{arguments.dimensions} dimensions.\n")
    print(f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for what in columns["SQLite"]:
        print(f"| {what} | {' | '.join(column[what] for column in columns.values())} |")


if __name__ == "__main__":
    main()
