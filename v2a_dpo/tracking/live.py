"""Training records on their way to MLflow while training goes on: a process of its own sends them, at the lowest
priority.

All that training pays is a line in a pipe: it neither imports MLflow nor waits for a server, and the sender takes only
processor time that nobody else wants. The training log is the spool: what could not be sent is there, and is sent
later.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, BinaryIO

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.system_load import system_load
from v2a_dpo.tracking.upload import STEP, LiveTarget, MetricUpload

_LOG = logging.getLogger(__name__)
_LOWEST_PRIORITY = 19


class LiveMetrics:
    """A receiver of training records, to be given to the trainer; training goes on whatever happens to the sender.

    `sender` gives, when the first record comes, the command that sends them: it reads records as JSON Lines from its
    standard input, calls `send_as_they_come`, and ends after the input does, which is also when training is killed.
    """

    def __init__(self, sender: Callable[[], Sequence[str]]) -> None:
        self._sender = sender
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = False

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Hands a record on."""
        if self._broken:
            return
        try:
            if self._process is None:
                self._process = _started(self._sender())
            _input(self._process).write(json.dumps(record, allow_nan=False).encode() + b"\n")
            _input(self._process).flush()
        except OSError as error:
            self._broken = True
            _LOG.warning("Training goes on without sending its records to MLflow; the log keeps them. %s", error)

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Ends the sender's input and gives it `timeout_s` seconds to send what is left."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            _LOG.warning("MLflow did not take the last records within %.0f s; the log keeps them.", timeout_s)


def send_as_they_come(
    lines: BinaryIO, target: LiveTarget, *, backlog: Sequence[Mapping[str, Any]], interval_s: float
) -> None:
    """Sends the records of `lines` (JSON Lines) to the run of `target` every `interval_s` seconds, and when the lines
    end.

    `backlog` are records of an earlier process. Each time the machine's load goes with them. Records that cannot be
    sent when the lines end are left to the caller, who has the log.
    """
    arrived: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    ended = threading.Event()
    # Reads at all times, so that training never waits for room in the pipe.
    threading.Thread(target=_read, args=(lines, arrived, ended), name="records", daemon=True).start()
    waiting = list(backlog)
    upload: MetricUpload | None = None
    away = False
    while True:
        last_round = ended.wait(interval_s)
        waiting += _drained(arrived)
        try:
            upload = upload or MetricUpload.open(target)
            upload.send(waiting)
            if waiting:
                upload.log_now(system_load(step=waiting[-1][STEP]))
            waiting, away = [], False
        except UserError as error:
            if upload is not None:
                upload.close()
            upload = None  # what the server has is read back before anything is sent again
            if not away:
                _LOG.warning("Training goes on without MLflow; its records are kept. %s", error)
            away = True
        if last_round:
            break
    if upload is not None:
        upload.close()


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # A process group of its own: Ctrl-C is for the training, and what was written until then is still sent. Not a
    # session, for Linux groups processes by session, and lets a group of the lowest priority have as much as any other.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603
    os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST_PRIORITY)
    return process


def _read(lines: Iterable[bytes], arrived: queue.SimpleQueue[Mapping[str, Any]], ended: threading.Event) -> None:
    for line in lines:
        if line.endswith(b"\n"):  # the last one of a killed process may be cut
            arrived.put(json.loads(line))
    ended.set()


def _drained(arrived: queue.SimpleQueue[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    while not arrived.empty():
        yield arrived.get()


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise BrokenPipeError("The sender has no input.")
    return process.stdin
