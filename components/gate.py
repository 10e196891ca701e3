"""Whether the aligned model passes the gates against its base."""

from kfp.dsl import Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def gate(params: dict, evaluation: str, output: str, numbers: Output[Metrics]) -> bool:
    """Writes the decision with its reasons to the file `output`; a model that fails is a result, not an error."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.gate import gate as stage

    return run_stage(stage, params, {"evaluation": evaluation, "output": output}, numbers=(output, numbers)).passed
