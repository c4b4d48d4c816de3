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
from face_detection.gallery import open_gallery
from face_detection.gallery.sql.tables import ids_of_people
from face_detection.gallery.sqlite.backup import find_damage
from face_detection.gallery.sqlite.file_failures import DAMAGED_ADVICE, obstacle
from face_detection.naming import normal_id
from shared.disks import nearest_folder, try_writing
from shared.errors import InvalidRequest, ServiceError
from shared.models import YUNET
from shared.settings import ExtractionSettings, FrontSettings
from shared.tethered import ROOT, python_environment

_SECONDS = 120
_MOST_SHOWN = 10
_LITTLE, _TOO_LITTLE = 1 << 30, 100 << 20
"""Free bytes of a disk below which there is a note, and below which writing may fail any moment."""

_MAKE_ROOM = "Make room on it before it is full: what finds none is refused."
_A_DOWNLOAD = 1 << 20

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}


def checks_here(extraction: ExtractionSettings, front: FrontSettings, integrity: bool) -> Iterator[Finding]:
    """Examine this machine; with ``integrity`` an SQLite database wholly, which takes its time."""
    if (ROOT / "feature_extraction").is_dir():
        yield _weights(extraction.model, "the model's weights", extraction.weights)
        yield _weights(YUNET.name, "the detector's weights", extraction.weights)
        yield _runtime(extraction)
    else:
        yield Finding(
            "extraction package", State.NOTE, "not in this installation", "Set EXTRACTION_URL to one that runs."
        )
        known = (front.weights / YUNET.file).is_file()
        state, found = (State.WELL, "there") if known else (State.BROKEN, f"{front.weights / YUNET.file} is missing")
        yield Finding("the detector's weights", state, found, "" if known else "Mount the folder of the weights there.")
    database = _database(front.database, integrity)
    yield database
    if database.state is State.WELL:
        yield from _unusual_ids(front.database)
    yield _disk("disk of the weights", front.weights)
    if _is_file(front.database):
        yield _disk("disk of the database", Path(front.database))
    if importlib.util.find_spec("_tkinter") is None:
        yield Finding(
            "windows (tkinter)", State.NOTE, "absent; only live --window needs it", "apt-get install python3-tk"
        )
    else:
        yield Finding("windows (tkinter)", State.WELL, "there")


def _weights(model: str, what: str, folder: Path) -> Finding:
    fetch = f"python -m feature_extraction.weights fetch {model}"
    status, lines = _python("-m", "feature_extraction.weights", "verify", model)
    found = "; ".join(" ".join(line.split()[1:3]) for line in lines) or "cannot be examined"
    if status == 0:
        return Finding(what, State.WELL, found)
    try:
        try_writing(nearest_folder(folder), _A_DOWNLOAD)
    except OSError as error:
        advice = (
            "Make room there, or give the user who runs the service the right to write there, or let DEEPFACE_HOME "
            f"name another folder; then run: {fetch}"
        )
        return Finding(what, State.BROKEN, f"{found}; {folder} cannot be written: {error.strerror}", advice)
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


def _database(database: str, integrity: bool) -> Finding:
    what = "database"
    if database == ":memory:":
        return Finding(
            what, State.NOTE, "in memory: people are forgotten when the service ends", "Set DATABASE to a path."
        )
    path, name = Path(database), database if _is_file(database) else "the database server"
    try:
        if _is_file(database):
            if found := obstacle(path):
                return Finding(what, State.BROKEN, f"DATABASE={path}: {found.text}", found.advice)
            if not path.exists():
                return Finding(what, State.WELL, f"{path} will be made")
            if damage := find_damage(path, integrity):
                return Finding(what, State.BROKEN, f"DATABASE={path} is damaged: {damage}", DAMAGED_ADVICE)
        gallery = open_gallery(database)
        try:
            count = sum(gallery.store.count(tenant.id) for tenant in gallery.directory.tenants())
        finally:
            gallery.close()
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.text, error.advice or "See docs/databases.md.")
    return Finding(what, State.WELL, f"{name} has {count} photos")


def _unusual_ids(database: str) -> Iterator[Finding]:
    """Ids of former releases that would not be taken today, and those of the same look."""
    if _is_file(database) and not Path(database).exists():
        return
    try:
        gallery = open_gallery(database)
        try:
            found = [(tenant, id) for tenant, id in ids_of_people(gallery.tables) if not _is_usual(id)]
        finally:
            gallery.close()
    except ServiceError:  # said above
        return
    if found:
        shown = ", ".join(f"{id!a} of {tenant}" for tenant, id in found[:_MOST_SHOWN])
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        advice = (
            "They look like ids of others who are there, or no address can carry them: enrol these people anew under "
            "another id if they are still needed, and delete them: people delete --local --company CODE ID"
        )
        yield Finding("ids of people", State.NOTE, f"from former releases: {shown}{more}", advice)


def _is_usual(id: str) -> bool:
    try:
        return normal_id(id) == id
    except InvalidRequest:
        return False


def _is_file(database: str) -> bool:
    """Whether DATABASE is no address, which may have a password in it."""
    return database != ":memory:" and "://" not in database


def _disk(what: str, path: Path) -> Finding:
    folder = nearest_folder(path)
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _TOO_LITTLE:
        return Finding(what, State.BROKEN, found, _MAKE_ROOM)
    return Finding(what, State.NOTE, found, _MAKE_ROOM) if free < _LITTLE else Finding(what, State.WELL, found)


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
