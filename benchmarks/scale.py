"""What a second extraction worker adds, and what the load balancer costs.

*Workers*: crops a second through the front's own client, with one worker and with two, each on a core of its own with
one thread of computing. Each worker has as many calls under way in either case. The client runs on the same two cores,
so CPU time is reported, too: with ``w`` seconds of a worker and ``c`` of the client for a crop, two cores cannot do
more than 2 / (w + c) crops a second.

*Questions*: what a recognition asks PostgreSQL, in transactions, beside what the front asks by itself.

*Balancer*: the same requests straight and through HAProxy with ``deploy/haproxy.cfg``, in turns: embeddings of a crop,
and recognitions. HAProxy shares the cores with the services, which takes from the throughput what it needs itself.

Example:
    python -m benchmarks.scale --rounds 5 --seconds 4
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.accuracy import FACES
from benchmarks.load import Load, generate, request
from benchmarks.pipeline import CLIENTS, enrolment_seconds, recognition_requests
from benchmarks.processes import cpu_seconds
from deploy.servers.haproxy import MISSING, HAProxy, program
from deploy.servers.postgres import MISSING as NO_POSTGRES
from deploy.servers.postgres import PostgresServer, programs
from deploy.services import Services
from face_detection.extraction.client import ExtractionClient
from shared import wire
from shared.models import find_card
from shared.service_process import ServiceProcess, free_port
from shared.settings import ExtractionSettings

CALLS = 4
"""Under way at each worker."""

PARTS = ("workers", "balancer", "questions")

_REPORTED = 11.0
"""Seconds after which PostgreSQL has counted what a connection did that rests."""

Crops = NDArray[np.uint8]


class Embedded(NamedTuple):
    """What a run of calls came to, per second and, in seconds of CPU time, per crop."""

    rate: float
    client: float
    workers: float


def crops(count: int) -> Crops:
    """Noise of the size that MODEL takes, which costs as much as faces."""
    alignment = find_card(ExtractionSettings.from_environment().model).alignment
    shape = (count, alignment.height, alignment.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def embed(workers: Sequence[ServiceProcess], calls: Crops, seconds: float) -> Embedded:
    """Have workers embed the same crops over and over, called from a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    urls = [worker.url for worker in workers]
    process = context.Process(target=_client, args=(theirs, urls, calls, seconds))
    process.start()
    ours.recv()
    before = sum(cpu_seconds(worker.pid) for worker in workers)
    ours.send("start")
    passed, done, busy = ours.recv()
    used = sum(cpu_seconds(worker.pid) for worker in workers) - before
    process.join()
    return Embedded(done / passed, busy / done, used / done)


def _client(pipe: Connection, urls: list[str], calls: Crops, seconds: float) -> None:
    pipe.send(asyncio.run(_run(pipe, urls, calls, seconds)))


async def _run(pipe: Connection, urls: list[str], calls: Crops, seconds: float) -> tuple[float, int, float]:
    client = ExtractionClient(urls, 60)
    model = await client.model()
    await asyncio.gather(*(client.embed(calls, model) for _ in range(CALLS * len(urls))))
    pipe.send("ready")
    pipe.recv()
    done = 0
    busy, started = time.process_time(), time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            await client.embed(calls, model)
            done += len(calls)

    await asyncio.gather(*(caller() for _ in range(CALLS * len(urls))))
    passed, busy = time.perf_counter() - started, time.process_time() - busy
    await client.close()
    return passed, done, busy


def pinned_worker(core: int, folder: Path) -> ServiceProcess:
    """An extraction worker with one core."""
    bind = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "LOG_LEVEL": "WARNING", "COMPUTE_THREADS": "1", "EXTRACTION_BIND": bind}
    worker = ServiceProcess("feature_extraction", bind, environment, folder / f"worker{core}.log")
    worker.start()
    os.sched_setaffinity(worker.pid, {core})  # before it has threads and children, which take it over
    return worker


