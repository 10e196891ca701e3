"""Base against aligned on the held-out clips, with intervals (paper Table 1)."""

from kfp.dsl import Metrics, Output

from components.definition import SCORING, component


@component(SCORING)
def evaluate(
    params: dict,
    clips: str,
    scorers: str,
    base_candidates: str,
    base_scores: str,
    aligned_candidates: str,
    aligned_scores: str,
    output: str,
    numbers: Output[Metrics],
    truth: str = "",
    curve_base: str = "",
    curve_aligned: str = "",
    curve_conditions: str = "",
) -> str:
    """Writes metrics, tables and, where its models are named, the guidance curve to the prefix `output`; returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.evaluate import evaluate as stage
    from v2a_dpo.stages.guidance_curve import Models

    run_stage(
        stage,
        params,
        {
            "clips": clips,
            "scorers": scorers,
            "base": (base_candidates, base_scores),
            "aligned": (aligned_candidates, aligned_scores),
            "output": output,
            "truth": truth,
            "curve": Models(curve_base, curve_aligned, curve_conditions) if curve_conditions else None,
        },
        numbers=(f"{output}/metrics.json", numbers),
    )
    return output
