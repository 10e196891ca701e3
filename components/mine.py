"""Best-against-worst pairs (paper 2.2) with complexity and curriculum phase (2.3)."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def mine(
    params: dict,
    scores: str,
    audioscore: str,
    output: str,
    table: Output[Dataset],
    numbers: Output[Metrics],
    ratings: str = "",
    rated_scores: str = "",
) -> str:
    """Writes the preference pairs to the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.mine import mine as stage

    run_stage(
        stage,
        params,
        {
            "scores": scores,
            "audioscore": audioscore,
            "output": output,
            "ratings": ratings,
            "rated_scores": rated_scores,
        },
        data=(output, table),
        numbers=("", numbers),
    )
    return output
