"""The manifest of a TrainJob (Kubeflow Trainer v2, trainer.kubeflow.org/v1alpha1).

The training runtime that it names holds what is the same for every job: secrets, shared memory, scratch space, security.
A job says what runs, on how many nodes, and with how many GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GROUP, VERSION, KIND, PLURAL = "trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"

#: The runtime's replicated job and its container.
NODE = "node"
_MANAGER = "v2a-dpo/train-job"


@dataclass(frozen=True)
class NodeResources:
    """What each node of a job gets; as many GPUs as processes, or none at all."""

    processes: int = 1
    gpus: int = 1
    cpu: str = "8"
    memory: str = "64Gi"

    def __post_init__(self) -> None:
        if self.processes < 1 or self.gpus not in (0, self.processes):
            raise ValueError(f"{self.processes} processes cannot share {self.gpus} GPUs: give one to each, or none")

    def requirements(self) -> dict[str, Any]:
        """Requests and limits as Kubernetes takes them; CPU is not limited: throttled data loading starves a GPU."""
        fixed = {"memory": self.memory, **({"nvidia.com/gpu": self.gpus} if self.gpus else {})}
        return {"requests": {"cpu": self.cpu, **fixed}, "limits": fixed}


@dataclass(frozen=True)
class TrainJob:
    """A job: `arguments` are those of the command line, run by torchrun on each of `num_nodes` nodes."""

    name: str
    image: str
    arguments: Sequence[str]
    num_nodes: int = 1
    resources: NodeResources = field(default_factory=NodeResources)
    runtime: str = "v2a-dpo-torch"
    queue: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """The custom resource to create."""
        labels = {"app.kubernetes.io/part-of": "v2a-dpo", "app.kubernetes.io/component": "training"}
        if self.queue:
            labels["kueue.x-k8s.io/queue-name"] = self.queue
        spec: dict[str, Any] = {
            "runtimeRef": {"name": self.runtime, "kind": "ClusterTrainingRuntime", "apiGroup": GROUP},
            "trainer": {
                "image": self.image,
                # Trainer tells torchrun about nodes and processes by PET_ variables. `--` ends torchrun's own options: it
                # would take an option of ours that abbreviates one of its own for that one.
                "command": ["torchrun", "--module", "--", "v2a_dpo.cli"],
                "args": list(self.arguments),
                "env": [{"name": name, "value": value} for name, value in sorted(self.environment.items())],
                "numNodes": self.num_nodes,
                "numProcPerNode": self.resources.processes,
                "resourcesPerNode": self.resources.requirements(),
            },
        }
        if self.node_selector:
            spec["runtimePatches"] = [_pod_patch({"nodeSelector": dict(self.node_selector)})]
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
