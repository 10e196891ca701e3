"""Curriculum Flow-DPO (paper 2.3) in one pod."""

from kfp.dsl import Metrics, Model, Output

from components.definition import GENERATION, component


@component(GENERATION)
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
    """Aligns the generator to the pairs into the prefix `output` and returns it; goes on from checkpoints under `log`."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.align import align as stage

    run_stage(
        stage,
        params,
        {
            "pairs": pairs,
            "candidates": [annotation_candidates, preference_candidates],
            "conditions": [annotation_conditions, preference_conditions],
            "generator": generator,
            "output": output,
            "log": log,
            "start_anew": True,
        },
        model=(output, aligned),
        numbers=("", numbers),
    )
    return output
