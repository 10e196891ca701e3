"""The alignment as a step of a pipeline: in a pod of its own, or as a job of Kubeflow Trainer on many GPUs."""

from typing import Any

from kfp import dsl

from components.alignment import align, align_on_cluster
from components.definition import GENERATION
from pipelines.placement import Placement
from v2a_dpo.cluster.train_job.settings import ClusterSettings


def alignment(placement: Placement, **arguments: Any) -> dsl.PipelineTask:
    """The task that aligns a generator as the preset says; `arguments` are those of the component `align`."""
    preset = placement.preset
    if not preset.alignment_nodes:
        return placement.task(align, **arguments)
    node = preset.roles["alignment"]
    settings = ClusterSettings(
        image=placement.images.reference(GENERATION),
        num_nodes=preset.alignment_nodes,
        processes_per_node=node.gpus,
        gpus_per_node=node.gpus,
        cpu=node.cpu,
        memory=node.memory,
        node_selector=dict(preset.node_selector),
        queue=preset.queue,
    )
    return placement.task(align_on_cluster, **arguments, cluster=settings.model_dump(exclude_unset=True))
