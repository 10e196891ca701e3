"""Training records to MLflow while training goes on: a process of its own sends them, at the lowest priority.

Training only starts that process: it neither imports MLflow nor waits for a server, and the sender uses idle processor
time alone. The sender reads the training log as it grows. Records that it cannot send stay in the log and are sent
later.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.upload import STEP, LiveTarget, LogRecord, MetricUpload
from v2a_dpo.tracking.values import MetricPoint

_LOG = logging.getLogger(__name__)
_LOWEST_PRIORITY = 19


class LiveSender:
    """A receiver of training records that starts `command` at the first one; training goes on whatever happens to it.

    The command calls `send_while_training`. Its standard input is a pipe without content, whose end is the end of
    training, also when training is killed.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = False

    def __call__(self, record: LogRecord) -> None:
        """Starts the command unless it was started before; the record itself is in the log."""
        if self._process is not None or self._failed:
            return
        try:
            # A process group of its own: Ctrl-C is for the training, and the records until then are still sent.
            # Not a session, for Linux groups processes by session, and lets a group of the lowest priority have as
            # much as any other.
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOWEST_PRIORITY)
        except OSError as error:
            self._failed = True
            _LOG.warning("Training goes on without sending its records to MLflow; the log keeps them. %s", error)

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Ends the command's input and gives it `timeout_s` seconds to send what is left."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            _LOG.warning("MLflow does not have the last records: their sender was stopped; the log keeps them.")


def send_while_training(
    target: LiveTarget, new_records: Callable[[], Sequence[LogRecord]], *, interval_s: float
) -> None:
    """Sends what `new_records` returns to the run of `target` every `interval_s` seconds until standard input ends.

    The machine's load goes with them. Records that cannot be sent then are left to the caller, who has the log.
    """
    waiting: list[LogRecord] = []
    upload: MetricUpload | None = None
    is_away = ended = False
    while not ended:
        readable, _, _ = select.select([sys.stdin], [], [], interval_s)
        ended = bool(readable)
        waiting += new_records()
        try:
            upload = upload or MetricUpload.open(target)
            upload.send(waiting)
            if waiting:
                upload.log_now(_system_load(step=waiting[-1][STEP]))
            waiting, is_away = [], False
        except UserError as error:
            if upload is not None:
                upload.close()
            upload = None  # the stored steps are read again before anything is sent
            if not is_away:
                _LOG.warning("Training goes on without MLflow; its records are kept. %s", error)
            is_away = True
    if upload is not None:
        upload.close()


def _system_load(*, step: int) -> list[MetricPoint]:
    """Present use of processor, memory, network and GPUs, if any, under MLflow's `system/` names, at `step`."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[Any] = [CPUMonitor()]
    with suppress(ImportError, RuntimeError):  # no NVIDIA library, or no GPU
        monitors.append(GPUMonitor())
    points: list[MetricPoint] = []
    for monitor in monitors:
        monitor.collect_metrics()
        load = monitor.aggregate_metrics()
        points += [MetricPoint(f"system/{name}", value, step) for name, value in load.items()]
    return points
