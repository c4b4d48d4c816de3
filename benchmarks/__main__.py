"""``make bench``: every benchmark, one after the other, into one Markdown report with plots beside it.

Example:
    python -m benchmarks                 a few minutes
    python -m benchmarks --full          with galleries of a million samples, approximate search and SEARCH's searchers
    python -m benchmarks pipeline start  only these
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

from deploy.services import ROOT
from shared.settings import available_cores

REPORT = ROOT / "build" / "bench" / "report.md"
QUICK = {
    "detection": [],
    "choice": [],
    "accuracy": [],
    "identification": [],
    "hard": [],
    "liveness": [],
    "pipeline": [],
    "live": [],
    "batching": [],
    "precision": [],
    "models": [],
    "classic": [],
    "search": [],
    "databases": [],
    "scale": [],
    "scale_writes": [],
    "answers": [],
    "start": [],
}
FULL = {
    **QUICK,
    "approximate": [],
    "search": ["--full"],
    "searchers": ["--samples", "10000", "100000", "1000000"],
    "memory": [],
}
PACKAGES = (
    "numpy",
    "onnxruntime",
    "opencv-contrib-python-headless",
    "aiohttp",
    "flask",
    "gunicorn",
    "deepface",
    "dlib-bin",
)


def machine() -> str:
    """What the figures belong to."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return (
        f"{datetime.date.today()}, {model}, {available_cores()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def run(name: str, arguments: list[str]) -> str:
    """Run one benchmark and give its section of the report."""
    command = ["-m", f"benchmarks.{name}", *arguments]
    print(f"# python {' '.join(command)}", file=sys.stderr, flush=True)
    result = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    body = result.stdout if result.returncode == 0 else f"{result.stdout}\nFailed with status {result.returncode}."
    return f"## {name}\n\n`python {' '.join(command)}`\n\n{body.strip()}\n"


def main() -> int:
    """Parse the command line, run, print and save the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(QUICK)} (default: all)")
    parser.add_argument("--full", action="store_true", help="the long ones too")
    arguments = parser.parse_args()
    chosen = FULL if arguments.full else QUICK
    if unknown := set(arguments.names) - set(chosen):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    sections = [
        run(name, options) for name, options in chosen.items() if not arguments.names or name in arguments.names
    ]
    report = "\n".join(["# Benchmarks", "", machine(), "", *sections])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report)
    print(report)
    print(f"Saved as {REPORT.relative_to(ROOT)}", file=sys.stderr)
    return int("Failed with status" in report)


if __name__ == "__main__":
    sys.exit(main())
