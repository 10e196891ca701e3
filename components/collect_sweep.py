"""Table 2 (paper 3.2) from the pairs and evaluations of all cells."""

from kfp.dsl import Markdown, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def collect_sweep(
    params: dict,
    cells: list[str],
    pairs: list[str],
    evaluations: list[str],
    output: str,
    table: Output[Markdown],
) -> str:
    """Writes the table of all cells to the prefix `output`, shows it in the run, and returns the prefix."""
    from v2a_dpo.orchestration.sweep import collect_sweep as stage
    from v2a_dpo.orchestration.task import run_stage

    arguments = {"cells": cells, "pairs": pairs, "evaluations": evaluations, "output": output}
    run_stage(stage, params, arguments, page=(f"{output}/sweep.md", table))
    return output
