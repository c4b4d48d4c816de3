"""deploy/kubernetes against Kubernetes' schemas and against the code: nothing here needs a cluster."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from shared import __version__
from shared.settings import ExtractionSettings, FrontSettings
from tests.conftest import ROOT
from tests.deploy.kubernetes.objects import (
    FOLDER,
    MISSING,
    SETTINGS,
    Object,
    as_written,
    build,
    containers,
    environment,
    image_environment,
    kustomize,
    of_kind,
    ours,
)
from tests.deploy.test_compose import NOT_OURS

pytestmark = pytest.mark.processes

SCHEMAS = "1.37"


def test_every_object_is_as_kubernetes_wants_it(objects: list[Object]) -> None:
    assert len(objects) > 20
    for item in objects:
        kubernetes_validate.validate(item, SCHEMAS, strict=True)


def unknown_field(deployment: Object) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}


def wrong_type(deployment: Object) -> None:
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "45s"


def missing_selector(deployment: Object) -> None:
    del deployment["spec"]["selector"]


@pytest.mark.parametrize("damage", [unknown_field, wrong_type, missing_selector])
def test_what_kubernetes_would_refuse_is_refused(damage: Callable[[Object], None]) -> None:
    deployment = copy.deepcopy(of_kind(as_written(FOLDER / "base"), "Deployment")["front"])
    kubernetes_validate.validate(deployment, SCHEMAS, strict=True)
    damage(deployment)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, SCHEMAS, strict=True)


def test_every_file_is_used() -> None:
    for folder in (path for path in FOLDER.iterdir() if path.is_dir()):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        generated = [file for item in kustomization.get("configMapGenerator", ()) for file in item.get("files", ())]
        named = {*kustomization.get("resources", ()), *generated}
        assert all((folder / name).exists() for name in named)
        assert {file.name for file in folder.iterdir()} - {"kustomization.yaml"} == named - {"../base"}


def test_all_lie_in_one_namespace(kind: str, objects: list[Object]) -> None:
    if kind != "as written":
        namespaces = {item["metadata"].get("namespace") for item in objects if item["kind"] != "Namespace"}
        assert namespaces == set(of_kind(objects, "Namespace")) == {"face-recognition"}


def test_every_variable_is_a_setting_with_a_value_that_is_accepted(objects: list[Object]) -> None:
    assert {container["name"] for container in ours(objects)} == set(SETTINGS)
    for container in ours(objects):
        settings = SETTINGS[container["name"]]
        found = environment(objects, container)
        assert set(found) <= {name.upper() for name in settings.model_fields}
        image = {name: value for name, value in image_environment(container).items() if not NOT_OURS.fullmatch(name)}
        settings.from_environment(image | found)


def test_the_extraction_service_may_bind_and_the_front_needs_a_key(objects: list[Object]) -> None:
    for container in ours(objects):
        settings = SETTINGS[container["name"]].from_environment(environment(objects, container))
        assert settings.allow_anonymous == isinstance(settings, ExtractionSettings)


def test_nothing_secret_is_written_down(kind: str, objects: list[Object]) -> None:
    assert not of_kind(objects, "Secret")
    secrets = {
        (reference["name"], reference["key"])
        for container in ours(objects)
        for variable in container.get("env", ())
        if (reference := variable["valueFrom"].get("secretKeyRef"))
    }
    assert secrets == {("database", "url")} | ({("search", "token")} if kind == "milvus" else set())
    documented = (ROOT / "docs" / "deployment.md").read_text()
    for name, key in secrets:
        assert re.search(rf"create secret generic {name} --from-\w+={key}=", documented)


def test_search_is_what_the_component_says(kind: str, objects: list[Object]) -> None:
    (front,) = [container for container in ours(objects) if container["name"] == "front"]
    settings = FrontSettings.from_environment(environment(objects, front))
    assert settings.search == (kind if kind in ("pgvector", "milvus") else "memory")
    assert (settings.search_url is not None) == (kind == "milvus")


def test_the_gpu_is_asked_for_only_in_its_overlay(kind: str, objects: list[Object]) -> None:
    gpu = kind in ("gpu", "milvus")
    pod = of_kind(objects, "Deployment")["extraction"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (1 if gpu else None)
    assert (environment(objects, container).get("EXECUTION_PROVIDERS") == "cuda") == gpu
    assert ("-gpu" in container["image"]) == gpu == ("nodeSelector" in pod) == ("tolerations" in pod)


def test_images_are_those_of_compose_in_the_version_of_the_code(kind: str, objects: list[Object]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for container in ours(objects):
        name, _, tag = container["image"].partition(":")
        assert name in {service["image"] for service in compose.values()}
        assert tag == ("" if kind == "as written" else __version__)
    (haproxy,) = containers(of_kind(objects, "Deployment")["balancer"])
    assert haproxy["image"] == compose["balancer"]["image"]


@pytest.mark.skipif(kustomize() is None, reason=MISSING)
def test_the_documented_kustomization_builds(tmp_path: Path) -> None:
    documented = (ROOT / "docs" / "deployment.md").read_text()
    (example,) = re.findall(r"```yaml\n(# kustomization\.yaml\n.+?)```", documented, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(example)
    (tmp_path / "face-recognition").symlink_to(ROOT)
    objects = build(tmp_path)
    for item in objects:
        kubernetes_validate.validate(item, SCHEMAS, strict=True)
    found = {container["name"]: container for container in ours(objects)}
    assert all(container["image"].startswith("registry.example.org/") for container in found.values())
    front = FrontSettings.from_environment(environment(objects, found["front"]))
    assert (front.search, front.search_url, front.event_days) == ("milvus", "http://vectors.milvus.svc:19530", 7)
    extraction = ExtractionSettings.from_environment(environment(objects, found["extraction"]))
    assert (extraction.max_batch, extraction.execution_providers) == (64, "cuda")
    assert of_kind(objects, "PersistentVolumeClaim")["weights"]["spec"]["storageClassName"] == "nfs"


@pytest.mark.skipif(kustomize() is None, reason=MISSING)
def test_a_patch_without_a_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "upstream").symlink_to(FOLDER)
    patch = {"target": {"kind": "Deployment", "name": "front"}, "patch": '[{"op": "remove", "path": "/spec/nothing"}]'}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["upstream/cpu"], "patches": [patch]}))
    with pytest.raises(AssertionError, match="nothing"):
        build(tmp_path)
