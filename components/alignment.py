"""Curriculum Flow-DPO (paper 2.3), in one pod or on nodes of the cluster."""

from kfp.dsl import Metrics, Model, Output

from components.definition import component


@component("alignment")
def align(
    params: dict,
    pairs: str,
    annotation_candidates: str,
    annotation_conditions: str,
    preference_candidates: str,
    preference_conditions: str,
    generator: str,
    output: str,
    log: str,
    aligned: Output[Model],
    numbers: Output[Metrics],
) -> str:
    """Curriculum Flow-DPO (paper 2.3) into the prefix `output`, which it returns; continues from checkpoints under
    `log`."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.align import align as stage

    run_stage(
        stage,
        locals(),
        candidates=[annotation_candidates, preference_candidates],
        conditions=[annotation_conditions, preference_conditions],
        start_anew=True,
        model=(output, aligned),
        numbers=("", numbers),
    )
    return output


@component("supervision")
def align_on_cluster(
    params: dict,
    pairs: str,
    annotation_candidates: str,
    annotation_conditions: str,
    preference_candidates: str,
    preference_conditions: str,
    generator: str,
    output: str,
    log: str,
    cluster: dict,
    aligned: Output[Model],
    numbers: Output[Metrics],
) -> str:
    """Curriculum Flow-DPO (paper 2.3) by a TrainJob: `align` with the fields of `ClusterSettings` in `cluster`."""
    from v2a_dpo.orchestration.align_on_cluster import align_on_cluster as stage
    from v2a_dpo.orchestration.task import run_stage

    run_stage(
        stage,
        locals(),
        candidates=[annotation_candidates, preference_candidates],
        conditions=[annotation_conditions, preference_conditions],
        start_anew=True,
        model=(output, aligned),
        numbers=("", numbers),
    )
    return output
