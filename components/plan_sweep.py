"""The cells of Table 2 (paper 3.2)."""

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def plan_sweep(params: dict, betas: list[float], thresholds: list[float], grid: bool) -> list[str]:
    """Returns the names of the sweep's cells, such as `beta-600-threshold-0.7`."""
    from v2a_dpo.orchestration.sweep import plan_sweep as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, params, {"betas": betas, "thresholds": thresholds, "grid": grid})
