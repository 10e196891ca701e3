"""Nothing flows that is not named, and what must flow does."""

from __future__ import annotations

import pytest

from tests.k8s.reading import RUN_LABELS, TRAINING_LABELS, can_enter, can_leave, of_kind

MLFLOW, S3 = {"app.kubernetes.io/name": "mlflow"}, {"app.kubernetes.io/name": "s3"}
STRANGER = {"app": "stranger"}


def test_everything_is_denied_first(manifests):
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [
        policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")
    ]


def test_every_service_lets_someone_in_and_no_stranger(manifests):
    for service in of_kind(manifests, "Service"):
        for port in service["spec"]["ports"]:
            server = service["spec"]["selector"]
            clients = [RUN_LABELS, TRAINING_LABELS, MLFLOW]
            assert any(can_enter(manifests, port["port"], server=server, client=client) for client in clients)
            assert not can_enter(manifests, port["port"], server=server, client=STRANGER)


@pytest.mark.parametrize("client", [RUN_LABELS, TRAINING_LABELS, MLFLOW], ids=["steps", "training", "mlflow"])
def test_in_the_development_overlay_both_ends_of_the_way_to_s3_are_open(built, client):
    assert can_leave(built["dev"], 9000, client=client, server=S3)
    assert can_enter(built["dev"], 9000, server=S3, client=client)
    assert not can_enter(built["dev"], 9333, server=S3, client=client)  # SeaweedFS's master has no password


def test_pipeline_steps_reach_mlflow_and_training_does_not(manifests):
    assert can_leave(manifests, 5000, client=RUN_LABELS, server=MLFLOW)
    assert can_enter(manifests, 5000, server=MLFLOW, client=RUN_LABELS)
    assert not can_leave(manifests, 5000, client=TRAINING_LABELS, server=MLFLOW)


def test_training_nodes_reach_each_other_on_any_port_and_no_one_else_reaches_them(manifests):
    assert can_leave(manifests, 29500, client=TRAINING_LABELS, server=TRAINING_LABELS)
    assert can_enter(manifests, 41234, server=TRAINING_LABELS, client=TRAINING_LABELS)
    assert not can_enter(manifests, 29500, server=TRAINING_LABELS, client=RUN_LABELS)


def test_the_outside_is_reached_by_named_ports_and_never_the_cloud_s_metadata_service(built):
    outside = {
        policy["metadata"]["name"]: [port["port"] for port in rule["ports"]]
        for policy in of_kind(built["prod"], "NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        if any("ipBlock" in peer for peer in rule.get("to", []))
    }
    assert outside == {
        "pipeline-steps-to-s3": [443],
        "training-to-s3": [443],
        "mlflow-to-s3": [443],
        "mlflow-to-postgres": [5432],
    }
    for policy in of_kind(built["prod"], "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.169.254/32" in peer["ipBlock"]["except"]
