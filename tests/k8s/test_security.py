"""No pod has a right that it does not need."""

from __future__ import annotations

import copy

import pytest

from tests.k8s.reading import Manifest, containers, of_kind, pod_templates


def weaknesses(pod: Manifest) -> list[str]:
    """What a pod template leaves open; empty when it has the settings that every pod of ours must have."""
    spec, found = pod["spec"], []
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        found.append("may run as root")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("has a token for the Kubernetes API")
    found += [f"shares the host's {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += ["mounts the host's files" for volume in spec.get("volumes", []) if "hostPath" in volume]
    for container in containers(pod):
        settings = container.get("securityContext", {})
        if settings.get("readOnlyRootFilesystem") is not True:
            found.append("a writable root file system")
        if settings.get("allowPrivilegeEscalation") is not False or settings.get("privileged"):
            found.append("may gain privileges")
        if settings.get("capabilities") != {"drop": ["ALL"]}:
            found.append("keeps capabilities")
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(settings):
            found.append("overrides the pod's settings")
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            found.append("no requests or no memory limit")
        if not any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", [])):
            found.append("nowhere to write temporary files")
    return found


def test_every_pod_template_has_the_security_settings(manifests, weights_job):
    found = {where: weaknesses(pod) for where, pod in pod_templates([*manifests, *weights_job])}
    assert any("ClusterTrainingRuntime/v2a-dpo-torch" in where for where in found)
    assert any(where.startswith("Deployment/mlflow") for where in found)
    assert not any(found.values()), found


@pytest.mark.parametrize(
    ("section", "change", "weakness"),
    [
        ("pod", {"securityContext": {"runAsUser": 1000}}, "may run as root"),
        ("pod", {"hostNetwork": True}, "shares the host's hostNetwork"),
        ("pod", {"automountServiceAccountToken": True}, "has a token for the Kubernetes API"),
        ("pod", {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "mounts the host's files"),
        ("container", {"securityContext": {}}, "a writable root file system"),
        ("container", {"resources": {}}, "no requests or no memory limit"),
        ("container", {"volumeMounts": []}, "nowhere to write temporary files"),
    ],
)
def test_a_loosened_setting_is_noticed(built, section, change, weakness):
    _, pod = next(pod_templates(of_kind(built["dev"], "Deployment")))
    pod = copy.deepcopy(pod)
    (pod["spec"] if section == "pod" else pod["spec"]["containers"][0]).update(change)
    assert weakness in weaknesses(pod)


def test_pipeline_pods_may_handle_train_jobs_and_what_kubeflow_needs_and_nothing_more(manifests):
    assert not [item for item in manifests if item["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    rights = {
        (group, resource, tuple(rule.get("resourceNames", ()))): set(rule["verbs"])
        for role in of_kind(manifests, "Role")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        ("trainer.kubeflow.org", "trainjobs", ()): {"create", "get", "list", "watch", "delete"},
        ("", "pods", ()): {"get", "list", "watch"},
        ("", "pods/log", ()): {"get"},
        ("argoproj.io", "workflowtaskresults", ()): {"create", "patch"},
        ("", "configmaps", ("kfp-launcher",)): {"get"},
        ("", "secrets", ("mlpipeline-minio-artifact",)): {"get"},
    }
    subjects = [
        (subject["kind"], subject["name"])
        for binding in of_kind(manifests, "RoleBinding")
        for subject in binding["subjects"]
    ]
    assert set(subjects) == {("ServiceAccount", "v2a-dpo-pipeline")}


def test_only_the_pipelines_account_gets_a_token(manifests):
    tokens = {
        account["metadata"]["name"]: account["automountServiceAccountToken"]
        for account in of_kind(manifests, "ServiceAccount")
    }
    assert tokens.pop("v2a-dpo-pipeline") is True
    assert tokens
    assert not any(tokens.values())


def test_the_namespace_refuses_privileged_pods(manifests):
    (namespace,) = of_kind(manifests, "Namespace")
    levels = {
        key.partition("/")[2]: value for key, value in namespace["metadata"]["labels"].items() if "pod-sec" in key
    }
    assert levels == {"enforce": "baseline", "warn": "restricted", "audit": "restricted"}


def test_training_pods_see_the_weights_read_only_and_have_shared_memory(manifests):
    (pod,) = (pod for where, pod in pod_templates(manifests) if where.startswith("ClusterTrainingRuntime"))
    (node,) = pod["spec"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in node["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts["/weights"]["readOnly"]
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
