"""N candidates per clip (paper 2.2), and the five scores of each (2.1)."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import component


@component("generation")
def generate(
    params: dict,
    conditions: str,
    generator: str,
    output: str,
    table: Output[Dataset],
    numbers: Output[Metrics],
    candidates: int = 0,
    shards: str = "",
    finished: list[str] = [],  # noqa: B006
) -> str:
    """N candidates per clip (paper 2.2): only `shards`, or what is missing and the manifest; returns the prefix.

    `candidates` overrides the parameters' number unless it is 0. `finished` are the results of the
    workers: the call that completes the data set waits for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.generate import generate as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output


@component("scoring")
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
    """Scores only `shards`, or what is missing, then writes the manifest; returns the prefix of the scores.

    `finished` are the results of the workers: the call that completes the data set waits for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.score import score as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output
