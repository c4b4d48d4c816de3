"""The searchers of SEARCH beside one another: filling the database, catching up from nothing, searching, room.

All search one PostgreSQL gallery of FaceNet's embeddings (``benchmarks.scale_faces``) for one face at a time, as a
front does, through the follower with its check of the latest change and its exact measuring of the candidates.
Recall is how often the nearest sample of all is found. Each searcher has a process of its own, the front's, while
PostgreSQL and Milvus have theirs on the same machine. Unless --postgres and --milvus name others, these are a
PostgreSQL with the settings it comes with, and Milvus Lite: one process in Python, not the Milvus of a cluster.

Example:
    python -m benchmarks.searchers --samples 10000 100000
    python -m benchmarks.searchers --samples 1000000 --searchers memory pgvector --minutes 30
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg

from benchmarks import scale_faces
from benchmarks.approximate import DIMENSIONS
from benchmarks.processes import resident_bytes
from benchmarks.scale_faces import KINDS, Faces
from benchmarks.search import METRIC, SINGLE_THREADED, SPACE, Vectors, resident
from deploy.servers.milvus import MilvusServer
from deploy.servers.postgres import MISSING, PostgresServer, programs
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample
from face_detection.gallery.search.searcher import Searcher
from face_detection.gallery.searchers import open_index, searchers
from shared.settings import FrontSettings

NAMES = ("memory", "pgvector", "milvus")
CANDIDATES = (100, 200, 400, 1000)
BATCH = 1000
_TOLERANCE = 1e-5
_WARM = 50
_LONGEST = 20.0
"""Seconds after which further probes of a kind are left out."""


class Servers(NamedTuple):
    """Addresses for DATABASE and SEARCH_URL; and Milvus itself, if it is ours."""

    postgres: str
    milvus_url: str | None
    milvus: MilvusServer | None


@contextmanager
def servers(postgres: str | None, milvus: str | None, names: list[str]) -> Iterator[Servers]:
    """What the options name, or new ones."""
    with ExitStack() as stack:
        if postgres is None:
            found = programs()
            if found is None:
                raise SystemExit(f"This benchmark {MISSING}, or --postgres.")
            postgres = stack.enter_context(PostgresServer(found)).database("benchmark")
        lite = None
        if milvus is None and "milvus" in names:
            lite = stack.enter_context(MilvusServer(flush_bytes=None))
            milvus = lite.url
        yield Servers(postgres, milvus, lite)


def fill(url: str, rows: Vectors) -> float:
    """Store the rows as people with one sample each; samples per second."""
    gallery = open_gallery(url)
    taken = 0.0
    for start in range(0, len(rows), BATCH):
        part = enumerate(rows[start : start + BATCH], start)
        new = [NewSample(f"id {n}", f"name {n}", {"number": n}, SPACE, row) for n, row in part]
        started = time.perf_counter()
        gallery.store.upsert(DEFAULT_TENANT, new)
        taken += time.perf_counter() - started
    gallery.close()
    return len(rows) / taken


def catch_up(settings: FrontSettings, gallery: Gallery, minutes: float) -> tuple[Searcher, str]:
    """A searcher that has everything, and how long that took.

    Raises:
        SystemExit: it took too long.
    """
    last = gallery.store.last_change()
    deadline = time.monotonic() + 60 * minutes
    started = time.perf_counter()
    searcher = searchers(settings, gallery)(SPACE, DIMENSIONS, METRIC)
    if settings.search == "memory":
        searcher.refresh()
        took = time.perf_counter() - started
        return searcher, f"caught up in {took:.1f} s ({last / took:,.0f} samples/s)"
    index = open_index(settings, gallery, SPACE, DIMENSIONS, METRIC)
    while (position := index.position()) < last:
        if time.monotonic() > deadline:
            raise SystemExit(f"stopped after {minutes:g} minutes with {position:,} of {last:,} samples")
        time.sleep(0.1)
    took = time.perf_counter() - started
    text = f"caught up in {took:.1f} s ({last / took:,.0f} samples/s)"
    index.close()
    wait_for(searcher)
    if settings.search == "pgvector" and gallery.store.count(DEFAULT_TENANT) >= settings.search_exact_below:
        text += f", HNSW index after another {until_approximate(searcher, deadline):.1f} s"
    return searcher, text


def wait_for(searcher: Searcher) -> None:
    """Wait until a searcher has nothing pending; a new one cannot know how long the index has been where it is."""
    while searcher.lag:
        time.sleep(0.1)


def until_approximate(searcher: Searcher, deadline: float) -> float:
    """Seconds until the first approximate search."""
    started = time.perf_counter()
    probe = np.ones((1, DIMENSIONS), np.float32)
    while True:
        asked = time.perf_counter()
        if not searcher.nearest(DEFAULT_TENANT, probe).exact:
            break
        if time.monotonic() > deadline:
            raise SystemExit("the HNSW index was not ready in time")
        time.sleep(max(1.0, 20 * (time.perf_counter() - asked)))  # a scan takes from what makes the index
    return time.perf_counter() - started


def search(searcher: Searcher, folder: Path) -> str:
    """A line of the table."""
    probes, nearest = np.load(folder / "probes.npz"), np.load(folder / "nearest.npz")
    for probe in probes[KINDS[0]][:_WARM]:
        searcher.nearest(DEFAULT_TENANT, probe[np.newaxis])
    taken: list[float] = []
    recalls = []
    for kind in KINDS:
        right: list[bool] = []
        stop = time.monotonic() + _LONGEST
        for probe, wanted in zip(probes[kind], nearest[kind], strict=True):
            started = time.perf_counter()
            found = searcher.nearest(DEFAULT_TENANT, probe[np.newaxis])
            taken.append(time.perf_counter() - started)
            right.append(bool(found[0]) and found[0][0].distance <= wanted * (1 + _TOLERANCE))
            if time.monotonic() > stop:
                break
        fewer = f" of {len(right)}" if len(right) < len(nearest[kind]) else ""
        recalls.append(f"{np.mean(right):.4f}{fewer}")
    median, high = (np.percentile(taken, share) * 1e3 for share in (50, 99))
    return f"| {'exact' if found.exact else 'approximate'} | {median:.2f} | {high:.2f} | {' | '.join(recalls)} |"


def contestant(folder: Path, minutes: float, candidates: list[int]) -> None:
    """Measure what SEARCH names, in a process of its own, and print it."""
    settings = FrontSettings.from_environment()
    gallery = open_gallery(settings.database)
    before = resident()
    searcher, text = catch_up(settings, gallery, minutes)
    print(text, end="", flush=True)
    several = (
        settings.search != "memory" and not searcher.nearest(DEFAULT_TENANT, np.ones((1, DIMENSIONS), np.float32)).exact
    )
    print(f"\n\n| SEARCH_CANDIDATES | | ms, median | ms, 99 % | {' | '.join(KINDS)} |\n|{'---|' * 7}", flush=True)
    for number in candidates if several else [settings.search_candidates]:
        searcher.close()
        chosen = settings.model_copy(update={"search_candidates": number})
        searcher = searchers(chosen, gallery)(SPACE, DIMENSIONS, METRIC)
        wait_for(searcher)
        print(f"| {number if several else ''} {search(searcher, folder)}", flush=True)
    print(f"\nThe front's memory grew by {(resident() - before) / 2**20:.0f} MiB.", flush=True)
    searcher.close()
    gallery.close()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def pgvector_bytes(url: str) -> tuple[int, int]:
    """Bytes of the tables of vectors with their ordinary indexes, and of their HNSW indexes."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """
            SELECT coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE relkind = 'r'), 0)::bigint,
                coalesce(sum(pg_relation_size(oid)) FILTER (
                    WHERE relkind = 'i' AND relam = (SELECT oid FROM pg_am WHERE amname = 'hnsw')
                ), 0)::bigint
            FROM pg_class WHERE starts_with(relname, 'vectors_')
            """
        ).fetchall()
    everything, graphs = rows[0]
    return everything - graphs, graphs


def room(name: str, used: Servers, samples: int) -> None:
    """Print what an index takes outside of the front."""
    if name == "pgvector":
        table, graphs = pgvector_bytes(used.postgres)
        print(f"\nTable {table / samples:.0f} bytes per sample, HNSW index {graphs / samples:.0f}.")
    elif name == "milvus" and used.milvus is not None:
        data, memory = folder_bytes(used.milvus.data), resident_bytes(used.milvus.pid)
        print(f"\nFiles {data / samples:.0f} bytes per sample, its process {memory / samples:.0f} in memory.")


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--searchers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--candidates", nargs="+", type=int, default=list(CANDIDATES), help="of SEARCH_CANDIDATES")
    parser.add_argument("--uneven", action="store_true", help="made-up people are as unevenly spread as the photos'")
    parser.add_argument("--minutes", type=float, default=15, help="most for one searcher to catch up")
    parser.add_argument("--postgres", metavar="URL", help="an empty database to measure; it is filled")
    parser.add_argument("--milvus", metavar="URL", help="a Milvus to measure")
    parser.add_argument("--contestant", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return contestant(arguments.contestant, arguments.minutes, arguments.candidates)
    if arguments.postgres and len(arguments.samples) > 1:
        parser.error("one database has room for one size")
    faces = Faces()
    for count in arguments.samples:
        with (
            tempfile.TemporaryDirectory() as folder,
            servers(arguments.postgres, arguments.milvus, arguments.searchers) as used,
        ):
            gallery = scale_faces.make(faces, count, arguments.uneven)
            np.savez(Path(folder) / "probes.npz", allow_pickle=False, **gallery.probes)
            np.savez(Path(folder) / "nearest.npz", allow_pickle=False, **gallery.nearest)
            rate = fill(used.postgres, gallery.rows)
            print(f"### {count:,} × {DIMENSIONS}: stored at {rate:,.0f} samples/s\n", flush=True)
            for name in arguments.searchers:
                print(f"**{name}** ", end="", flush=True)
                command = [sys.executable, "-m", "benchmarks.searchers", "--contestant", folder]
                environment = {
                    **os.environ,
                    **SINGLE_THREADED,
                    "DATABASE": used.postgres,
                    "SEARCH": name,
                    "SEARCH_URL": (used.milvus_url or "") if name == "milvus" else "",
                    "SEARCH_OVERLAY": str(BATCH),  # so that what is caught up with is not kept in memory as well
                }
                command += ["--minutes", str(arguments.minutes), "--candidates", *map(str, arguments.candidates)]
                subprocess.run(command, env=environment)
                room(name, used, count)
                print(flush=True)


if __name__ == "__main__":
    main()
