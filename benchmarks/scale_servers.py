"""What servers occupy."""

from __future__ import annotations

from pathlib import Path

import psycopg


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
