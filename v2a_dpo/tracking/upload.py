"""Training records into one MLflow run, each exactly once, whatever happens to the server or to this process.

A record's numbers go in one request together with the metric `step`, and a request is one transaction of the server's
database. So the history of `step` lists the stored records. It is read before anything is sent: at the start, and again
after every request without an answer. A request that the HTTP client repeats has the same time stamps (those of the
records), so the database ignores the numbers that it has already.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import FINGERPRINT_TAG, Tracking
from v2a_dpo.tracking.failures import failures_reported
from v2a_dpo.tracking.run import METRICS_PER_REQUEST, TrackedRun, chunks
from v2a_dpo.tracking.source import source_tags
from v2a_dpo.tracking.values import MetricPoint, curve

#: The metric that lists the stored records: its value is a record's step.
STEP = "step"
#: Tag of a run of live curves: the key of its `LiveTarget`.
LIVE_TAG = "v2a_dpo.live"


@dataclass(frozen=True)
class LiveTarget:
    """The run that records belong to: `key` is a random id stored beside the records, the rest creates the run."""

    key: str
    identity: str
    experiment: str
    name: str
    params: dict[str, str]


#: A record of a training log, with its `step` and its `time_ms`.
LogRecord = Mapping[str, Any]


class MetricUpload(AbstractContextManager["MetricUpload"]):
    """The run of a target on its server, and its stored steps; only one process on a machine has it at a time."""

    def __init__(self, tracking: Tracking, run: TrackedRun, sent: set[int], lock: BinaryIO) -> None:
        self.tracking = tracking
        self.run = run
        self._sent = sent
        self._lock = lock

    @staticmethod
    def open(target: LiveTarget) -> MetricUpload:
        """The upload to the target's run, which is created if it does not exist.

        Raises UserError when no server answers, and when another process on this machine sends the same records.
        """
        lock = _locked(target.key)
        try:
            tracking = Tracking.connect(target.experiment)
            with failures_reported(tracking.uri):
                run = find_run(tracking, target) or _create_run(tracking, target)
                history = tracking.client.get_metric_history(run.run_id, STEP)
        except BaseException:
            lock.close()
            raise
        return MetricUpload(tracking, run, {metric.step for metric in history}, lock)

    def close(self) -> None:
        """Releases the run for other processes."""
        self._lock.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def send(self, records: Sequence[LogRecord]) -> int:
        """Sends the records that are not stored yet, and returns their number.

        Raises UserError when the server does not answer; the upload must be opened anew then.
        """
        missing = [record for record in records if record[STEP] not in self._sent]
        with failures_reported(self.tracking.uri):
            for batch in _batches(missing):
                self.run.log_metrics(point for record in batch for point in _points(record))
                self._sent |= {record[STEP] for record in batch}
        return len(missing)

    def log_now(self, points: Iterable[MetricPoint]) -> None:
        """Logs further numbers, such as the machine's load."""
        with failures_reported(self.tracking.uri):
            self.run.log_metrics(points)

    def finish(self) -> None:
        """Marks the run as finished."""
        with failures_reported(self.tracking.uri):
            self.tracking.client.set_terminated(self.run.run_id, "FINISHED")


def find_run(tracking: Tracking, target: LiveTarget) -> TrackedRun | None:
    """The run of `target`; the oldest of several, which only a lost answer can cause."""
    query = f"tags.`{LIVE_TAG}` = '{target.key}'"
    runs = tracking.client.search_runs([tracking.experiment_id], query)
    if not runs:
        return None
    oldest, *others = sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    for run in others:
        tracking.client.delete_run(run.info.run_id)
    return TrackedRun(tracking.client, oldest.info.run_id)


def _create_run(tracking: Tracking, target: LiveTarget) -> TrackedRun:
    tags = {**source_tags(), LIVE_TAG: target.key, FINGERPRINT_TAG: target.identity}
    created = tracking.client.create_run(tracking.experiment_id, run_name=target.name, tags=tags)
    run = find_run(tracking, target) or TrackedRun(tracking.client, created.info.run_id)
    run.log_params(target.params)
    return run


def _locked(key: str) -> BinaryIO:
    """An open file that only one process can have, until it is closed or the process ends."""
    path = Path(tempfile.gettempdir()) / f"v2a-dpo-{os.getuid()}-{key}.lock"
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        remedy = "Wait for the alignment to end: it sends its records itself."
        raise UserError("Another process is sending these records.", where=str(path), remedy=remedy) from None
    return file


def _points(record: LogRecord) -> list[MetricPoint]:
    step = record[STEP]
    return [*curve([record]), MetricPoint(STEP, step, step, time_ms=record["time_ms"])]


def _batches(records: Sequence[LogRecord]) -> Iterator[Sequence[LogRecord]]:
    """The records in batches that fit one request each; no record is split."""
    largest = max((len(_points(record)) for record in records), default=1)
    return chunks(records, max(1, METRICS_PER_REQUEST // largest))
