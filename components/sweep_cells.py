"""Table 2 (paper 3.2): the cells of beta and threshold, and one table of all."""

from kfp.dsl import Markdown, Output

from components.definition import component


@component("control")
def plan_sweep(params: dict, betas: list[float], thresholds: list[float], grid: bool) -> list[str]:
    """Returns the names of the cells of Table 2 (paper 3.2), such as `beta-600-threshold-0.7`."""
    from v2a_dpo.orchestration.sweep import plan_sweep as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, locals())


@component("control")
def sweep_cell(params: dict, cell: str) -> dict:
    """Returns all parameters, with the beta and the threshold of the cell."""
    from v2a_dpo.orchestration.sweep import cell_params as stage

    return stage(params, cell)


@component("control")
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

    run_stage(stage, locals(), page=(f"{output}/sweep.md", table))
    return output
