"""The manifest of a TrainJob (Kubeflow Trainer v2, trainer.kubeflow.org/v1alpha1).

The training runtime holds what is the same for every job: secrets, shared memory, scratch space, security context.
A job adds its command, the number of nodes and their resources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from v2a_dpo.cluster.train_job.settings import ClusterSettings

GROUP, VERSION, KIND, PLURAL = "trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"

#: The runtime's replicated job and its container.
NODE = "node"
_MANAGER = "v2a-dpo/train-job"


@dataclass(frozen=True)
class TrainJob:
    """A job: `arguments` are those of the command line, run by torchrun on every node."""

    name: str
    arguments: Sequence[str]
    settings: ClusterSettings

    def manifest(self) -> dict[str, Any]:
        """The custom resource to create."""
        labels = {"app.kubernetes.io/part-of": "v2a-dpo", "app.kubernetes.io/component": "training"}
        settings = self.settings
        if settings.queue:
            labels["kueue.x-k8s.io/queue-name"] = settings.queue
        spec: dict[str, Any] = {
            "runtimeRef": {"name": settings.runtime, "kind": "ClusterTrainingRuntime", "apiGroup": GROUP},
            "trainer": {
                "image": settings.image,
                # Trainer passes nodes and processes to torchrun in PET_ variables. `--` ends torchrun's own options: it
                # would mistake our options for abbreviations of its own.
                "command": ["torchrun", "--module", "--", "v2a_dpo.cli"],
                "args": list(self.arguments),
                "env": [{"name": name, "value": value} for name, value in sorted(settings.environment.items())],
                "numNodes": settings.num_nodes,
                "numProcPerNode": settings.processes_per_node,
                "resourcesPerNode": settings.resources(),
            },
        }
        if settings.node_selector:
            spec["runtimePatches"] = [_pod_patch({"nodeSelector": settings.node_selector})]
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": self.name, "labels": labels},
            "spec": spec,
        }


def _pod_patch(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A change of the runtime's pods for this job alone."""
    replicated = {"name": NODE, "template": {"spec": {"template": {"spec": dict(pod)}}}}
    return {"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}}}
