"""What one PostgreSQL takes from several fronts at once: writes, which follow one another, events, and questions.

Each front is a process with one client. Besides the rates: what a person with one sample, and an event, take on
the disk. PostgreSQL has the settings it comes with, on this machine; it and the fronts share its cores.

Example:
    python -m benchmarks.scale_writes --fronts 1 2 4 --seconds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import psycopg
from psycopg.sql import SQL, Identifier

from benchmarks.approximate import DIMENSIONS
from benchmarks.search import SPACE, unit_vectors
from deploy.servers.postgres import MISSING, PostgresServer, programs
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.events import EventKind, NewEvent, Occasion
from face_detection.gallery.people import NewSample

TENANT = "default"
PEOPLE = 10_000
EVENTS = 500
"""Written at once: what a front has of 1,000 recognitions a second after half a second."""

Work = Callable[[Gallery, int], int]
"""Does something for a front with this number; says how much it was."""


def people(count: int, front: int) -> list[NewSample]:
    """Somebody new for each."""
    start = time.monotonic_ns()
    vectors = unit_vectors(count, DIMENSIONS, start % 2**32)
    return [
        NewSample(f"{front} {start + n}", f"Person {n}", {"number": n}, SPACE, row) for n, row in enumerate(vectors)
    ]


def store_one(gallery: Gallery, front: int) -> int:
    """Store one person."""
    gallery.store.upsert(TENANT, people(1, front))
    return 1


def add_events(gallery: Gallery, front: int) -> int:
    """Write what a front has collected."""
    occasion = Occasion(api_key="0123456789abcdef", device=1)
    event = NewEvent(time.time_ns() // 1000, EventKind.RECOGNISED, "0", 5.0, occasion)
    gallery.events.append([(TENANT, event)] * EVENTS)
    return EVENTS


def ask(gallery: Gallery, front: int) -> int:
    """What is asked before every search."""
    for _ in range(100):
        gallery.store.last_change()
    return 100


def read_candidates(gallery: Gallery, front: int) -> int:
    """Read as many samples as SEARCH=pgvector and milvus measure for a face."""
    keys = np.random.default_rng(time.monotonic_ns()).integers(1, PEOPLE, 16).tolist()
    gallery.store.by_keys(TENANT, keys)
    return 1


WORK: dict[str, Work] = {
    "people stored, one at a time": store_one,
    f"events, {EVENTS} at a time": add_events,
    "questions for the last change": ask,
    "reading 16 candidates": read_candidates,
}


def _front(pipe: Connection, url: str, name: str, number: int, seconds: float) -> None:
    gallery = open_gallery(url)
    WORK[name](gallery, number)
    pipe.send("ready")
    pipe.recv()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += WORK[name](gallery, number)
    pipe.send(done / (time.perf_counter() - started))
    gallery.close()


def rate(url: str, name: str, fronts: int, seconds: float) -> float:
    """How much of some work several fronts get done in a second, together."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(fronts):
        ours, theirs = context.Pipe()
        context.Process(target=_front, args=(theirs, url, name, number, seconds), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("start")
    return float(sum(pipe.recv() for pipe in pipes))


def room(url: str, tables: tuple[str, ...], rows: str) -> float:
    """Bytes of some tables with their indexes for each row of one of them."""
    with psycopg.connect(url) as connection:
        total = sum(
            connection.execute("SELECT pg_total_relation_size(to_regclass(%s))", (table,)).fetchall()[0][0] or 0
            for table in tables
        )
        query = SQL("SELECT count(*) FROM {}").format(Identifier(rows))
        return float(total / connection.execute(query).fetchall()[0][0])


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fronts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=5, help="length of a measurement")
    arguments = parser.parse_args()
    found = programs()
    if found is None:
        raise SystemExit(f"This benchmark {MISSING}.")
    with PostgresServer(found) as server:
        url = server.database("benchmark")
        gallery = open_gallery(url)
        rows = enumerate(unit_vectors(PEOPLE, DIMENSIONS, 0))
        first = [NewSample(str(n), f"Person {n}", {"number": n}, SPACE, row) for n, row in rows]
        for start in range(0, PEOPLE, 1000):
            gallery.store.upsert(TENANT, first[start : start + 1000])
        gallery.close()
        print(f"A person with one sample takes {room(url, ('people', 'samples'), 'samples'):.0f} bytes.\n")
        print(f"| a second, by fronts at once | {' | '.join(map(str, arguments.fronts))} |")
        print(f"|{'---|' * (1 + len(arguments.fronts))}")
        for name in WORK:
            cells = (f"{rate(url, name, fronts, arguments.seconds):,.0f}" for fronts in arguments.fronts)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"\nAn event takes {room(url, ('events',), 'events'):.0f} bytes.")


if __name__ == "__main__":
    main()
