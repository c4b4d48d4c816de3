"""Who reaches whom by the network policies of deploy/kubernetes."""

from __future__ import annotations

from tests.deploy.kubernetes.network import Pod, may_connect
from tests.deploy.kubernetes.objects import COMPONENT, Object, labels, of_kind, workloads


def network(objects: list[Object]) -> tuple[list[Object], dict[str, Pod]]:
    pods = {name: Pod(name, labels(workload)) for name, workload in workloads(objects).items()}
    strangers: dict[str, tuple[dict[str, str], str]] = {
        "neighbour": ({}, "face-recognition"),
        "elsewhere": ({COMPONENT: "front"}, "default"),
        "ingress": ({}, "ingress-nginx"),
        "prometheus": ({"app.kubernetes.io/name": "prometheus"}, "monitoring"),
        "grafana": ({"app.kubernetes.io/name": "grafana"}, "monitoring"),
        "database": ({"app": "postgresql"}, "databases"),
        "milvus": ({}, "milvus"),
        "dns": ({"k8s-app": "kube-dns"}, "kube-system"),
        "proxy": ({"k8s-app": "kube-proxy"}, "kube-system"),
    }
    pods |= {name: Pod(name, found, namespace) for name, (found, namespace) in strangers.items()}
    return list(of_kind(objects, "NetworkPolicy").values()), pods


def test_only_the_front_reaches_the_extraction_tier(objects: list[Object]) -> None:
    policies, pods = network(objects)

    def who_reaches(target: str, port: int) -> set[str]:
        sources = {name for name, pod in pods.items() if may_connect(policies, pod, pods[target], port)}
        return sources

    assert who_reaches("extraction", 5000) == {"balancer", "prometheus"}
    assert who_reaches("balancer", 5000) == {"front"}
    assert who_reaches("front", 6337) == {"ingress"}
    for target in ("front", "balancer", "extraction", "prepare"):
        assert who_reaches(target, 22) == set()


def test_pods_reach_what_they_need_and_nothing_else(kind: str, objects: list[Object]) -> None:
    policies, pods = network(objects)
    ports = {5000, 5432, 6337, 19530, 443, 53, 80}

    def reached(source: str) -> set[tuple[str, int]]:
        return {
            (name, port)
            for name, pod in pods.items()
            for port in ports
            if pod.namespace in ("databases", "milvus", "kube-system", "face-recognition")
            and may_connect(policies, pods[source], pod, port)
        }

    anywhere = {"database", "milvus", "dns", "proxy"}
    database = {(name, 5432) for name in anywhere}  # its address is the installation's, so only the port is said
    search = {("milvus", 19530)} if kind == "milvus" else set()
    assert reached("front") == {("balancer", 5000), ("dns", 53)} | database | search
    assert reached("balancer") == {("extraction", 5000), ("dns", 53)}
    assert reached("extraction") == set()
    assert reached("prepare") == {("dns", 53)} | database | {(name, 443) for name in anywhere}
    assert reached("neighbour") == set()


def test_without_the_policies_all_would_be_open(objects: list[Object]) -> None:
    policies, pods = network(objects)
    without_default = [policy for policy in policies if policy["metadata"]["name"] in ("dns", "front")]
    assert may_connect(without_default, pods["neighbour"], pods["extraction"], 5000)
    assert not may_connect(policies, pods["neighbour"], pods["extraction"], 5000)
