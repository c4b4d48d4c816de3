"""Search: ours against a matrix-vector product, other libraries, and the original service's way; loading; memory.

All contestants of a table take turns in one run, on the same random unit vectors, and the medians are reported.
BLAS has one thread per call, here as in the front, where threads come from the pool; the product to compare with
is split over all cores. faiss and usearch have as many threads as there are cores. Whoever has its turn sleeps
first, since threads of the one before (OpenMP's) may still spin, and is called twice, of which the second counts.

Example:
    python -m benchmarks.search          # up to 10^5 samples, and 2·10^5 × 512
    python -m benchmarks.search --full   # 10^6 samples too, and their loading
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery import open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample
from face_detection.gallery.search.distances import prepare
from face_detection.gallery.search.memory import MemoryIndex
from shared.models import Metric
from shared.settings import available_cores

SPACE = "benchmark"
METRIC = Metric.TENFOLD_UNIT_EUCLIDEAN
CORES = available_cores()
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SIZES = [(1_000, 128), (10_000, 128), (100_000, 128), (100_000, 512), (200_000, 512)]

Vectors = NDArray[np.float32]
Contestants = dict[str, Callable[[], Any]]


def library(name: str) -> Any:
    """An optional library, or None, which is said once."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed and left out.\n")
        return None


def unit_vectors(count: int, dimensions: int, seed: int) -> Vectors:
    """(count, dimensions) float32 of random directions."""
    return prepare(np.random.default_rng(seed).standard_normal((count, dimensions), np.float32), METRIC)


def fill(database: str, rows: Vectors) -> None:
    """Store the rows as samples of one tenant."""
    store = open_gallery(database).store
    for start in range(0, len(rows), 20_000):
        part = enumerate(rows[start : start + 20_000], start)
        store.upsert(DEFAULT_TENANT, [NewSample(f"id {n}", f"name {n}", {"number": n}, SPACE, row) for n, row in part])
    store.close()


def take_turns(contestants: Contestants, seconds: float) -> dict[str, float]:
    """Median seconds of each, which take turns for about so long, at least five turns each."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    stop = time.monotonic() + seconds
    while time.monotonic() < stop or len(next(iter(taken.values()))) < 5:
        for name, call in contestants.items():
            time.sleep(0.01)
            call()
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def split(pool: ThreadPoolExecutor, rows: Any, function: Callable[[Any], Any]) -> list[Any]:
    """A function of each of as many equal parts of the rows as there are cores, at the same time."""
    return list(pool.map(function, np.array_split(rows, CORES)))


def in_vec0(rows: Vectors, sqlite_vec: Any) -> sqlite3.Connection:
    """The rows in a virtual table of sqlite-vec."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    connection.execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{rows.shape[1]}])")
    connection.executemany("INSERT INTO v (rowid, e) VALUES (?, ?)", enumerate(map(bytes, rows)))
    return connection


