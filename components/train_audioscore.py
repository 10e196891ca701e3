"""AudioScore: the preference classifier over five scores (paper 2.1)."""

from kfp.dsl import Metrics, Model, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def train_audioscore(
    params: dict, scores: str, ratings: str, output: str, classifier: Output[Model], numbers: Output[Metrics]
) -> str:
    """Trains AudioScore on rated candidates into the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.train_audioscore import train_audioscore as stage

    arguments = {"scores": scores, "ratings": ratings, "output": output}
    run_stage(stage, params, arguments, model=(output, classifier), numbers=("", numbers))
    return output