def measure_workers(rounds: int, seconds: float, count: int) -> None:
    """Print what one worker does, and two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("There is one core only.\n")
        return
    calls = crops(count)
    measured: dict[str, list[Embedded]] = {"one worker": [], "two workers": []}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = []
        for core in cores:
            worker = pinned_worker(core, Path(folder))
            stack.callback(worker.stop)
            workers.append(worker)
        for worker in workers:
            worker.wait_until_ready(300)
        for number in range(rounds):
            measured["one worker"].append(embed([workers[number % 2]], calls, seconds))
            measured["two workers"].append(embed(workers, calls, seconds))
    print(f"Calls with {count} crops, {CALLS} under way at each worker\n")
    print("| | crops a second (median) | least … most | CPU per crop, ms: workers | client |\n|---|---|---|---|---|")
    medians = {}
    for name, runs in measured.items():
        medians[name] = Embedded(*(statistics.median(column) for column in zip(*runs, strict=True)))
        rates = [one.rate for one in runs]
        of_workers, client = medians[name].workers * 1e3, medians[name].client * 1e3
        print(
            f"| {name} | {medians[name].rate:.1f} | {min(rates):.1f} … {max(rates):.1f} "
            f"| {of_workers:.2f} | {client:.2f} |"
        )
    one, two = medians["one worker"], medians["two workers"]
    most = 2 / (two.workers + two.client) / one.rate
    print(
        f"\nTwo workers do {two.rate / one.rate:.2f} times as much (bar ≥ 1.8); by their CPU time two cores allow for "
        f"{most:.2f}.\n",
        flush=True,
    )


def measure_balancer(rounds: int, seconds: float, photos: Sequence[bytes]) -> None:
    """Print what HAProxy adds to requests."""
    if program() is None:
        print(f"The load balancer is left out: it {MISSING}.\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LOG_LEVEL": "WARNING"}
        with Services.on_free_ports(environment, Path(folder)) as services:
            front, worker = (service.url.removeprefix("http://") for service in (services.front, services.extraction))
            with HAProxy([front] * 2, [worker] * 3, Path(folder) / "haproxy.log") as balancer:
                body = wire.encode_array(crops(1))

                def embeddings(url: str) -> list[bytes]:
                    return [request(url, "/embeddings", body, wire.ARRAY_TYPE)]

                print(
                    "| | ms, one client: straight | balanced | a second: straight | balanced |\n|---|---|---|---|---|"
                )
                addresses = (services.extraction.url, balancer.extraction_url)
                compare("embeddings", addresses, embeddings, rounds, seconds)
                if photos:
                    addresses = (services.front.url, balancer.fronts_url)
                    compare("recognitions", addresses, lambda url: recognition_requests(url, photos), rounds, seconds)


def measure_questions(seconds: float, photos: Sequence[bytes]) -> None:
    """Print how many questions a recognition puts to the database."""
    found = programs()
    if found is None:
        print(f"The database is left out: it {NO_POSTGRES}.\n")
        return
    for search in ("memory", "pgvector"):
        with PostgresServer(found) as server, tempfile.TemporaryDirectory() as folder:
            url = server.database("benchmark")
            environment = {**os.environ, "LOG_LEVEL": "WARNING", "DATABASE": url, "SEARCH": search}
            with Services.on_free_ports(environment, Path(folder)) as services:
                enrolment_seconds(services.front.url, photos, 64)
                recognitions = recognition_requests(services.front.url, photos)
                times, counts, done = [], [], 0
                for load in (0.0, seconds, 0.0):
                    if load:
                        done = len(_checked(generate(services.front.url, recognitions, 1, load)).latencies)
                    time.sleep(_REPORTED)
                    times.append(time.monotonic())
                    counts.append(transactions(url))
        resting = (counts[2] - counts[1]) / (times[2] - times[1])
        each = (counts[1] - counts[0] - resting * (times[1] - times[0])) / done
        print(f"SEARCH={search}: {each:.1f} transactions for each recognition, {resting:.1f} a second without any.\n")


def transactions(url: str) -> int:
    """How many a database has finished; those of the last second may be missing."""
    with psycopg.connect(url) as connection:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(query).fetchall()[0][0])


def compare(
    name: str, urls: Sequence[str], requests: Callable[[str], list[bytes]], rounds: int, seconds: float
) -> None:
    """Print a line of the table; ``urls`` are straight and balanced, and take turns in going first."""
    alone: dict[str, list[float]] = {url: [] for url in urls}
    many: dict[str, list[float]] = {url: [] for url in urls}
    prepared = {url: requests(url) for url in urls}
    for number in range(rounds + 1):
        for url in urls if number % 2 else reversed(urls):
            single, several = (generate(url, prepared[url], clients, seconds) for clients in (1, CLIENTS))
            if number:  # the first round warms up
                alone[url].append(_checked(single).percentile(50) * 1e3)
                many[url].append(_checked(several).rate)
    straight, balanced = ((statistics.median(alone[url]), statistics.median(many[url])) for url in urls)
    later = statistics.median(b / a for a, b in zip(*alone.values(), strict=True)) - 1
    fewer = 1 - statistics.median(b / a for a, b in zip(*many.values(), strict=True))
    print(
        f"| {name} | {straight[0]:.2f} | {balanced[0]:.2f} ({later:+.1%}) "
        f"| {straight[1]:.1f} | {balanced[1]:.1f} ({-fewer:+.1%}) |",
        flush=True,
    )


def _checked(load: Load) -> Load:
    assert not load.failures, f"{load.failures} requests failed"
    return load


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="length of a measurement")
    parser.add_argument("--crops", type=int, nargs="+", default=[1, 4], help="crops of a call")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(arguments.photos.glob("*/*.jpg"))]
    for count in arguments.crops if "workers" in arguments.parts else ():
        measure_workers(arguments.rounds, arguments.seconds, count)
    if "balancer" in arguments.parts:
        measure_balancer(arguments.rounds, arguments.seconds, photos)
    if photos and "questions" in arguments.parts:
        measure_questions(arguments.seconds, photos)


if __name__ == "__main__":
    main()
