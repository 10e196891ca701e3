"""Stage: the alignment, with its curves in MLflow while it runs."""

from __future__ import annotations

import uuid

from v2a_dpo.alignment.flow_dpo import AlignmentSummary
from v2a_dpo.alignment.run.curves import sender
from v2a_dpo.alignment.run.log import TARGET
from v2a_dpo.alignment.run.record import read_record
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.align import align
from v2a_dpo.tracking.live import LiveMetrics
from v2a_dpo.tracking.upload import LiveTarget
from v2a_dpo.tracking.values import flatten


def align_live(
    params: Params,
    *,
    pairs: str,
    candidates: list[str],
    conditions: list[str],
    generator: str,
    output: str,
    log: str,
    start_anew: bool = False,
    interval_s: float = 5.0,
    progress: Progress = silent,
) -> AlignmentSummary:
    """Aligns as `align` does, and has each step's record sent to MLflow meanwhile; the arguments are those of `align`.

    A server that is away does not stop the training: the log keeps the records, and `sync` sends them.
    """

    def start() -> list[str]:
        _name_run(params, log)
        return sender(log, interval_s=interval_s)

    live = LiveMetrics(start)
    try:
        return align(
            params,
            pairs=pairs,
            candidates=candidates,
            conditions=conditions,
            generator=generator,
            output=output,
            log=log,
            start_anew=start_anew,
            progress=progress,
            on_record=live,
        )
    finally:
        live.close()


def _name_run(params: Params, log: str) -> None:
    """Writes beside the log which run its records belong to: the one of an earlier, interrupted attempt, or a new one."""
    identity = read_record(log).identity.digest
    if exists(join(log, TARGET)):
        target = LiveTarget.from_text(read_bytes(join(log, TARGET)).decode())
        if (target.identity, target.experiment) == (identity, params.register_.experiment):
            return
    everything = params.model_dump(mode="json")
    chosen = {name: everything[name] for name in ("profile", "seed", "generator", "align")}
    target = LiveTarget(
        key=uuid.uuid4().hex,
        identity=identity,
        experiment=params.register_.experiment,
        name="align",
        params=flatten(chosen),
    )
    write_atomically(join(log, TARGET), target.to_text().encode())
