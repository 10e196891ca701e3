"""Tiny profile: trains its frozen scorers and its base generator."""

from typing import NamedTuple

from kfp.dsl import Model, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def pretrain(params: dict, output: str, base: Output[Model]) -> NamedTuple(  # type: ignore[valid-type]
    "Pretrained", [("generator", str), ("scorers", str)]
):
    """Trains the tiny profile's models into the prefix `output`; returns where generator and scorers lie."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.pretrain import pretrain as stage

    run_stage(stage, params, {"output": output}, model=(f"{output}/generator", base))
    return f"{output}/generator", f"{output}/scorers"
