"""Which pod may reach which, by network policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.kubernetes.objects import Object


@dataclass(frozen=True)
class Pod:
    """A pod as network policies see it."""

    name: str
    labels: Mapping[str, str]
    namespace: str = "face-recognition"


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects something with these labels; an empty one selects everything."""
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "the only one that the manifests use"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def may_connect(policies: Sequence[Object], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether network policies let a pod connect to another: its egress and the other's ingress must both allow it."""
    return _allows(policies, "Egress", source, target, port, protocol) and _allows(
        policies, "Ingress", target, source, port, protocol
    )


def _allows(policies: Sequence[Object], direction: str, own: Pod, other: Pod, port: int, protocol: str) -> bool:
    applying = [
        policy["spec"]
        for policy in policies
        if policy["metadata"].get("namespace", "face-recognition") == own.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], own.labels)
    ]
    if not applying:
        return True  # a pod that no policy selects is open
    peers = "from" if direction == "Ingress" else "to"
    return any(
        any(_is_peer(peer, own, other) for peer in rule.get(peers, [{}])) and _has_port(rule, port, protocol)
        for spec in applying
        for rule in spec.get(direction.lower(), ())
    )


def _is_peer(peer: Mapping[str, Any], own: Pod, other: Pod) -> bool:
    assert set(peer) <= {"namespaceSelector", "podSelector"}, "ipBlock is not evaluated here"
    if not peer:
        return True  # a rule without peers is for everybody
    namespace = {"kubernetes.io/metadata.name": other.namespace}
    if "namespaceSelector" in peer:
        inside = selects(peer["namespaceSelector"], namespace)
    else:
        inside = own.namespace == other.namespace
    return inside and selects(peer.get("podSelector", {}), other.labels)


def _has_port(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    return any((entry["port"], entry["protocol"]) == (port, protocol) for entry in rule["ports"])
