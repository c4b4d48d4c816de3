"""``python -m deploy.web_assets``: put onnxruntime-web, which the page ``/offline`` runs, into WEB_ASSETS.

npm fetches it and compares it with the hash in package-lock.json. Of its 140 MB the page needs two files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.services import ROOT
from shared.errors import StartupError
from shared.settings import FrontSettings
from shared.signals import run

LOCK = ROOT / "face_detection" / "web" / "offline" / "package-lock.json"
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

# Its default waits more than a minute for a network that is not there.
_IMPATIENT = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")
_SECONDS = 300
_WITHOUT = "recognition in the browser (/offline) will not work until `python -m deploy.web_assets` succeeds"


def ensure(folder: Path, npm: str = "npm") -> str | None:
    """Install the files of the locked version unless they are there.

    Args:
        folder: WEB_ASSETS.
        npm: the program.

    Returns:
        Why they cannot be had, in one line; None when they are there.
    """
    mark = folder / LOCK.name
    if mark.is_file() and mark.read_bytes() == LOCK.read_bytes() and all((folder / file).is_file() for file in FILES):
        return None
    program = shutil.which(npm)
    if program is None:
        return f"npm is not installed (on Debian: apt-get install npm); {_WITHOUT}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            _install(program, Path(temporary))
            package = Path(temporary) / "node_modules" / "onnxruntime-web"
            for file in FILES:
                _put(package / "dist" / file, folder / file)
        # Last: it says that the others are complete.
        _put(LOCK, mark)
    except (OSError, subprocess.SubprocessError) as error:
        return f"onnxruntime-web cannot be installed ({_reason(error)}); {_WITHOUT}."
    return None


def _install(npm: str, folder: Path) -> None:
    for name in ("package.json", LOCK.name):
        shutil.copyfile(LOCK.with_name(name), folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *_IMPATIENT]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS)


def _put(source: Path, target: Path) -> None:
    """Copy so that nobody ever reads half a file."""
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        return lines[0] if lines else f"npm ended with status {error.returncode}"
    return str(error)


def main() -> int:
    """Install; returns the exit status."""
    try:
        folder = FrontSettings.from_environment().web_assets
    except StartupError as error:
        problem: str | None = error.message
    else:
        problem = ensure(ROOT / folder)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"onnxruntime-web is in {folder}.")
    return 0


if __name__ == "__main__":
    run(main)
