"""How the pods of deploy/kubernetes run, are found, scaled and ended."""

from __future__ import annotations

import re

import click
import yaml

from face_detection.app import OPERATIONS
from face_detection.cli import main
from feature_extraction.app import create_app
from feature_extraction.metrics import Metrics
from shared.settings import ExtractionSettings, split_bind
from tests.conftest import ROOT
from tests.deploy.kubernetes.network import selects
from tests.deploy.kubernetes.objects import (
    COMPONENT,
    Object,
    config_maps,
    containers,
    environment,
    image_environment,
    labels,
    of_kind,
    ours,
    workloads,
)


def test_threads_are_as_many_as_the_cpus_asked_for(objects: list[Object]) -> None:
    for container in ours(objects):
        found = environment(objects, container)
        threads = {"front": found.get("CPU_THREADS"), "extraction": found.get("COMPUTE_THREADS")}
        if container["name"] in threads:
            assert container["resources"]["requests"]["cpu"] == threads[container["name"]]


def routes(container: Object, objects: list[Object]) -> set[str]:
    if container["name"] == "front":
        return {operation.path for operation in OPERATIONS if operation.method == "GET"}
    if container["name"] == "extraction":
        return {rule.rule for rule in create_app(ExtractionSettings()).url_map.iter_rules()}
    (configuration,) = [data["haproxy.cfg"] for data in config_maps(objects).values() if "haproxy.cfg" in data]
    return set(re.findall(r"monitor-uri (\S+)", configuration))


def listens_on(container: Object, objects: list[Object]) -> int:
    bind = {"front": "FRONT_BIND", "extraction": "EXTRACTION_BIND"}.get(container["name"])
    if bind:
        return split_bind(image_environment(container)[bind])[1]
    (configuration,) = [data["haproxy.cfg"] for data in config_maps(objects).values() if "haproxy.cfg" in data]
    return int(re.findall(r"bind :(\d+)", configuration)[0])


def test_probes_ask_for_what_exists(objects: list[Object]) -> None:
    for name, deployment in of_kind(objects, "Deployment").items():
        (container,) = containers(deployment)
        (port,) = container["ports"]
        assert port["containerPort"] == listens_on(container, objects)
        probes = {probe: container.get(f"{probe}Probe") for probe in ("startup", "liveness", "readiness")}
        assert all(probes.values()) or name == "balancer"
        for probe in filter(None, probes.values()):
            assert probe["httpGet"]["port"] == port["name"]
            assert probe["httpGet"]["path"] in routes(container, objects)
        if name != "balancer":
            assert [probe and probe["httpGet"]["path"] for probe in probes.values()] == ["/livez", "/livez", "/readyz"]


def test_services_budgets_and_spreading_find_their_pods(objects: list[Object]) -> None:
    deployments = of_kind(objects, "Deployment")
    for name, deployment in deployments.items():
        assert selects(deployment["spec"]["selector"], labels(deployment))
        for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], labels(deployment))
        budget = of_kind(objects, "PodDisruptionBudget")[name]["spec"]["selector"]
        assert [other for other, item in workloads(objects).items() if selects(budget, labels(item))] == [name]
    found = {
        service: [name for name, item in workloads(objects).items() if selects({"matchLabels": selector}, labels(item))]
        for service, selector in (
            (name, item["spec"]["selector"]) for name, item in of_kind(objects, "Service").items()
        )
    }
    assert found == {"front": ["front"], "extraction": ["balancer"], "extraction-workers": ["extraction"]}


