"""``make prove``: every promise of the service, tried on real processes; the report is saved as build/prove/report.md.

Ends with status 1 when a promise is broken.

Example:
    python -m benchmarks.prove                       about ten minutes
    python -m benchmarks.prove --full                hours
    python -m benchmarks.prove --only kills,faults
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import machine
from benchmarks.prove import bad_input, faults, kills, overload, strangers
from benchmarks.prove.promises import Findings, Promise, table
from deploy.services import ROOT

REPORT = ROOT / "build" / "prove" / "report.md"

SECTIONS: dict[str, tuple[str, Callable[[Path, bool], Findings]]] = {
    "kills": ("Kills", kills.prove),
    "faults": ("Faults", faults.prove),
    "bad-input": ("Bad input", bad_input.prove),
    "overload": ("Overload", overload.prove),
    "strangers": ("Strangers to a tenant", strangers.prove),
}


def run(name: str, folder: Path, full: bool) -> tuple[Findings, float]:
    """A section and its seconds. One that cannot finish has proved nothing, which is no promise kept."""
    started = time.monotonic()
    try:
        findings = SECTIONS[name][1](folder, full)
    except Exception as error:
        traceback.print_exc()
        findings = Findings([Promise("The section comes to its end", f"{type(error).__name__}: {error}"[:500], False)])
    return findings, time.monotonic() - started


def main() -> int:
    """Parse the command line, run, print and save the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="hours instead of minutes")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}, comma-separated")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    parts, broken = [f"# Proof\n\n{machine()}\n"], False
    with tempfile.TemporaryDirectory(prefix="prove-") as folder:
        for name in chosen:
            print(f"# {name} …", file=sys.stderr, flush=True)
            findings, seconds = run(name, Path(folder), arguments.full)
            broken |= findings.broken
            part = f"## {SECTIONS[name][0]} ({seconds:.0f} s)\n\n{table(findings.promises)}\n"
            print(part, flush=True)
            parts.append(f"{part}\n{findings.notes}\n" if findings.notes else part)
            REPORT.write_text("\n".join(parts))  # as far as it has come
    print(f"Saved as {REPORT.relative_to(ROOT)}", file=sys.stderr)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
