"""Base against aligned on the test clips, with intervals (paper Table 1), and the report."""

from kfp.dsl import HTML, Metrics, Output

from components.definition import component


@component("evaluation")
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
) -> str:
    """Writes metrics (paper Table 1), and tables to `output`; returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.evaluate import evaluate as stage

    run_stage(
        stage,
        locals(),
        base=(base_candidates, base_scores),
        aligned=(aligned_candidates, aligned_scores),
        numbers=(f"{output}/metrics.json", numbers),
    )
    return output


@component("evaluation")
def guidance(
    params: dict,
    clips: str,
    conditions: str,
    scorers: str,
    base: str,
    aligned: str,
    evaluation: str,
    output: str,
    events: str = "",
) -> str:
    """Writes the metrics at several guidance scales to `output`; returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.guidance import guidance as stage

    run_stage(stage, locals())
    return output


@component("control")
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
    guidance: str = "",
    alignment: str = "",
    audioscore: str = "",
    pairs: str = "",
) -> str:
    """Writes the report to the file `output`, shows it in the run, and returns where it is."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.report import report as stage

    run_stage(
        stage,
        locals(),
        base=(base_candidates, base_scores),
        aligned=(aligned_candidates, aligned_scores),
        page=(output, page),
    )
    return output
