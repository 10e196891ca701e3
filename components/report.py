"""The self-contained HTML report."""

from kfp.dsl import HTML, Output

from components.definition import ORCHESTRATION, component


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
    truth: str = "",
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
            "truth": truth,
            "alignment": alignment,
            "audioscore": audioscore,
            "pairs": pairs,
        },
        page=(output, page),
    )
    return output
