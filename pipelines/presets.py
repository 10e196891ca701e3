"""Where a pipeline's tasks run. GPUs and nodes are fixed when it is compiled: Kubeflow cannot change them later.

| preset | for | nodes |
| --- | --- | --- |
| `cpu` | the tiny profile and development clusters | any; no GPU anywhere |
| `gpu` | the official models on single GPUs of 40 GB and more | labelled `nvidia.com/gpu.present=true` |
| `gpu-large` | tens of thousands of videos; the paper's settings | H100 nodes with 80 GB, a whole one for alignment |

To adapt one, copy it with `dataclasses.replace` and name the copy in PRESETS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from components.definition import Role

GPU = "nvidia.com/gpu"
_HOUR = 3600


@dataclass(frozen=True)
class Toleration:
    """A tolerated taint, e.g. of GPU nodes or of pre-emptible nodes."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


@dataclass(frozen=True)
class Resources:
    """Requests of one pod; memory and disks as Kubernetes quantities."""

    cpu: str
    memory: str
    gpus: int = 0
    #: PyTorch's workers exchange tensors through /dev/shm, which is 64 MB unless a memory volume is mounted there.
    shared_memory: str = "256Mi"
    #: Scratch space under /tmp and the home folder: copies of models, memory-mapped pairs.
    disk: str = "2Gi"
    timeout_s: int = 2 * _HOUR


@dataclass(frozen=True)
class Retry:
    """Number and delay of a task's retries after a failure or a pre-emption; finished shards are kept."""

    times: int = 3
    backoff_s: int = 30
    factor: float = 2.0
    max_s: int = 30 * 60


@dataclass(frozen=True)
class Preset:
    """The resources and nodes of all tasks of a pipeline."""

    name: str
    roles: Mapping[Role, Resources]
    #: Pods of one fan-out that run at the same time.
    parallelism: int
    retry: Retry = Retry()
    #: The alignment as a job of Kubeflow Trainer on so many nodes, each with the resources of the role `alignment`;
    #: 0: in one pod of the pipeline. The role `supervision` is then the pod that follows the job.
    alignment_nodes: int = 0
    #: Of the pods with GPUs.
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    #: The Kueue queue that pods with GPUs wait in; empty: none.
    queue: str = ""
    #: A volume claim with the official checkpoints, mounted at /weights; empty: none.
    weights_claim: str = ""


_CONTROL = Resources(cpu="1", memory="4Gi", timeout_s=_HOUR)
_GPU_TAINTS = (
    Toleration(GPU),
    Toleration("cloud.google.com/gke-spot", "true"),
    Toleration("kubernetes.azure.com/scalesetpriority", "spot"),
)

CPU = Preset(
    name="cpu",
    roles={
        "control": Resources(cpu="500m", memory="2Gi", timeout_s=_HOUR),
        "tracking": Resources(cpu="500m", memory="2Gi", timeout_s=_HOUR),
        "preparation": Resources(cpu="2", memory="4Gi"),
        "generation": Resources(cpu="2", memory="4Gi"),
        "scoring": Resources(cpu="2", memory="4Gi"),
        "alignment": Resources(cpu="2", memory="4Gi", timeout_s=6 * _HOUR),
        "supervision": Resources(cpu="250m", memory="2Gi", timeout_s=6 * _HOUR),
        "evaluation": Resources(cpu="2", memory="4Gi"),
    },
    parallelism=3,
)

GPU_PRESET = Preset(
    name="gpu",
    roles={
        "control": _CONTROL,
        "tracking": _CONTROL,
        "preparation": Resources("12", "48Gi", gpus=1, shared_memory="8Gi", disk="50Gi", timeout_s=6 * _HOUR),
        "generation": Resources("4", "32Gi", gpus=1, shared_memory="4Gi", disk="50Gi", timeout_s=12 * _HOUR),
        "scoring": Resources("8", "32Gi", gpus=1, shared_memory="8Gi", disk="50Gi", timeout_s=6 * _HOUR),
        "alignment": Resources("8", "64Gi", gpus=1, shared_memory="16Gi", disk="400Gi", timeout_s=48 * _HOUR),
        "supervision": Resources("250m", "2Gi", timeout_s=72 * _HOUR),
        "evaluation": Resources("8", "48Gi", gpus=1, shared_memory="8Gi", disk="100Gi", timeout_s=12 * _HOUR),
    },
    parallelism=8,
    node_selector={"nvidia.com/gpu.present": "true"},
    tolerations=_GPU_TAINTS,
    queue="v2a-dpo",
    weights_claim="v2a-dpo-weights",
)

GPU_LARGE = Preset(
    name="gpu-large",
    roles={
        "control": Resources(cpu="4", memory="16Gi", timeout_s=2 * _HOUR),
        "tracking": _CONTROL,
        "preparation": Resources("24", "96Gi", gpus=1, shared_memory="32Gi", disk="100Gi", timeout_s=12 * _HOUR),
        "generation": Resources("12", "64Gi", gpus=1, shared_memory="16Gi", disk="100Gi", timeout_s=24 * _HOUR),
        "scoring": Resources("16", "96Gi", gpus=1, shared_memory="32Gi", disk="100Gi", timeout_s=12 * _HOUR),
        "alignment": Resources("96", "768Gi", gpus=8, shared_memory="64Gi", disk="1500Gi", timeout_s=120 * _HOUR),
        "supervision": Resources("250m", "2Gi", timeout_s=168 * _HOUR),
        "evaluation": Resources("16", "128Gi", gpus=1, shared_memory="32Gi", disk="300Gi", timeout_s=24 * _HOUR),
    },
    parallelism=64,
    alignment_nodes=1,
    retry=Retry(times=8, backoff_s=60, max_s=_HOUR),
    node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    tolerations=_GPU_TAINTS,
    queue="v2a-dpo",
    weights_claim="v2a-dpo-weights",
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (CPU, GPU_PRESET, GPU_LARGE)}
