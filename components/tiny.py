"""The tiny profile's own videos, models and ratings."""

from typing import NamedTuple

from kfp.dsl import Dataset, Metrics, Model, Output

from components.definition import component


@component("control")
def world(params: dict, output: str) -> NamedTuple("World", [("videos", str), ("events", str)]):
    """Writes the tiny world's videos to the prefix `output`; returns it and the list of the events in them."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.world import world as stage

    run_stage(stage, locals())
    return output, f"{output}/events.json"


@component("control")
def pretrain(params: dict, output: str, base: Output[Model]) -> NamedTuple(
    "Pretrained", [("generator", str), ("scorers", str)]
):
    """Trains the tiny profile's models into the prefix `output`; returns the prefixes of generator and scorers."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.pretrain import pretrain as stage

    run_stage(stage, locals(), model=(f"{output}/generator", base))
    return f"{output}/generator", f"{output}/scorers"


@component("control")
def annotate(
    params: dict, candidates: str, events: str, output: str, table: Output[Dataset], numbers: Output[Metrics]
) -> str:
    """Writes simulated ratings of the candidates to the prefix `output` and returns it."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.annotate import annotate as stage

    run_stage(stage, locals(), data=(output, table), numbers=("", numbers))
    return output
