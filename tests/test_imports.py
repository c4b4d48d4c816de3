"""Which module may import which: read from the import statements, wherever in a file they stand."""

from __future__ import annotations

import ast
from functools import cache
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
    "live.session",
    "recognition.readiness",
    "recognition.service",
    "recognition.examination",
    "recognition.identification",
    "people",
    "journal",
    "upkeep",
    "live.tracking",
    "live.visits",
    "recognition.decision",
    "recognition.thresholds",
    "recognition.enrolment",
    "recognition.conflicts",
    "recognition.crops",
    "recognition.liveness",
    "recognition.choice",
    "recognition.drawing",
    "recognition.detection",
    "recognition.views",
    "recognition.quality",
    "extraction.client",
    "extraction.http",
    "extraction.workers",
    "fetching",
    "gallery",
    "metrics",
    "naming",
)
"""The parts of the front from the top down. ``app`` is the composition root, which imports any below it."""

DEPENDENCIES = {
    "__main__": {"cli"},
    "cli": {
        "access",
        "app",
        "extraction.client",
        "gallery",
        "live.visits",
        "naming",
        "recognition.choice",
        "recognition.conflicts",
        "recognition.drawing",
        "recognition.enrolment",
        "recognition.identification",
        "recognition.service",
        "upkeep",
    },
    "api": {
        "access",
        "extraction.client",
        "fetching",
        "gallery",
        "live.session",
        "live.visits",
        "metrics",
        "naming",
        "people",
        "recognition.choice",
        "recognition.conflicts",
        "recognition.crops",
        "recognition.decision",
        "recognition.detection",
        "recognition.drawing",
        "recognition.enrolment",
        "recognition.examination",
        "recognition.identification",
        "recognition.quality",
        "recognition.readiness",
        "recognition.service",
    },
    "access": {"gallery"},
    "live.session": {
        "extraction.client",
        "gallery",
        "live.tracking",
        "live.visits",
        "metrics",
        "recognition.crops",
        "recognition.decision",
        "recognition.identification",
        "recognition.quality",
    },
    "recognition.readiness": {"extraction.client", "gallery", "recognition.identification"},
    "recognition.service": {
        "extraction.client",
        "gallery",
        "journal",
        "metrics",
        "recognition.choice",
        "recognition.conflicts",
        "recognition.crops",
        "recognition.decision",
        "recognition.enrolment",
        "recognition.examination",
        "recognition.identification",
        "recognition.quality",
        "recognition.thresholds",
    },
    "recognition.examination": {
        "extraction.client",
        "gallery",
        "recognition.conflicts",
        "recognition.identification",
    },
    "recognition.identification": {
        "extraction.client",
        "gallery",
        "journal",
        "metrics",
        "recognition.crops",
        "recognition.decision",
        "recognition.liveness",
        "recognition.quality",
        "recognition.thresholds",
    },
    "people": {"gallery", "naming"},
    "journal": {"gallery", "metrics"},
    "upkeep": {"gallery"},
    "live.tracking": set(),
    "live.visits": set(),
    "recognition.decision": {"gallery", "recognition.quality", "recognition.thresholds"},
    "recognition.thresholds": set(),
    "recognition.conflicts": {"gallery"},
    "recognition.enrolment": {
        "extraction.client",
        "gallery",
        "recognition.choice",
        "recognition.conflicts",
        "recognition.crops",
        "recognition.quality",
    },
    "recognition.crops": {
        "metrics",
        "recognition.choice",
        "recognition.detection",
        "recognition.liveness",
        "recognition.quality",
    },
    "recognition.liveness": set(),
    "recognition.choice": set(),
    "recognition.drawing": set(),
    "recognition.detection": {"recognition.views"},
    "recognition.views": set(),
    "recognition.quality": set(),
    "extraction.client": {"extraction.http", "extraction.workers"},
    "extraction.http": {"extraction.workers"},
    "extraction.workers": set(),
    "fetching": set(),
    "gallery": {"naming"},
    "metrics": set(),
    "naming": set(),
}

OPEN = ("recognition", "live", "extraction")
"""Packages whose modules are parts of their own; of the others each is one part."""


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def imported(file: Path) -> tuple[str, ...]:
    """Full dotted names of whatever a file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: imports are absolute here"
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


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
    http_clients = {
        Path("cli", *name) for name in (("service", "remote.py"), ("video", "live_client.py"), ("video", "webhook.py"))
    }
    if place.parts[0] not in ("api", "app.py", "fetching.py", "gunicorn.conf.py") and place != Path(
        "extraction/http.py"
    ):
        assert place in http_clients or not tops(file) & WEB_FRAMEWORKS
    if place.parts[0] != "gallery":
        assert not tops(file) & {*SQL, *MILVUS}


def part_of(name: str) -> str:
    """The part to which belongs what has a dotted name within the front."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first in OPEN and rest else first


@in_package("face_detection")
def test_the_front_imports_downwards(file: Path) -> None:
    place = part_of(".".join(file.relative_to(ROOT / "face_detection").with_suffix("").parts))
    targets = {
        part_of(name.removeprefix("face_detection.")) for name in imported(file) if name.startswith("face_detection.")
    }
    if place == "app":
        return
    if place in ("__init__", "gunicorn") or place.endswith(".__init__"):
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
        assert "face_detection.recognition.detection.YuNet" not in imported(file)
    if place.name != "app.py" and place.parts[0] != "gallery":
        places = ("sqlite.connections", "postgres", "search.memory", "remote.milvus", "remote.pgvector")
        concrete = tuple(f"face_detection.gallery.{name}" for name in places)
        assert not [name for name in imported(file) if name.startswith(concrete)]


@pytest.mark.parametrize("package", [*PACKAGES, "deploy", "benchmarks", "tests"])
def test_no_module_is_a_drawer_for_odds_and_ends(package: str) -> None:
    names = {part for file in files(package) for part in (file.stem, file.parent.name)}
    assert names and not names & {"util", "utils", "helper", "helpers", "common", "misc"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_service_imports_what_only_tests_need(package: str) -> None:
    for file in files(package):
        assert not tops(file) & {"tests", "benchmarks", "pytest", "hypothesis", "skimage", "matplotlib"}, file


@pytest.mark.parametrize("package", ["deploy", "benchmarks"])
def test_what_tests_share_with_others_is_none_of_them(package: str) -> None:
    for file in files(package):
        assert "tests" not in tops(file), file
