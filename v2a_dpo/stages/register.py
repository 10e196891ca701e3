"""Stage: the finished loop as runs in MLflow, base and aligned model as versions of one registered model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.registry.registration import Registration, register_loop
from v2a_dpo.registry.stage_records import LoopArtifacts
from v2a_dpo.serving.packaging import packaged_folder
from v2a_dpo.serving.settings import ServingSettings


def register(
    params: Params,
    *,
    base: str,
    aligned: str,
    evaluation: str,
    report: str,
    output: str,
    guidance: str | None = None,
    alignment: str | None = None,
    audioscore: str | None = None,
    pairs: str | None = None,
    training_data: Sequence[str] = (),
    evaluation_data: Sequence[str] = (),
    scorers: str | None = None,
    ancestors: Sequence[str] = (),
    gate: str | None = None,
    progress: Progress = silent,
) -> Registration:
    """Logs the loop, registers its models, and writes the record of the registration to the file `output`.

    A stage whose artifacts are named becomes a nested run; `training_data` and `evaluation_data` are data set folders
    to record as inputs by fingerprint, `scorers` and `ancestors` further data sets and models of the lineage. `gate` is
    the file with the gates' decision, recorded in the aligned version; that is registered in any case. The same
    artifacts are neither logged nor registered twice. Raises UserError when MLflow cannot be reached.
    """
    decision = None if gate is None else GateDecision.from_dict(read_json(gate))
    settings = ServingSettings.of(params)
    registration = register_loop(
        params,
        LoopArtifacts(
            base=base,
            aligned=aligned,
            evaluation=evaluation,
            report=report,
            guidance=guidance,
            alignment=alignment,
            audioscore=audioscore,
            pairs=pairs,
            training_data=training_data,
            evaluation_data=evaluation_data,
            ancestors=[*([] if scorers is None else [scorers]), *ancestors],
        ),
        decision=decision,
        packaged=lambda folder: packaged_folder(folder, settings),
        progress=progress,
    )
    write_json(output, asdict(registration))
    return registration
