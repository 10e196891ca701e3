"""Finding one's way in manifests: their pods, their references, their network flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]
CLUSTER_WIDE = {"Namespace", "PriorityClass", "ClusterTrainingRuntime", "ResourceFlavor", "ClusterQueue"}
#: What Argo puts on every pod of a workflow, and what the pods of others may carry.
RUN_LABELS = {"workflows.argoproj.io/workflow": "some-run"}
TRAINING_LABELS = {"app.kubernetes.io/component": "training", "app.kubernetes.io/part-of": "v2a-dpo"}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def names(manifests: list[Manifest], kind: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in of_kind(manifests, kind)}


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Where each pod template stands, and the template, however deep it lies in a resource of whatever kind."""

    def search(node: Any, path: str) -> Iterator[tuple[str, Manifest]]:
        if isinstance(node, dict):
            if isinstance(node.get("spec"), dict) and "containers" in node["spec"]:
                yield path, node
            for key, child in node.items():
                yield from search(child, f"{path}.{key}")
        elif isinstance(node, list):
            for index, child in enumerate(node):
                yield from search(child, f"{path}[{index}]")

    for manifest in manifests:
        yield from search(manifest, f"{manifest['kind']}/{manifest['metadata']['name']}")


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector takes an object with these labels; the operators we use, others are refused."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists", expression
        if expression["key"] not in labels:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def can_enter(manifests: list[Manifest], port: int, *, server: dict[str, str], client: dict[str, str]) -> bool:
    """Whether the policies let pods with the labels of `client` in to `port` of pods with the labels of `server`."""
    return any(
        _allows(rule, "from", port, client)
        for policy in of_kind(manifests, "NetworkPolicy")
        if "Ingress" in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], server)
        for rule in policy["spec"].get("ingress", [])
    )


def can_leave(manifests: list[Manifest], port: int, *, client: dict[str, str], server: dict[str, str]) -> bool:
    """Whether the policies let pods with the labels of `client` out to `port` of pods with the labels of `server`."""
    return any(
        _allows(rule, "to", port, server)
        for policy in of_kind(manifests, "NetworkPolicy")
        if "Egress" in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], client)
        for rule in policy["spec"].get("egress", [])
    )


def _allows(rule: Manifest, side: str, port: int, labels: dict[str, str]) -> bool:
    peers = rule.get(side)
    ports = rule.get("ports")
    peer_fits = peers is None or any(
        "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
        for peer in peers
    )
    return peer_fits and (ports is None or port in {item["port"] for item in ports})
