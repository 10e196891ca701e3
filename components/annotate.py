"""Tiny profile: the simulated rater judges candidates."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def annotate(
    params: dict, candidates: str, truth: str, output: str, table: Output[Dataset], numbers: Output[Metrics]
) -> str:
    """Writes simulated ratings of the candidates to the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.annotate import annotate as stage

    arguments = {"candidates": candidates, "truth": truth, "output": output}
    run_stage(stage, params, arguments, data=(output, table), numbers=("", numbers))
    return output
