"""People's ratings of candidates, from a CSV file."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def import_ratings(
    params: dict, csv: str, candidates: str, output: str, table: Output[Dataset], numbers: Output[Metrics]
) -> str:
    """Checks the ratings against the candidates, writes them to the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.import_ratings import import_ratings as stage

    arguments = {"csv": csv, "candidates": candidates, "output": output}
    run_stage(stage, params, arguments, data=(output, table), numbers=("", numbers))
    return output