def test_the_front_asks_the_balancer_and_the_balancer_all_workers(objects: list[Object]) -> None:
    services = of_kind(objects, "Service")
    (front,) = [container for container in ours(objects) if container["name"] == "front"]
    assert environment(objects, front)["EXTRACTION_URL"] == f"http://extraction:{port_of(services['extraction'])}"
    assert services["extraction-workers"]["spec"]["clusterIP"] == "None"
    (configuration,) = [data["haproxy.cfg"] for data in config_maps(objects).values() if "haproxy.cfg" in data]
    address = f"extraction-workers.${{NAMESPACE}}.svc.cluster.local:{port_of(services['extraction-workers'])}"
    assert f'"{address}"' in configuration
    (haproxy,) = containers(of_kind(objects, "Deployment")["balancer"])
    assert haproxy["env"] == [{"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]
    places = int(re.findall(r"server-template \w+ 1-(\d+)", configuration)[0])
    assert places >= of_kind(objects, "HorizontalPodAutoscaler")["extraction"]["spec"]["maxReplicas"]


def port_of(service: Object) -> int:
    (port,) = service["spec"]["ports"]
    return int(port["port"])


def test_autoscalers_scale_what_exists_by_what_is_measured(objects: list[Object]) -> None:
    scalers = of_kind(objects, "HorizontalPodAutoscaler")
    assert set(scalers) == {"front", "extraction"}
    for name, scaler in scalers.items():
        target = scaler["spec"]["scaleTargetRef"]
        scaled = of_kind(objects, target["kind"])[target["name"]]
        assert target["name"] == name and target["apiVersion"] == scaled["apiVersion"]
        assert "replicas" not in scaled["spec"], "applying it would undo the autoscaler's work"
        assert 2 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]
    (by_cpu,) = scalers["front"]["spec"]["metrics"]
    (by_queue,) = scalers["extraction"]["spec"]["metrics"]
    assert by_cpu["resource"]["name"] == "cpu"
    metric = by_queue["pods"]["metric"]["name"]
    assert metric in {family.name for family in Metrics().registry.collect()}
    (values,) = re.findall(r"```yaml\n(rules:\n.+?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
    (rule,) = yaml.safe_load(values)["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{metric}{{") and rule["name"]["as"] == metric
    annotations = of_kind(objects, "Deployment")["extraction"]["spec"]["template"]["metadata"]["annotations"]
    (container,) = containers(of_kind(objects, "Deployment")["extraction"])
    assert annotations["prometheus.io/port"] == str(listens_on(container, objects))


def test_pods_have_time_to_end(objects: list[Object]) -> None:
    (drain,) = {data["DRAIN_SECONDS"] for data in config_maps(objects).values() if "DRAIN_SECONDS" in data}
    assert "graceful_timeout = math.ceil(settings.drain_seconds + settings.embed_timeout) + 3\n" in source("extraction")
    assert "graceful_timeout = 30\n" in source("front")
    (configuration,) = [data["haproxy.cfg"] for data in config_maps(objects).values() if "haproxy.cfg" in data]
    assert "hard-stop-after 30s\n" in configuration
    graceful = {"front": 30, "extraction": int(drain) + ExtractionSettings().embed_timeout + 3, "balancer": 30}
    for name, deployment in of_kind(objects, "Deployment").items():
        (container,) = containers(deployment)
        pause = 0 if name == "extraction" else container["lifecycle"]["preStop"]["sleep"]["seconds"]
        # By then whoever sends requests has turned away: checks fail after 4 seconds, endpoints follow within a few.
        assert (int(drain) if name == "extraction" else pause) >= 10
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > pause + graceful[name]


def source(tier: str) -> str:
    package = {"front": "face_detection", "extraction": "feature_extraction"}[tier]
    return (ROOT / package / "gunicorn.conf.py").read_text()


def test_pods_may_do_nothing_that_they_need_not(objects: list[Object]) -> None:
    (namespace,) = of_kind(objects, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in workloads(objects).values():
        pod = workload["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] in of_kind(objects, "ServiceAccount")
        assert pod["automountServiceAccountToken"] is False
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 10001)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
    for file in (ROOT / "deploy").glob("*.Dockerfile"):
        assert "useradd --uid 10001 " in file.read_text()


def test_volumes_exist_and_only_the_job_writes_the_weights(objects: list[Object]) -> None:
    for name, workload in workloads(objects).items():
        volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
        for container in containers(workload):
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert set(mounts) <= set(volumes)
            if "weights" in mounts:
                assert mounts["weights"]["mountPath"] == image_environment(container)["DEEPFACE_HOME"]
                assert mounts["weights"].get("readOnly", False) == (name != "prepare")
        claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        maps = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
        assert claims <= set(of_kind(objects, "PersistentVolumeClaim")) and maps <= set(config_maps(objects))


def test_the_job_runs_commands_that_exist(objects: list[Object]) -> None:
    commands = {container["name"]: container["command"] for container in containers(workloads(objects)["prepare"])}
    assert commands["weights"] == ["python", "-m", "feature_extraction.weights", "fetch"]
    *module, command = commands["migrate"]
    assert module == ["python", "-m", "face_detection"] and main.get_command(click.Context(main), command)


def test_what_is_applied_first_suffices_for_the_job(objects: list[Object]) -> None:
    """docs/deployment.md applies everything but the three deployments, and waits for the job."""
    excluded = {"front", "extraction", "balancer"}
    later = [item for item in objects if item["metadata"].get("labels", {}).get(COMPONENT) in excluded]
    assert {(item["kind"], item["metadata"]["name"]) for item in later} == {("Deployment", name) for name in excluded}
    documented = (ROOT / "docs" / "deployment.md").read_text()
    assert f"'{COMPONENT} notin (front,extraction,balancer)'" in documented
