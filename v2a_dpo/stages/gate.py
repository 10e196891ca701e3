"""Stage: whether the aligned model passes the gates against its base, from the evaluation alone."""

from __future__ import annotations

from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.metrics import BootstrapSettings
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.gates import GateDecision, decide


def gate(params: Params, *, evaluation: str, output: str, progress: Progress = silent) -> GateDecision:
    """The decision by the rules of `params.gates` about the aligned model in the folder `evaluation`, against its base.

    The evaluation's intervals must have been made with the settings of `params.evaluate`, or stricter ones. Writes it
    with a reason for each rule to the file `output`. A model that does not pass is a result, not an error.
    """
    comparison = EvaluationFolder(evaluation).comparison()
    least = BootstrapSettings.of(params)
    decision = decide(params.gates, comparison, candidate="aligned", reference=comparison.reference, least=least)
    write_json(output, decision.to_dict())
    progress("Deciding", 1, 1)
    return decision
