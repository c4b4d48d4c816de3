"""The manifests of deploy/kubernetes, as kustomize builds them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import ExtractionSettings, FrontSettings, Settings
from tests.conftest import ROOT
from tests.deploy.test_compose import read_stages

FOLDER = ROOT / "deploy" / "kubernetes"

MISSING = "needs kustomize 5, or a kubectl that has it (1.27 or newer)"

KINDS = {
    "as written": (),
    "cpu": ("cpu",),
    "gpu": ("gpu",),
    "pgvector": ("cpu", "search-pgvector"),
    "milvus": ("gpu", "search-milvus"),
}
"""What is looked at: the base without kustomize, an overlay, an overlay with a component."""

SETTINGS: dict[str, type[Settings]] = {
    "front": FrontSettings,
    "migrate": FrontSettings,
    "extraction": ExtractionSettings,
    "weights": ExtractionSettings,
}
"""Whose settings a container reads."""

COMPONENT = "app.kubernetes.io/component"

Object = dict[str, Any]


@cache
def objects_of(kind: str) -> list[Object]:
    """The objects of one of ``KINDS``; skips the test where only kustomize could tell."""
    if kind == "as written":
        return as_written(FOLDER / "base")
    if kustomize() is None:
        pytest.skip(MISSING)
    overlay, *components = KINDS[kind]
    if not components:
        return build(FOLDER / overlay)
    # As an installation does that has a kustomization of its own, next to the project's.
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        (own / "upstream").symlink_to(FOLDER)
        lists = {"resources": [f"upstream/{overlay}"], "components": [f"upstream/{name}" for name in components]}
        (own / "kustomization.yaml").write_text(yaml.safe_dump(lists))
        return build(own)


@cache
def kustomize() -> tuple[str, ...] | None:
    """The command that builds a folder; None without one that is new enough."""
    if shutil.which("kustomize") and _major_version(["kustomize", "version"]) >= 5:
        return ("kustomize", "build")
    if shutil.which("kubectl"):
        told = subprocess.run(["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True)
        version = json.loads(told.stdout).get("kustomizeVersion", "v0") if told.returncode == 0 else "v0"
        if int(version.lstrip("v").split(".")[0]) >= 5:
            return ("kubectl", "kustomize")
    return None


def _major_version(command: Sequence[str]) -> int:
    told = subprocess.run(command, capture_output=True, text=True).stdout.strip().lstrip("v")
    return int(told.split(".")[0]) if told[:1].isdigit() else 0


def build(folder: Path) -> list[Object]:
    """What kustomize makes of a folder."""
    command = kustomize()
    assert command is not None
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    result = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def as_written(folder: Path) -> list[Object]:
    """The resources of a kustomization as they stand in its files, with its config maps; for want of kustomize."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    objects = [
        document for file in kustomization["resources"] for document in yaml.safe_load_all((folder / file).read_text())
    ]
    for generated in kustomization["configMapGenerator"]:
        data = dict(literal.split("=", 1) for literal in generated.get("literals", ()))
        data |= {file: (folder / file).read_text() for file in generated.get("files", ())}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data})
    return objects


def containers(workload: Object) -> Iterator[Object]:
    """Every container of a deployment or a job."""
    pod = workload["spec"]["template"]["spec"]
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def workloads(objects: list[Object]) -> dict[str, Object]:
    return of_kind(objects, "Deployment") | of_kind(objects, "Job")


def labels(workload: Object) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def config_maps(objects: list[Object]) -> dict[str, dict[str, str]]:
    return {name: item["data"] for name, item in of_kind(objects, "ConfigMap").items()}


def environment(objects: list[Object], container: Object) -> dict[str, str]:
    """What a container finds, with a placeholder for what comes from a secret."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= config_maps(objects)[source["configMapRef"]["name"]]
    for variable in container.get("env", ()):
        if "secretKeyRef" in variable["valueFrom"]:
            found[variable["name"]] = "postgresql://faces@db/faces" if variable["name"] == "DATABASE" else "secret"
    return found


def image_environment(container: Object) -> dict[str, str]:
    front = "face-recognition-front" in container["image"]
    target = "" if front else "gpu" if "-gpu" in container["image"] else "cpu"
    return read_stages(ROOT / "deploy" / ("front.Dockerfile" if front else "extraction.Dockerfile"))[target].environment


def ours(objects: list[Object]) -> list[Object]:
    return [
        container
        for workload in workloads(objects).values()
        for container in containers(workload)
        if container["name"] in SETTINGS
    ]
