"""The overlays are complete, valid and consistent in themselves."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest

from tests.crd_schema import CRDS, custom_resource_errors
from tests.k8s.conftest import KUBERNETES_VERSION
from tests.k8s.reading import CLUSTER_WIDE, containers, names, of_kind, pod_templates

ROOT = Path(__file__).parents[2]
TRAINER, KUEUE = "trainer.kubeflow.org/v1alpha1", "kueue.x-k8s.io/v1beta2"
#: What people create themselves, with the keys that something refers to.
SECRETS = {
    "v2a-dpo-s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "v2a-dpo-mlflow": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    "v2a-dpo-mlflow-database": {"uri"},
}


def test_built_in_kinds_validate_strictly(manifests):
    built_in = [manifest for manifest in manifests if manifest["apiVersion"] not in (TRAINER, KUEUE)]
    assert len(built_in) > 25
    for manifest in built_in:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_the_weights_job_validates_and_writes_where_the_others_read(built, weights_job):
    for manifest in weights_job:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
        assert manifest["metadata"]["namespace"] == "v2a-dpo"
    ((_, pod),) = pod_templates(weights_job)
    (container,) = pod["spec"]["containers"]
    claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]
    assert claim["claimName"] in names(built["prod"], "PersistentVolumeClaim")
    assert not claim.get("readOnly")
    assert container["image"] in {
        other["image"] for _, template in pod_templates(built["prod"]) for other in containers(template)
    }


def test_the_validator_notices_a_misspelt_field(manifests):
    broken = copy.deepcopy(of_kind(manifests, "Deployment")[0])
    broken["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES_VERSION, strict=True)


def test_the_training_runtime_is_what_trainer_takes(manifests):
    (runtime,) = (manifest for manifest in manifests if manifest["apiVersion"] == TRAINER)
    assert runtime["metadata"]["name"] == "v2a-dpo-torch"
    assert custom_resource_errors(runtime) == []


def test_only_the_production_overlay_needs_kueue(built):
    assert not [manifest for manifest in built["dev"] if manifest["apiVersion"].startswith("kueue")]
    queues = {manifest["kind"]: manifest for manifest in built["prod"] if manifest["apiVersion"] == KUEUE}
    assert set(queues) == {"ResourceFlavor", "ClusterQueue", "LocalQueue"}
    assert queues["LocalQueue"]["spec"]["clusterQueue"] == queues["ClusterQueue"]["metadata"]["name"]
    (group,) = queues["ClusterQueue"]["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == queues["ResourceFlavor"]["metadata"]["name"]
    assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_everything_is_in_one_namespace_and_no_name_is_used_twice(manifests):
    for manifest in manifests:
        namespace = manifest["metadata"].get("namespace")
        assert namespace == (None if manifest["kind"] in CLUSTER_WIDE else "v2a-dpo"), manifest["metadata"]["name"]
    keys = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(keys) == len(set(keys))


def test_images_are_pinned_and_ours_have_the_version_of_the_package(manifests):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for _, pod in pod_templates(manifests) for container in containers(pod)}
    for image in images:
        name, _, tag = image.rpartition(":")
        assert re.fullmatch(r"v?\d+(\.\d+)+", tag), image
        assert "/" in name, f"{image} names no registry"
        if "v2a-dpo" in name:
            assert tag == version
    assert any(image.startswith("ghcr.io/v2a-dpo/v2a-dpo-orchestration:") for image in images)


def test_there_is_no_secret_in_the_repository(manifests):
    assert not of_kind(manifests, "Secret")
    for config in of_kind(manifests, "ConfigMap"):
        for key, value in config["data"].items():
            assert not re.search(r"(?i)password|secret|token|access_key", key), key
            assert not re.search(r"://[^/@\s]+:[^/@\s]+@", value), f"{key} holds a password"


def test_pods_refer_only_to_what_exists(manifests):
    configs = {config["metadata"]["name"]: set(config["data"]) for config in of_kind(manifests, "ConfigMap")}
    for where, pod in pod_templates(manifests):
        spec = pod["spec"]
        assert spec["serviceAccountName"] in names(manifests, "ServiceAccount"), where
        assert spec["priorityClassName"] in names(manifests, "PriorityClass"), where
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(manifests, "PersistentVolumeClaim"), where
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes), where
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert source["configMapRef"]["name"] in configs, where
                else:
                    assert source["secretRef"]["name"] in SECRETS, where
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["key"] in SECRETS[reference["name"]], where


def test_the_document_says_how_to_create_every_secret():
    document = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    for name, keys in SECRETS.items():
        (command,) = re.findall(rf"kubectl create secret generic {name} (.*)", document)
        assert set(re.findall(r"--from-literal=(\w+)=", command)) == keys


def test_services_and_disruption_budgets_select_the_pods_of_a_deployment(manifests):
    labels = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in of_kind(manifests, "Deployment")]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(manifests, "PodDisruptionBudget")]
    assert len(selectors) == 2 * len(labels)
    for selector in selectors:
        assert any(selector.items() <= pod.items() for pod in labels), selector


def test_limits_leave_the_stages_their_cpu(manifests):
    (limits,) = of_kind(manifests, "LimitRange")
    (limit,) = limits["spec"]["limits"]
    assert "cpu" not in limit["default"]  # a pod that requests more than the default limit would be refused
    assert "max" not in limit
    (quota,) = of_kind(manifests, "ResourceQuota")
    assert "limits.cpu" not in quota["spec"]["hard"]  # it would refuse the stages' pods, which set none


def test_the_schemas_are_those_of_the_kinds_they_are_named_after():
    for path in CRDS.glob("*.json"):
        content = json.loads(path.read_text())
        assert path.name == f"{content['kind']}.{content['version']}.json"
