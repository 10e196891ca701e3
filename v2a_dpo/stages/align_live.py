"""Stage: the alignment, with its curves in MLflow while it runs, and the upload of what could not be sent then."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from v2a_dpo.alignment.log import LOG
from v2a_dpo.alignment.trainer import AlignmentSummary
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.align import align
from v2a_dpo.stages.alignment_record import SUMMARY
from v2a_dpo.tracking.connection import Tracking
from v2a_dpo.tracking.live import LiveMetrics, timed
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.upload import LiveTarget, MetricUpload, find_run
from v2a_dpo.tracking.values import flatten

#: Beside the log: which MLflow run its records belong to.
TARGET = "tracking.json"
_LOG = logging.getLogger(__name__)


def align_live(
    params: Params,
    *,
    pairs: str,
    candidates: list[str],
    conditions: list[str],
    generator: str,
    output: str,
    log: str,
    interval_s: float = 5.0,
    progress: Progress = silent,
) -> AlignmentSummary:
    """Aligns as `align` does, and sends each step's record to MLflow meanwhile; the arguments are those of `align`.

    A server that is away does not stop the training: the log keeps the records, and `sync` sends them.
    """
    data = [pairs, *candidates, *conditions]
    live = LiveMetrics(
        lambda: _target(params, data, log), backlog=lambda: _content(join(log, LOG)), interval_s=interval_s
    )
    try:
        return align(
            params,
            pairs=pairs,
            candidates=candidates,
            conditions=conditions,
            generator=generator,
            output=output,
            log=log,
            progress=progress,
            on_record=live,
        )
    finally:
        live.close()
        if live.started:
            _finish(log)


@dataclass(frozen=True)
class Synced:
    """How many records a log has, and how many of them had to be sent now; `finished` says whether the alignment is done."""

    log: str
    records: int
    sent: int
    finished: bool

    def __str__(self) -> str:
        state = "finished" if self.finished else "not finished yet"
        return (
            f"{self.log}: {self.sent} of {self.records} records sent, the others were there; the alignment is {state}."
        )


def sync(log: str) -> Synced:
    """Sends the records of an alignment's `log` folder that MLflow does not have.

    Raises UserError when the folder says nothing about a run, or when no server answers.
    """
    if not exists(join(log, TARGET)):
        raise UserError(
            f"There is no {TARGET} in this folder.", where=log, remedy="Give the --log folder of a `v2a-dpo align`."
        )
    target = LiveTarget.from_text(read_bytes(join(log, TARGET)).decode())
    records = list(timed(_content(join(log, LOG))))
    last = max((item.record["step"] for item in records), default=-1)
    finished = exists(join(log, SUMMARY)) and last + 1 >= int(target.params["align.steps"])
    with MetricUpload.open(target) as upload:
        sent = upload.send(records)
        if finished:
            upload.finish()
    return Synced(log, len(records), sent, finished)


def live_run(tracking: Tracking, log: str | None) -> TrackedRun | None:
    """The run that an alignment's curves went to while it ran, complete now; None when there is none to be nested."""
    if log is None or not exists(join(log, TARGET)):
        return None
    run = find_run(tracking, LiveTarget.from_text(read_bytes(join(log, TARGET)).decode()))
    if run is None or tracking.is_nested(run):
        return None
    sync(log)
    return run


def _finish(log: str) -> None:
    """Sends what the thread left behind, and leaves it for later when there is still no server."""
    try:
        sync(log)
    except UserError as error:
        _LOG.warning(
            "MLflow does not have all records yet; send them with `v2a-dpo tracking sync --log %s`. %s", log, error
        )


def _target(params: Params, data: Sequence[str], log: str) -> LiveTarget:
    """The run of this alignment: the one of an earlier, interrupted attempt, or a new one."""
    content = [Dataset.open(folder).manifest for folder in data]
    identity = fingerprint(
        params.align, params.seed, params.generator, [[item.fingerprint, item.inputs] for item in content]
    )
    if exists(join(log, TARGET)):
        target = LiveTarget.from_text(read_bytes(join(log, TARGET)).decode())
        if (target.identity, target.experiment) == (identity, params.register_.experiment):
            return target
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
    return target


def _content(uri: str) -> bytes:
    return read_bytes(uri) if exists(uri) else b""
