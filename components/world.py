"""Tiny profile: renders its procedural videos."""

from typing import NamedTuple

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def world(params: dict, output: str) -> NamedTuple("World", [("videos", str), ("truth", str)]):  # type: ignore[valid-type]
    """Writes the tiny world's videos to the prefix `output`; returns it and where the truth about them lies."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.world import world as stage

    run_stage(stage, params, {"output": output})
    return output, f"{output}/truth.json"
