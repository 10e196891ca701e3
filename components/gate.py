"""Whether the aligned model passes the gates against its base."""

from kfp.dsl import Metrics, Output

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def gate(params: dict, evaluation: str, output: str, numbers: Output[Metrics]) -> bool:
    """Writes the decision with its reasons to the file `output`; a model that fails is a result, not an error."""
    from v2a_dpo.stages.task import run_stage

    return run_stage("gate", params, {"evaluation": evaluation, "output": output}, numbers=(output, numbers)).passed
