"""Approximate search: ours and other indexes of faiss and usearch, against the exact search.

The vectors are like those of FaceNet at unit length: strangers are about 1.3 apart, photos of one person 0.5 to 0.8, in
directions without any other structure, which is the hardest case. Probes are new photos of people with five samples
each, photos at 0.8 to 0.9 from a sample (the threshold is 0.9), and strangers. Every index names candidates, which are
then measured exactly; recall is how often the nearest sample of all is found.

Each contestant runs in a process of its own, so that its memory is its own too, and searches for one probe at a time
on one thread; the exact search uses all cores. BLAS has one thread, as in the front.

Example:
    python -m benchmarks.approximate                  # 10^5, 3·10^5, and 10^6 samples, the last without graphs
    python -m benchmarks.approximate --sizes 20000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search import (
    CORES,
    METRIC,
    SINGLE_THREADED,
    SPACE,
    Vectors,
    fill,
    library,
    resident,
    take_turns,
    unit_vectors,
)
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.search.approximate import Codes
from face_detection.gallery.search.distances import distances, prepare
from face_detection.gallery.search.memory import MemoryIndex

DIMENSIONS = 128
PHOTOS = 5
PROBES = 1000
CANDIDATES = 64
MOST_FOR_GRAPHS = 300_000
KINDS = ("new photo", "near the threshold", "stranger")

Search = Callable[[Vectors], Any]
"""From a (1, dimensions) probe to the positions of candidates."""


def beside(rows: Vectors, apart: tuple[float, float], seed: int) -> Vectors:
    """For each unit row one at a distance between the two."""
    chosen = np.random.default_rng(seed).uniform(*apart, (len(rows), 1))
    tangents = np.sqrt(1 / (1 - chosen**2 / 2) ** 2 - 1)
    return prepare((rows + tangents * unit_vectors(len(rows), DIMENSIONS, seed + 1)).astype(np.float32), METRIC)


def people(count: int, seed: int) -> Vectors:
    """(count, DIMENSIONS) directions that are about 1.3 apart once photos are taken of them."""
    mean = unit_vectors(1, DIMENSIONS, 1000)
    return prepare(np.sqrt(0.2) * mean + np.sqrt(0.8) * unit_vectors(count, DIMENSIONS, seed), METRIC)


def make(folder: Path, count: int) -> None:
    """Save a gallery, its rows, probes of each kind, and which row is the nearest to each."""
    enrolled = people(count // PHOTOS, 0)
    rows = beside(np.repeat(enrolled, PHOTOS, axis=0), (0.36, 0.56), 10)  # from a centre: about 1/√2 of one another
    rows = rows[np.random.default_rng(20).permutation(len(rows))]
    chosen = np.random.default_rng(30)
    probes = {
        KINDS[0]: beside(enrolled[chosen.choice(len(enrolled), PROBES, replace=False)], (0.36, 0.56), 40),
        KINDS[1]: beside(rows[chosen.choice(len(rows), PROBES, replace=False)], (0.8, 0.9), 50),
        KINDS[2]: beside(people(PROBES, 60), (0.36, 0.56), 70),
    }
    np.save(folder / "rows.npy", rows)
    fill(str(folder / "gallery.db"), rows)
    nearest = {}
    for kind, wanted in probes.items():
        best = np.full(PROBES, -np.inf, np.float32)
        nearest[kind] = np.zeros(PROBES, np.int64)
        for start in range(0, len(rows), 50_000):
            products = wanted @ rows[start : start + 50_000].T
            better = products.max(axis=1) > best
            best[better] = products.max(axis=1)[better]
            nearest[kind][better] = start + products.argmax(axis=1)[better]
    np.savez(folder / "probes.npz", **probes)
    np.savez(folder / "nearest.npz", **nearest)


def cells(kind: str, rows: Vectors, faiss: Any) -> Search:
    """An inverted file that reads a quarter of its lists."""
    count = round(2 * len(rows) ** 0.5)
    centres = faiss.IndexFlatL2(DIMENSIONS)
    if kind == "IndexIVFFlat":
        index = faiss.IndexIVFFlat(centres, DIMENSIONS, count)
    elif kind == "IndexIVFScalarQuantizer":
        eight_bits = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(centres, DIMENSIONS, count, eight_bits, faiss.METRIC_L2, False)
    else:
        index = faiss.IndexIVFPQFastScan(centres, DIMENSIONS, count, DIMENSIONS // 2, 4)
        index.by_residual = False
    index.train(rows[np.random.default_rng(0).choice(len(rows), 40 * count, replace=False)])
    for start in range(0, len(rows), 1 << 16):
        index.add(rows[start : start + (1 << 16)])
    index.nprobe = count // 4
    return lambda probe: index.search(probe, CANDIDATES)[1][0]


def faiss_graph(kind: str, rows: Vectors, faiss: Any) -> Search:
    """A graph that keeps 128 nodes in view."""
    faiss.omp_set_num_threads(CORES)
    if kind == "IndexHNSWFlat":
        index = faiss.IndexHNSWFlat(DIMENSIONS, 32)
    else:
        index = faiss.IndexHNSWSQ(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit, 32)
        index.train(rows[:50_000])
    index.add(rows)
    index.hnsw.efSearch = 128
    faiss.omp_set_num_threads(1)
    return lambda probe: index.search(probe, CANDIDATES)[1][0]


def usearch_graph(dtype: str, rows: Vectors, usearch: Any) -> Search:
    """The same with usearch."""
    index = usearch.Index(ndim=DIMENSIONS, metric="cos", dtype=dtype, expansion_search=128)
    index.add(np.arange(len(rows)), rows, threads=CORES)
    return lambda probe: index.search(probe[0], CANDIDATES, threads=1).keys.astype(np.int64)


CONTESTANTS: dict[str, tuple[Callable[[str, Vectors, Any], Search], str, str]] = {
    "faiss IndexIVFFlat": (cells, "IndexIVFFlat", "faiss"),
    "faiss IndexIVFScalarQuantizer, 8 bits": (cells, "IndexIVFScalarQuantizer", "faiss"),
    "faiss IndexIVFPQFastScan": (cells, "IndexIVFPQFastScan", "faiss"),
    "faiss IndexHNSWFlat": (faiss_graph, "IndexHNSWFlat", "faiss"),
    "faiss IndexHNSWSQ, 8 bits": (faiss_graph, "IndexHNSWSQ", "faiss"),
    "usearch Index, f32": (usearch_graph, "f32", "usearch.index"),
    "usearch Index, f16": (usearch_graph, "f16", "usearch.index"),
    "usearch Index, i8": (usearch_graph, "i8", "usearch.index"),
}
OURS = "ours"


def load(folder: Path, name: str) -> Any:
    """What ``make`` saved, for each kind of probe."""
    saved = np.load(folder / f"{name}.npz")
    return {kind: saved[kind] for kind in KINDS}


def report(name: str, built: str, occupied: str, taken: list[float], found: dict[str, float]) -> None:
    """Print a line of the table."""
    median, high = (np.percentile(taken, share) * 1e3 for share in (50, 95))
    recalls = " | ".join(f"{found[kind]:.3f}" for kind in KINDS)
    print(f"| {name} | {built} | {occupied} | {median:.2f} | {high:.2f} | {recalls} |", flush=True)


def compete(name: str, folder: Path) -> None:
    """Build the index of a library and print what it takes and finds."""
    build, kind, package = CONTESTANTS[name]
    module = library(package)
    if module is None:
        return
    rows = np.load(folder / "rows.npy")
    if package == "faiss":
        module.omp_set_num_threads(1)
    build(kind, rows[:20_000], module)  # has buffers allocated that are not the index's
    before, started = resident(), time.perf_counter()
    search = build(kind, rows, module)
    built, occupied = time.perf_counter() - started, (resident() - before) / 2**20
    taken, right, nearest = [], dict.fromkeys(KINDS, 0), load(folder, "nearest")
    for kind, probes in load(folder, "probes").items():
        for probe, wanted in zip(probes, nearest[kind], strict=True):
            started = time.perf_counter()
            candidates = search(probe[np.newaxis])
            candidates = candidates[candidates >= 0]
            best = candidates[distances(rows[candidates], probe, METRIC).argmin()]
            taken.append(time.perf_counter() - started)
            right[kind] += int(best == wanted)
    report(name, f"{built:.1f}", f"{occupied:.0f}", taken, {kind: count / PROBES for kind, count in right.items()})


def ours(folder: Path) -> None:
    """Print the same of the service's own search: exact and approximate, in turns."""
    rows = np.load(folder / "rows.npy")
    Codes.build(rows[:20_000], lambda: False)
    before, started = resident(), time.perf_counter()
    codes = Codes.build(rows, lambda: False)
    built, occupied = time.perf_counter() - started, (resident() - before) / 2**20
    del codes
    store = open_gallery(str(folder / "gallery.db")).store
    searchers = {False: MemoryIndex(store, SPACE, METRIC, approximate_above=1), True: MemoryIndex(store, SPACE, METRIC)}
    for searcher in searchers.values():
        searcher.refresh()
    while searchers[False].nearest(DEFAULT_TENANT, rows[:1]).exact:
        time.sleep(0.1)
    nearest = load(folder, "nearest")
    taken: dict[bool, list[float]] = {exact: [] for exact in searchers}
    right = {exact: dict.fromkeys(KINDS, 0) for exact in searchers}
    for kind, probes in load(folder, "probes").items():
        for turn in np.split(np.arange(PROBES), PROBES // 50):
            for exact, searcher in searchers.items():
                for number in turn:
                    started = time.perf_counter()
                    found = searcher.nearest(DEFAULT_TENANT, probes[number : number + 1])
                    taken[exact].append(time.perf_counter() - started)
                    right[exact][kind] += int(found[0][0].key - 1 == nearest[kind][number])
    shares = {exact: {kind: count / PROBES for kind, count in counts.items()} for exact, counts in right.items()}
    report("exact search", "", "", taken[True], shares[True])
    report("**approximate search**", f"{built:.1f}", f"{occupied:.0f}", taken[False], shares[False])
    for size in (4, 16):
        wanted = load(folder, "probes")[KINDS[0]][:size]
        contestants = {
            "exact": partial(searchers[True].nearest, DEFAULT_TENANT, wanted),
            "approximate": partial(searchers[False].nearest, DEFAULT_TENANT, wanted),
        }
        medians = take_turns(contestants, 2)
        print(
            f"\n{size} probes at once: " + ", ".join(f"{name} {ms * 1e3:.2f} ms" for name, ms in medians.items()) + "."
        )
    print(flush=True)
    store.close()


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[100_000, 300_000, 1_000_000], help="numbers of samples"
    )
    parser.add_argument("--contestant", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        name, folder = arguments.contestant
        return ours(Path(folder)) if name == OURS else compete(name, Path(folder))
    environment = {**os.environ, **SINGLE_THREADED}
    for count in arguments.sizes:
        print(f"### {count:,} × {DIMENSIONS}\n")
        print(
            f"| | build, s | memory, MiB | ms, one probe | ms, 95 % | {' | '.join(KINDS)} |\n|{'---|' * 8}", flush=True
        )
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count)
            for name, (build, _, _) in CONTESTANTS.items():
                if build is cells or count <= MOST_FOR_GRAPHS:
                    command = [sys.executable, "-m", "benchmarks.approximate", "--contestant", name, folder]
                    subprocess.run(command, check=True, env=environment)
            command = [sys.executable, "-m", "benchmarks.approximate", "--contestant", OURS, folder]
            subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
