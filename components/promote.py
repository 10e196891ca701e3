"""A registered version becomes champion, if the gates hold against the present one too."""

from kfp.dsl import Artifact, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def promote(params: dict, version: str, reason: str, output: str, outcome: Output[Artifact]) -> bool:
    """Writes what came of it to the file `output` and returns whether the version is champion now."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.promote import promote as stage

    arguments = {"version": version, "reason": reason, "output": output}
    return run_stage(stage, params, arguments, page=(output, outcome)).promoted
