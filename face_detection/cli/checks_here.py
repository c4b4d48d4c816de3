"""What can be examined without any service: weights, runtime, database, disks, optional parts."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from face_detection.cli.checks import Finding, State
from face_detection.cli.extraction_process import ROOT, python_environment
from face_detection.gallery import open_gallery
from shared.errors import ServiceError
from shared.models import YUNET
from shared.settings import ExtractionSettings, FrontSettings

_SECONDS = 120
_LITTLE, _TOO_LITTLE = 1 << 30, 100 << 20
"""Free bytes of a disk below which there is a note, and below which writing may fail any moment."""

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}


def checks_here(extraction: ExtractionSettings, front: FrontSettings) -> Iterator[Finding]:
    """Examine this machine."""
    if (ROOT / "feature_extraction").is_dir():
        yield _weights(extraction.model, "the model's weights")
        yield _weights(YUNET.name, "the detector's weights")
        yield _runtime(extraction)
    else:
        yield Finding(
            "extraction package", State.NOTE, "not in this installation", "Set EXTRACTION_URL to one that runs."
        )
        known = (front.weights / YUNET.file).is_file()
        state, found = (State.WELL, "there") if known else (State.BROKEN, f"{front.weights / YUNET.file} is missing")
        yield Finding("the detector's weights", state, found, "" if known else "Mount the folder of the weights there.")
    yield _database(front.database)
    yield _disk("disk of the weights", front.weights)
    if _is_file(front.database):
        yield _disk("disk of the database", Path(front.database))
    if importlib.util.find_spec("_tkinter") is None:
        yield Finding(
            "windows (tkinter)", State.NOTE, "absent; only live --window needs it", "apt-get install python3-tk"
        )
    else:
        yield Finding("windows (tkinter)", State.WELL, "there")


def _weights(model: str, what: str) -> Finding:
    fetch = f"python -m feature_extraction.weights fetch {model}"
    status, lines = _python("-m", "feature_extraction.weights", "verify", model)
    found = "; ".join(" ".join(line.split()[1:3]) for line in lines) or "cannot be examined"
    if status == 0:
        return Finding(what, State.WELL, found)
    if lines and "damaged" not in found:
        return Finding(what, State.NOTE, found, f"The first start fetches them, and so does: {fetch}")
    return Finding(what, State.BROKEN, found, f"Delete what is damaged, and run: {fetch}")


def _runtime(extraction: ExtractionSettings) -> Finding:
    what = "runtime of the model"
    if extraction.engine != "onnx":
        module = {"tensorflow": "tensorflow", "pytorch": "torch"}[extraction.engine]
        if importlib.util.find_spec(module) is None:
            advice = f"Run: pip install -r requirements-{extraction.engine}.txt"
            return Finding(what, State.BROKEN, f"{module} is not installed", advice)
        return Finding(what, State.WELL, f"{module} is installed")
    # In a process of its own: the front imports no runtime.
    program = "import json, onnxruntime as o; print(json.dumps([o.__version__, *o.get_available_providers()]))"
    status, lines = _python("-c", program)
    if status:
        return Finding(what, State.BROKEN, "onnxruntime cannot be imported", "Run: pip install -r requirements.txt")
    version, *available = json.loads(lines[-1])
    found = f"onnxruntime {version} with {', '.join(available)}"
    wanted = [name.strip().lower() for name in extraction.execution_providers.split(",")]
    lacking = [name for name in wanted if _PROVIDERS.get(name, name) not in available]
    if lacking:
        advice = (
            "For a GPU: pip uninstall -y onnxruntime && pip install -r requirements-gpu.txt; or set "
            "EXECUTION_PROVIDERS=cpu."
        )
        return Finding(what, State.BROKEN, f"{found}; EXECUTION_PROVIDERS wants {', '.join(lacking)}", advice)
    if shutil.which("nvidia-smi") and _PROVIDERS["cuda"] not in available:
        return Finding(what, State.NOTE, f"{found}; there is an NVIDIA GPU that is not used", "See docs/deployment.md.")
    return Finding(what, State.WELL, found)


def _database(database: str) -> Finding:
    what = "database"
    if database == ":memory:":
        return Finding(
            what, State.NOTE, "in memory: people are forgotten when the service ends", "Set DATABASE to a path."
        )
    path, name = Path(database), database if _is_file(database) else "the database server"
    if _is_file(database) and not path.exists():
        folder = _existing(path)
        if not os.access(folder, os.W_OK):
            return Finding(what, State.BROKEN, f"{path} cannot be made: {folder} is not writable", "Set DATABASE.")
        return Finding(what, State.WELL, f"{path} will be made")
    try:
        gallery = open_gallery(database)
        try:
            count = sum(gallery.store.count(tenant.id) for tenant in gallery.directory.tenants())
        finally:
            gallery.close()
    except ServiceError as error:
        advice = "Restore it from a copy, or from a file of export; or name another with DATABASE."
        return Finding(what, State.BROKEN, error.message, advice)
    return Finding(what, State.WELL, f"{name} has {count} photos")


def _is_file(database: str) -> bool:
    """Whether DATABASE is no address, which may have a password in it."""
    return database != ":memory:" and "://" not in database


def _disk(what: str, path: Path) -> Finding:
    folder = _existing(path)
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _TOO_LITTLE:
        return Finding(what, State.BROKEN, found, "Make room.")
    return Finding(what, State.NOTE, found, "Make room soon.") if free < _LITTLE else Finding(what, State.WELL, found)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.is_dir())


def _python(*arguments: str) -> tuple[int, list[str]]:
    """Exit status and output lines of a Python process."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=python_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return 1, []
    return done.returncode, done.stdout.splitlines()