def original(rows: Vectors) -> Callable[[Vectors], int]:
    """The original service's way: vectors as JSON text, parsed and compared in a loop for every face."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE samples (id INTEGER PRIMARY KEY, vector TEXT)")
    connection.executemany(
        "INSERT INTO samples VALUES (?, ?)", ((n, json.dumps(r.tolist())) for n, r in enumerate(rows))
    )

    def search(probe: Vectors) -> int:
        best, nearest = np.inf, -1
        for id, text in connection.execute("SELECT id, vector FROM samples"):
            distance = float(np.linalg.norm(np.array(json.loads(text)) - probe))
            if distance < best:
                best, nearest = distance, id
        return nearest

    return search


def exact(count: int, dimensions: int, seconds: float, libraries: dict[str, Any]) -> None:
    """Print the table of one size."""
    rows, probes = unit_vectors(count, dimensions, 0), unit_vectors(16, dimensions, 1)
    one, halves = probes[:1], rows.astype(np.int8)  # as many bytes as int8 copies have
    pool = ThreadPoolExecutor(CORES)
    faiss, usearch, sqlite_vec = (libraries[name] for name in ("faiss", "usearch.index", "sqlite_vec"))
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "gallery.db")
        fill(database, rows)
        store = open_gallery(database).store
        index = MemoryIndex(store, SPACE, METRIC)
        index.refresh()
        tables: dict[int, Contestants] = {}
        for size, wanted in ((1, one), (16, probes)):
            tables[size] = {
                "float32 product, split over the cores": lambda w=wanted: split(pool, rows, lambda part: part @ w.T),
                "reading the float32 matrix": lambda: split(pool, rows, np.max),
                "reading as many int8": lambda: split(pool, halves, np.max),
                "ours": lambda w=wanted: index.nearest(DEFAULT_TENANT, w),
            }
            if faiss:
                flat = faiss.IndexFlatIP(dimensions)
                flat.add(rows)
                tables[size]["faiss IndexFlatIP"] = lambda w=wanted, flat=flat: flat.search(w, 1)
            if usearch:
                tables[size]["usearch exact"] = lambda w=wanted: usearch.search(
                    rows, w, 1, usearch.MetricKind.IP, exact=True, threads=CORES
                )
        if sqlite_vec and count <= 100_000:
            table = in_vec0(rows, sqlite_vec)
            query = "SELECT rowid FROM v WHERE e MATCH ? AND k = 1"
            tables[1]["sqlite-vec"] = lambda: table.execute(query, (bytes(one[0]),)).fetchall()
        if count == 10_000:
            search = original(rows)
            tables[1]["the original's way"] = lambda: search(one[0])
        found = [neighbours[0].key - 1 for neighbours in index.nearest(DEFAULT_TENANT, probes)]
        if found != (probes @ rows.T).argmax(axis=1).tolist():
            sys.exit("The nearest sample is not the one with the greatest product.")
        for size, contestants in tables.items():
            print(
                f"### {count:,} × {dimensions}, {size} probe{'s'[: size > 1]}\n\n| | ms | against ours |\n|---|---|---|"
            )
            medians = take_turns(contestants, seconds)
            for name, median in medians.items():
                print(f"| {name} | {median * 1e3:.2f} | {median / medians['ours']:.2f} |")
            print(flush=True)
        store.close()


def resident() -> int:
    """Bytes of memory that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def load(database: str, count: int, dimensions: int) -> None:
    """Print what loading a database takes; in a process of its own, so that memory is its own too."""
    store = open_gallery(database).store
    index = MemoryIndex(store, SPACE, METRIC)
    before, started, busy = resident(), time.perf_counter(), time.process_time()
    index.refresh()
    taken, busy = time.perf_counter() - started, time.process_time() - busy
    index.nearest(DEFAULT_TENANT, unit_vectors(1, dimensions, 1))
    matrix = count * dimensions * 4
    extra = (resident() - before) / matrix - 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"### Loading {count:,} × {dimensions}\n\n| | |\n|---|---|")
    print(f"| seconds, from SQLite | {taken:.1f} (CPU: {busy:.1f}) |")
    print(f"| memory beyond the {matrix / 2**20:.0f} MiB of the matrix | {extra:.0%} |")
    print(f"| the same at its peak | {(peak - before) / matrix - 1:.0%} |\n", flush=True)


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10^6 samples too, and their loading")
    parser.add_argument("--seconds", type=float, default=3, help="about so long for each table")
    parser.add_argument("--sizes", nargs="+", metavar="NxD", help="these sizes only, such as 1000000x128")
    parser.add_argument("--load", nargs=3, metavar=("DATABASE", "COUNT", "DIMENSIONS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        database, count, dimensions = arguments.load
        return load(database, int(count), int(dimensions))
    if not SINGLE_THREADED.items() <= os.environ.items():  # read when NumPy is imported, hence the new start
        command = [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **SINGLE_THREADED})
    libraries = {name: library(name) for name in ("faiss", "usearch.index", "sqlite_vec")}
    if libraries["sqlite_vec"] and not hasattr(sqlite3.Connection, "enable_load_extension"):
        print("sqlite_vec is left out: this Python's sqlite3 was built without loadable extensions.\n")
        libraries["sqlite_vec"] = None
    sizes = SIZES + [(1_000_000, 128)] * arguments.full
    if arguments.sizes:
        sizes = [(int(count), int(dimensions)) for count, dimensions in (size.split("x") for size in arguments.sizes)]
    print(f"{CORES} cores, NumPy {np.__version__}\n")
    for count, dimensions in sizes:
        exact(count, dimensions, arguments.seconds, libraries)
    if arguments.full:
        with tempfile.TemporaryDirectory() as folder:
            database = str(Path(folder) / "gallery.db")
            fill(database, unit_vectors(1_000_000, 128, 0))
            command = [sys.executable, "-m", "benchmarks.search", "--load", database, "1000000", "128"]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
