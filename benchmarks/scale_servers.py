"""Servers that the benchmarks of scale run against, and what they occupy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from deploy.services import free_port


class MilvusLite(NamedTuple):
    """A running server."""

    url: str
    pid: int
    data: Path


@contextmanager
def milvus_lite(folder: Path) -> Iterator[MilvusLite]:
    """Milvus Lite as it comes, with its data below a folder.

    Requests are worked on one after the other: it does not promise that writes at the same time are safe.
    """
    import grpc

    port = free_port()
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder / "milvus")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-workers", "1"]
    with (folder / "milvus.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(60)
        yield MilvusLite(f"http://127.0.0.1:{port}", process.pid, folder / "milvus")
    finally:
        process.terminate()
        process.wait(60)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children; pages that they share count for each."""
    statuses = (Path(f"/proc/{process}/status").read_text() for process in family(pid))
    return sum(int(status.split("VmRSS:")[1].split()[0]) * 1024 for status in statuses)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have used."""
    total = 0
    for process in family(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / 100  # USER_HZ is 100 on every Linux


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


def transactions(url: str) -> int:
    """How many a database has finished; those of the last second may be missing."""
    with psycopg.connect(url) as connection:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(query).fetchall()[0][0])
