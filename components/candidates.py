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
    """N candidates per clip (paper 2.2): the given shards, or what is still missing and the manifest; returns the
    prefix.

    `candidates` overrides the parameters' number unless it is 0. `finished` is what the workers returned: it only lets
    the call that completes the data set wait for them.
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
    """Scores the given shards, or what is still missing, then the manifest; returns the prefix of the scores.

    `finished` is what the workers returned: it only lets the call that completes the data set wait for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.score import score as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output
