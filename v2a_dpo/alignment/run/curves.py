"""An alignment's curves in MLflow: sent by a process of its own during training, completed from the log afterwards.

`python -m v2a_dpo.alignment.run.curves LOG FILE INTERVAL_S` is that process; `LOG` is the alignment's log folder,
`FILE` the local log file that grows.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from v2a_dpo.alignment.run.log import LOG, SUMMARY, TARGET, Record, parse_log
from v2a_dpo.alignment.run.record import read_run
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import exists, join, read_bytes
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import Tracking
from v2a_dpo.tracking.live import LiveSender, send_while_training
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.upload import LiveTarget, MetricUpload, find_run
from v2a_dpo.tracking.values import flatten

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synced:
    """The number of records in a log, and of those sent now; `finished` is whether the alignment is."""

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

    Raises UserError when the folder names no run, or when no server answers.
    """
    target, records = _target(log), _records(log)
    last = max((record["step"] for record in records), default=-1)
    finished = exists(join(log, SUMMARY)) and last + 1 >= int(target.params["align.steps"])
    with MetricUpload.open(target) as upload:
        sent = upload.send(records)
        if finished:
            upload.finish()
    return Synced(log, len(records), sent, finished)


def live_run(tracking: Tracking, log: str | None) -> TrackedRun | None:
    """The MLflow run of an alignment's live curves, completed now; None without one, or when it is nested already."""
    if log is None or not exists(join(log, TARGET)):
        return None
    run = find_run(tracking, _target(log))
    if run is None or tracking.is_nested(run):
        return None
    sync(log)
    return run


@contextmanager
def live_curves(params: Params, log: str, file: Path, *, interval_s: float) -> Iterator[Callable[[Record], None]]:
    """A receiver of training records that go to MLflow every `interval_s` seconds, and the rest at the end of the
    block.

    `file` is the local file in which the records are when they are received, `log` the alignment's log folder. The run
    is that of an earlier, interrupted attempt, or a new one. A server that is away does not stop the training: the log
    keeps the records, and `sync` sends them.
    """
    _write_target(params, log)
    module = "v2a_dpo.alignment.run.curves"  # this one, whose __name__ is another where it is the sender
    sender = LiveSender([sys.executable, "-P", "-m", module, log, str(file), str(interval_s)])
    try:
        yield sender
    finally:
        sender.close()


def _write_target(params: Params, log: str) -> None:
    """Writes the MLflow run of the log's records beside the log, unless it is there already."""
    identity, experiment = read_run(log).identity.digest, params.registry.experiment
    if exists(join(log, TARGET)):
        target = _target(log)
        if (target.identity, target.experiment) == (identity, experiment):
            return
    everything = params.model_dump(mode="json")
    sections = {name: everything[name] for name in ("profile", "seed", "generator", "align")}
    target = LiveTarget(uuid.uuid4().hex, identity, experiment, name="align", params=flatten(sections))
    write_json(join(log, TARGET), asdict(target))


def _send(log: str, file: Path, interval_s: float) -> None:
    """Sends while the log file grows, then what is left; what cannot be sent now stays in the log."""
    with file.open("rb") as growing:
        send_while_training(_target(log), lambda: _new_records(growing), interval_s=interval_s)
    try:
        sync(log)
    except UserError as error:
        _LOG.warning(
            "MLflow does not have all records yet; send them with `v2a-dpo sync-curves --log %s`. %s", log, error
        )


def _target(log: str) -> LiveTarget:
    if not exists(join(log, TARGET)):
        raise UserError(
            f"There is no {TARGET} in this folder.", where=log, remedy="Give the --log folder of a `v2a-dpo align`."
        )
    return LiveTarget(**read_json(join(log, TARGET)))


def _records(log: str) -> list[dict[str, Any]]:
    """The records in the log so far."""
    return _new_records(io.BytesIO(read_bytes(join(log, LOG)))) if exists(join(log, LOG)) else []


def _new_records(file: BinaryIO) -> list[dict[str, Any]]:
    """The records from the file's position on; a line that is still being written is left for the next call."""
    complete, newline, cut = file.read().rpartition(b"\n")
    file.seek(-len(cut), os.SEEK_CUR)
    return parse_log(complete + newline)


if __name__ == "__main__":
    _send(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
