"""How a task of a pipeline runs: image, resources, GPU nodes, volumes, secrets by reference, retries and timeout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kfp import dsl, kubernetes

from components.definition import IMAGES, Images, Role
from components.run import summarize_run
from pipelines.presets import GPU, Preset

#: The namespace's objects that a task refers to by name; their content never enters a compiled pipeline.
S3_SECRET, MLFLOW_SECRET, NOTIFICATION_SECRET = "v2a-dpo-s3", "v2a-dpo-mlflow", "v2a-dpo-notification"
CONFIG_MAP = "v2a-dpo-environment"
WEIGHTS_FOLDER = "/weights"
HOME, TEMPORARY, SHARED_MEMORY = "/home/v2a", "/tmp", "/dev/shm"  # noqa: S108
#: The user and the group of the images.
USER_ID = 1000


@dataclass(frozen=True)
class Placement:
    """Where the tasks of one compiled pipeline run.

    KFP's cache is off on every task: the stages find finished work by their own fingerprints and check that the data
    exist. A hit in KFP's cache only means that the same call succeeded once, so a shard deleted since would stay
    missing. A pipeline may therefore run again, and makes only what is missing.
    """

    preset: Preset
    images: Images = field(default_factory=Images)

    def task(self, component: Any, **arguments: Any) -> dsl.PipelineTask:
        """The task of `component` with these `arguments`, set up as the component's role needs it."""
        task: dsl.PipelineTask = component(**arguments)
        task.set_caching_options(False)
        task.set_container_image(self.images.reference(IMAGES[component.role]))
        self._set_resources(task, component.role)
        self._set_retry(task)
        _set_environment(task, tracking=component.role == "tracking")
        kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
        return task

    def summarized(self, root: Any, *, name: str) -> dsl.ExitHandler:
        """The group of all tasks of a run; its summary is written when they have ended, successfully or not.

        The summary goes to a webhook if the cluster has one (secret `v2a-dpo-notification`, key `url`).
        """
        summary = self.task(summarize_run, root=root)
        kubernetes.use_secret_as_env(summary, NOTIFICATION_SECRET, {"url": "V2A_DPO_WEBHOOK"}, optional=True)
        return dsl.ExitHandler(summary, name=name)

    def _set_resources(self, task: dsl.PipelineTask, role: Role) -> None:
        resources = self.preset.roles[role]
        task.set_cpu_request(resources.cpu)
        task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
        kubernetes.set_timeout(task, resources.timeout_s)
        kubernetes.empty_dir_mount(task, "memory", SHARED_MEMORY, medium="Memory", size_limit=resources.shared_memory)
        kubernetes.empty_dir_mount(task, "temporary", TEMPORARY, size_limit=resources.disk)
        kubernetes.empty_dir_mount(task, "home", HOME, size_limit=resources.disk)
        if resources.gpus:
            task.set_accelerator_type(GPU).set_accelerator_limit(resources.gpus)
            for key, value in self.preset.node_selector.items():
                kubernetes.add_node_selector(task, key, value)
            for taint in self.preset.tolerations:
                operator = "Equal" if taint.value else "Exists"
                kubernetes.add_toleration(task, taint.key, operator, taint.value or None, taint.effect)
            if self.preset.queue:
                kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", self.preset.queue)
        if self.preset.weights_claim and role not in ("control", "tracking", "supervision"):
            kubernetes.mount_pvc(task, self.preset.weights_claim, WEIGHTS_FOLDER)
            task.set_env_variable("WEIGHTS_DIR", WEIGHTS_FOLDER)

    def _set_retry(self, task: dsl.PipelineTask) -> None:
        retry = self.preset.retry
        task.set_retry(
            retry.times,
            backoff_duration=f"{retry.backoff_s}s",
            backoff_factor=retry.factor,
            backoff_max_duration=f"{retry.max_s}s",
        )


def _set_environment(task: dsl.PipelineTask, *, tracking: bool) -> None:
    """Addresses and credentials of S3 and MLflow; only a task that tracks gets those of MLflow."""
    kubernetes.use_secret_as_env(
        task, S3_SECRET, {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    )
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {"AWS_DEFAULT_REGION": "AWS_DEFAULT_REGION"})
    # Amazon's own S3 needs no endpoint.
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {"AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL"}, optional=True)
    if tracking:
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, {name: name for name in names})
        kubernetes.use_config_map_as_env(task, CONFIG_MAP, {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"})
        endpoint = {"MLFLOW_S3_ENDPOINT_URL": "MLFLOW_S3_ENDPOINT_URL"}
        kubernetes.use_config_map_as_env(task, CONFIG_MAP, endpoint, optional=True)
