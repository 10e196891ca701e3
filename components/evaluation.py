"""Base against aligned on the held-out clips, with intervals (paper Table 1), and the report."""

from kfp.dsl import HTML, Metrics, Output

from components.definition import ORCHESTRATION, SCORING, component


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
    events: str = "",
    curve_base: str = "",
    curve_aligned: str = "",
    curve_conditions: str = "",
) -> str:
    """Writes metrics (paper Table 1), tables and, where its models are named, the guidance curve to `output`; returns it."""
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
            "events": events,
            "curve": Models(curve_base, curve_aligned, curve_conditions) if curve_conditions else None,
        },
        numbers=(f"{output}/metrics.json", numbers),
    )
    return output


@component(ORCHESTRATION)
def report(
    params: dict,
    evaluation: str,
    clips: str,
    base_candidates: str,
    base_scores: str,
    aligned_candidates: str,
    aligned_scores: str,
    output: str,
    page: Output[HTML],
    events: str = "",
    alignment: str = "",
    audioscore: str = "",
    pairs: str = "",
) -> str:
    """Writes the report to the file `output`, shows it in the run, and returns where it is."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.report import report as stage

    run_stage(
        stage,
        params,
        {
            "evaluation": evaluation,
            "clips": clips,
            "base": (base_candidates, base_scores),
            "aligned": (aligned_candidates, aligned_scores),
            "output": output,
            "events": events,
            "alignment": alignment,
            "audioscore": audioscore,
            "pairs": pairs,
        },
        page=(output, page),
    )
    return output
