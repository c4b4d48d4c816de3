"""Which module may import which: read from the import statements, wherever in a file they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("shared", "face_detection", "feature_extraction")

WEB_FRAMEWORKS = {"aiohttp", "flask", "werkzeug", "jinja2", "gunicorn", "requests"}
DEEP_LEARNING = {"deepface", "onnxruntime", "onnx", "tensorflow", "keras", "torch", "h5py", "dlib"}
SQL = {"sqlite3", "sqlite_utils", "psycopg"}
MILVUS = {"grpc", "pymilvus"}

LAYERS = (
    "__main__",
    "cli",
    "app",
    "api",
    "access",
    "live",
    "readiness",
    "recognition",
    "verification",
    "identification",
    "people",
    "journal",
    "upkeep",
    "pool",
    "tracking",
    "visits",
    "decision",
    "enrolment",
    "preparation",
    "choice",
    "drawing",
    "detection",
    "alignment",
    "extraction",
    "served_model",
    "worker_calls",
    "workers",
    "fetching",
    "gallery",
    "metrics",
    "naming",
)
"""The modules of the front from the top down. ``app`` is the composition root, which imports any below it."""

DEPENDENCIES = {
    "__main__": {"cli"},
    "cli": {
        "access",
        "app",
        "choice",
        "drawing",
        "enrolment",
        "extraction",
        "gallery",
        "identification",
        "naming",
        "upkeep",
        "visits",
    },
    "api": {
        "access",
        "choice",
        "identification",
        "live",
        "people",
        "readiness",
        "recognition",
        "verification",
        "drawing",
        "enrolment",
        "extraction",
        "fetching",
        "gallery",
        "metrics",
        "naming",
        "pool",
        "preparation",
        "visits",
    },
    "access": {"gallery"},
    "live": {
        "alignment",
        "extraction",
        "gallery",
        "identification",
        "metrics",
        "pool",
        "preparation",
        "tracking",
        "visits",
    },
    "readiness": {"extraction", "gallery", "identification", "pool"},
    "verification": {"decision", "gallery"},
    "recognition": {
        "choice",
        "decision",
        "verification",
        "identification",
        "enrolment",
        "preparation",
        "extraction",
        "gallery",
        "journal",
        "metrics",
        "pool",
    },
    "identification": {"decision", "extraction", "gallery", "journal", "metrics", "preparation"},
    "people": {"gallery", "naming", "pool"},
    "journal": {"gallery", "metrics"},
    "upkeep": {"gallery"},
    "pool": set(),
    "tracking": set(),
    "visits": set(),
    "decision": {"gallery"},
    "enrolment": {"choice", "preparation", "extraction", "gallery"},
    "preparation": {"choice", "detection", "alignment", "metrics"},
    "choice": set(),
    "drawing": set(),
    "detection": set(),
    "alignment": set(),
    "extraction": {"served_model", "worker_calls", "workers"},
    "served_model": set(),
    "worker_calls": {"workers"},
    "workers": set(),
    "fetching": set(),
    "gallery": {"naming"},
    "metrics": set(),
    "naming": set(),
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Full dotted names of whatever a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


def in_package(package: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files(package), ids=lambda file: str(file.relative_to(ROOT)))


@in_package("shared")
def test_shared_imports_neither_service_and_no_web_framework(file: Path) -> None:
    assert not tops(file) & {"face_detection", "feature_extraction", "deploy", *WEB_FRAMEWORKS, *DEEP_LEARNING, *SQL}


@in_package("face_detection")
def test_the_front_imports_nothing_of_the_extraction_service(file: Path) -> None:
    assert not tops(file) & {"feature_extraction", "deploy", "flask", *DEEP_LEARNING}


@in_package("feature_extraction")
def test_the_extraction_service_imports_nothing_of_the_front(file: Path) -> None:
    assert not tops(file) & {"face_detection", "deploy", "aiohttp", *SQL}


@in_package("feature_extraction")
def test_frameworks_stay_in_engines_and_weights(file: Path) -> None:
    if file.parent.name not in ("engines", "weights"):
        assert not tops(file) & DEEP_LEARNING


@in_package("feature_extraction")
def test_only_the_app_of_the_extraction_service_knows_flask(file: Path) -> None:
    if file.name not in ("app.py", "draining.py", "gunicorn.conf.py"):
        assert not tops(file) & WEB_FRAMEWORKS


@in_package("face_detection")
def test_http_and_sql_stay_where_they_belong(file: Path) -> None:
    place = file.relative_to(ROOT / "face_detection")
    http_clients = {("cli", name) for name in ("client.py", "live_client.py", "webhook.py")}
    if place.parts[0] not in ("api", "app.py", "worker_calls.py", "fetching.py", "gunicorn.conf.py"):
        assert place.parts in http_clients or not tops(file) & WEB_FRAMEWORKS
    if place.parts[0] != "gallery":
        assert not tops(file) & {*SQL, *MILVUS}


@in_package("face_detection")
def test_the_front_imports_downwards(file: Path) -> None:
    place = file.relative_to(ROOT / "face_detection").parts[0].removesuffix(".py")
    targets = {name.split(".")[1] for name in imported(file) if name.startswith("face_detection.")}
    if place == "app":
        return
    if place in ("__init__", "gunicorn.conf"):
        assert not targets
        return
    assert targets <= DEPENDENCIES[place] | {place}


def test_the_allowed_directions_have_no_cycle() -> None:
    for place, targets in DEPENDENCIES.items():
        assert all(LAYERS.index(place) < LAYERS.index(target) for target in targets)


@in_package("face_detection")
def test_concrete_classes_are_built_in_the_composition_root(file: Path) -> None:
    place = file.relative_to(ROOT / "face_detection")
    if place.name != "app.py":
        assert "face_detection.detection.YuNet" not in imported(file)
    if place.name != "app.py" and place.parts[0] != "gallery":
        concrete = tuple(f"face_detection.gallery.{name}" for name in ("sqlite", "postgres", "milvus", "memory"))
        assert not [name for name in imported(file) if name.startswith(concrete)]


@pytest.mark.parametrize("package", [*PACKAGES, "deploy", "benchmarks", "tests"])
def test_no_module_is_a_drawer_for_odds_and_ends(package: str) -> None:
    names = {part for file in files(package) for part in (file.stem, file.parent.name)}
    assert names and not names & {"util", "utils", "helper", "helpers", "common", "misc"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_service_imports_what_only_tests_need(package: str) -> None:
    for file in files(package):
        assert not tops(file) & {"tests", "benchmarks", "pytest", "hypothesis", "skimage", "matplotlib"}, file
