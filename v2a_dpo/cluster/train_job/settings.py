"""Where a training job runs and what each of its nodes gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from v2a_dpo.config import Count, Section
from v2a_dpo.errors import UserError


class ClusterSettings(Section):
    """The nodes of a training job and the objects of the cluster that it uses; unknown keys are errors."""

    image: str = Field(description="full name of the generation image, with its tag")
    namespace: str = "v2a-dpo"
    runtime: str = Field("v2a-dpo-torch", description="the ClusterTrainingRuntime")
    queue: str = Field("", description="LocalQueue of Kueue; empty: none")
    num_nodes: Count = 1
    processes_per_node: Count = 1
    gpus_per_node: int = Field(1, ge=0, description="as many as processes, or 0 to train on CPUs")
    cpu: str = Field("8", description="requested per node, as a Kubernetes quantity")
    memory: str = Field("64Gi", description="requested and limit per node, as a Kubernetes quantity")
    node_selector: dict[str, str] = Field({}, description="labels that the nodes must have")
    environment: dict[str, str] = Field({}, description="additional variables, such as NCCL_SOCKET_IFNAME")
    keep: bool = Field(False, description="leave the finished job in the cluster")

    @model_validator(mode="after")
    def _one_gpu_per_process(self) -> Self:
        if self.gpus_per_node not in (0, self.processes_per_node):
            raise ValueError(
                f"{self.processes_per_node} processes cannot share {self.gpus_per_node} GPUs of a node: "
                "give as many GPUs as processes, or 0"
            )
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ClusterSettings:
        """The settings with these values, as JSON gives them; raises UserError that names each wrong field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, item['loc']))} {item['msg']}".strip() for item in error.errors())
            raise UserError(
                f"Wrong settings of the training job: {fields}.", where="cluster", remedy="Correct these fields."
            ) from error

    @property
    def processes(self) -> int:
        """The world size: processes on all nodes together."""
        return self.num_nodes * self.processes_per_node

    def resources(self) -> dict[str, Any]:
        """Requests and limits per node; CPU is not limited: throttled data loading starves a GPU."""
        fixed = {"memory": self.memory, **({"nvidia.com/gpu": self.gpus_per_node} if self.gpus_per_node else {})}
        return {"requests": {"cpu": self.cpu, **fixed}, "limits": fixed}
