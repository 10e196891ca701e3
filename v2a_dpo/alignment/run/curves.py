"""An alignment's curves in MLflow: sent while it trains by a process of its own, and completed from the log afterwards."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Any

from v2a_dpo.alignment.run.log import LOG, SUMMARY, TARGET, parse_log
from v2a_dpo.artifacts.location import exists, join, read_bytes
from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import Tracking
from v2a_dpo.tracking.live import send_as_they_come
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.upload import LiveTarget, MetricUpload, find_run

_LOG = logging.getLogger(__name__)


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
    target, records = _target(log), _records(log)
    last = max((record["step"] for record in records), default=-1)
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
    run = find_run(tracking, _target(log))
    if run is None or tracking.is_nested(run):
        return None
    sync(log)
    return run


def sender(log: str, *, interval_s: float) -> list[str]:
    """The command that sends the records of its standard input, and what `log` has besides, to the run that `log` names."""
    return [sys.executable, "-P", "-m", __name__, log, str(interval_s)]


def _send(log: str, interval_s: float) -> None:
    """Sends while records come, then what is left; what cannot be sent now stays in the log."""
    send_as_they_come(sys.stdin.buffer, _target(log), backlog=_records(log), interval_s=interval_s)
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
    return LiveTarget.from_text(read_bytes(join(log, TARGET)).decode())


def _records(log: str) -> list[dict[str, Any]]:
    """What the log has by now, without a line that is still being written."""
    content = read_bytes(join(log, LOG)) if exists(join(log, LOG)) else b""
    complete, newline, _ = content.rpartition(b"\n")
    return parse_log(complete + newline)


if __name__ == "__main__":
    _send(sys.argv[1], float(sys.argv[2]))
