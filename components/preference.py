"""Ratings, AudioScore (paper 2.1), best-against-worst pairs (2.2) with complexity and phase (2.3)."""

from kfp.dsl import Dataset, Metrics, Model, Output

from components.definition import component


@component("control")
def import_ratings(
    params: dict, csv: str, candidates: str, output: str, table: Output[Dataset], numbers: Output[Metrics]
) -> str:
    """Checks the ratings against the candidates, writes them to the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.import_ratings import import_ratings as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output


@component("control")
def train_audioscore(
    params: dict, scores: str, ratings: str, output: str, classifier: Output[Model], numbers: Output[Metrics]
) -> str:
    """Trains AudioScore (paper 2.1) on rated candidates into the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.train_audioscore import train_audioscore as stage

    run_stage(stage, locals(), model=(output, classifier), numbers=("", numbers))
    return output


@component("control")
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
    """Writes best-against-worst pairs (paper 2.2) with complexity and phase (2.3) to the prefix `output` and returns
    it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.mine import mine as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output
