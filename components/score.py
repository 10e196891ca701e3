"""The five scores of every candidate."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import SCORING, component


@component(SCORING)
def score(
    params: dict,
    clips: str,
    candidates: str,
    scorers: str,
    output: str,
    table: Output[Dataset],
    numbers: Output[Metrics],
    shards: str = "",
    finished: list[str] = [],  # noqa: B006
) -> str:
    """Scores the given shards, or what is still missing, then the manifest; returns the prefix of the scores.

    `finished` is what the workers returned: it only lets the call that completes the data set wait for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.score import score as stage

    run_stage(
        stage,
        params,
        {"clips": clips, "candidates": candidates, "scorers": scorers, "output": output, "shards": shards},
        data=(output, table),
        numbers=("", numbers),
    )
    return output
