"""Tiny profile: the simulated rater judges candidates."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def annotate(
    params: dict, candidates: str, truth: str, output: str, table: Output[Dataset], numbers: Output[Metrics]
) -> str:
    """Writes simulated ratings of the candidates to the prefix `output` and returns it."""
    from v2a_dpo.stages.task import run_stage

    arguments = {"candidates": candidates, "truth": truth, "output": output}
    run_stage("annotate", params, arguments, data=(output, table), numbers=("", numbers))
    return output
