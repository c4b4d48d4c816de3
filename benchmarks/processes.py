"""What processes hold and use, with their children."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *children(pid)]


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
