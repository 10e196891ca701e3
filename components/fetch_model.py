"""A model from MLflow's registry, put where the cluster's tasks can read it."""

from kfp.dsl import Model, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def fetch_model(params: dict, model: str, output: str, fetched: Output[Model]) -> str:
    """Returns where the model's folder is: `model` itself, or `output` for an address such as `models:/v2a-dpo@champion`."""
    from v2a_dpo.orchestration.fetch_model import fetch_model as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, params, {"model": model, "output": output}, model=("", fetched))
