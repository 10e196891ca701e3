"""The cluster has what pipelines and clients refer to by name."""

from __future__ import annotations

from urllib.parse import urlsplit

from mlflow.server.security_utils import is_allowed_host_header, is_health_endpoint

from components.definition import GENERATION, Images
from pipelines.placement import CONFIG_MAP, HOME, MLFLOW_SECRET, S3_SECRET, TEMPORARY, USER_ID, WEIGHTS_FOLDER
from pipelines.presets import PRESETS
from tests.k8s.reading import containers, names, of_kind, pod_templates
from tests.k8s.test_manifests import SECRETS
from v2a_dpo.cluster.train_job.manifest import NODE, TrainJob
from v2a_dpo.cluster.train_job.settings import ClusterSettings


def test_the_environment_has_the_keys_that_tasks_take(built):
    required = {"AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI"}
    optional = {"AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"}  # Amazon's own S3 needs none
    for overlay, keys in (("dev", required | optional), ("prod", required)):
        (environment,) = (
            config["data"]
            for config in of_kind(built[overlay], "ConfigMap")
            if config["metadata"]["name"] == CONFIG_MAP
        )
        assert set(environment) == keys


def test_the_secrets_are_those_that_tasks_refer_to():
    assert {S3_SECRET, MLFLOW_SECRET} <= set(SECRETS)


def test_queue_and_weights_of_the_presets_exist(built):
    queues, claims = (
        {getattr(preset, key) for preset in PRESETS.values()} - {""} for key in ("queue", "weights_claim")
    )
    assert queues
    assert queues <= names(built["prod"], "LocalQueue")
    assert claims <= names(built["prod"], "PersistentVolumeClaim")


def test_training_pods_are_laid_out_as_the_pipelines_pods(manifests):
    (pod,) = (pod for where, pod in pod_templates(manifests) if where.startswith("ClusterTrainingRuntime"))
    assert pod["spec"]["securityContext"]["runAsUser"] == USER_ID
    (node,) = containers(pod)
    assert {HOME, TEMPORARY, WEIGHTS_FOLDER} <= {mount["mountPath"] for mount in node["volumeMounts"]}
    assert {"name": "WEIGHTS_DIR", "value": WEIGHTS_FOLDER} in node["env"]


def test_a_train_job_fits_the_training_runtime(manifests):
    (runtime,) = of_kind(manifests, "ClusterTrainingRuntime")
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (node,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    job = TrainJob("align", ["align"], ClusterSettings(image=Images().reference(GENERATION))).manifest()
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert job["spec"]["trainer"]["command"] == node["command"]
    assert replicated["name"] == node["name"] == NODE
    assert replicated["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"


def test_the_tracking_server_answers_under_the_address_that_clients_use(manifests):
    data = {key: value for config in of_kind(manifests, "ConfigMap") for key, value in config["data"].items()}
    address = urlsplit(data["MLFLOW_TRACKING_URI"])
    (service,) = (item for item in of_kind(manifests, "Service") if item["metadata"]["name"] == "mlflow")
    assert address.hostname == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert address.port == service["spec"]["ports"][0]["port"]
    allowed = data["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert is_allowed_host_header(allowed, address.netloc)
    assert is_allowed_host_header(allowed, "localhost:15000")  # kubectl port-forward
    assert not is_allowed_host_header(allowed, "mlflow.example.org")
    assert "*" not in allowed


def test_probes_ask_where_the_host_does_not_matter(manifests):
    (mlflow,) = (item for item in of_kind(manifests, "Deployment") if item["metadata"]["name"] == "mlflow")
    (server,) = mlflow["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert is_health_endpoint(server[probe]["httpGet"]["path"])


def test_clients_write_artifacts_to_s3_themselves(manifests):
    data = {key: value for config in of_kind(manifests, "ConfigMap") for key, value in config["data"].items()}
    assert data["MLFLOW_DEFAULT_ARTIFACT_ROOT"].startswith("s3://")
    (mlflow,) = (item for item in of_kind(manifests, "Deployment") if item["metadata"]["name"] == "mlflow")
    (server,) = mlflow["spec"]["template"]["spec"]["containers"]
    assert "--no-serve-artifacts" in server["command"]
