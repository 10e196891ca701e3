"""Training records on their way to MLflow while training goes on: a thread sends them, and a server that is away costs nothing.

The training log is the spool. What the thread could not send is in the log, and `sync` sends it later.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.system_load import system_load
from v2a_dpo.tracking.upload import STEP, LiveTarget, MetricUpload, TimedRecord

_LOG = logging.getLogger(__name__)


class LiveMetrics:
    """A receiver of training records, to be given to the trainer; it returns at once.

    `target` says, when the first record comes, which run they belong to; `backlog` gives the log so far, for the records of
    an earlier process. A process that is given no record asks for neither and touches no server. A thread sends what has
    come every `interval_s` seconds.
    """

    def __init__(
        self, target: Callable[[], LiveTarget], *, backlog: Callable[[], bytes] = lambda: b"", interval_s: float = 5.0
    ) -> None:
        self._target = target
        self._backlog = backlog
        self._interval_s = interval_s
        self._queue: queue.SimpleQueue[TimedRecord] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Takes a record; it must have a `step`."""
        self._queue.put(TimedRecord(record, int(time.time() * 1000)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._target(),), name="live-metrics", daemon=True)
            self._thread.start()

    @property
    def started(self) -> bool:
        """Whether any record has come."""
        return self._thread is not None

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Tries once more to send what is left, for at most `timeout_s` seconds."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, target: LiveTarget) -> None:
        waiting: list[TimedRecord] = list(timed(self._backlog()))
        upload: MetricUpload | None = None
        away = False
        while True:
            last_round = self._ending.wait(self._interval_s)
            waiting += self._drain()
            try:
                upload = upload or MetricUpload.open(target)
                upload.send(waiting)
                if waiting:
                    upload.log_now(system_load(step=waiting[-1].record[STEP]))
                waiting, away = [], False
            except UserError as error:
                if upload is not None:
                    upload.close()
                upload = None  # what the server has is read back before anything is sent again
                if not away:
                    _LOG.warning("Training goes on without MLflow; its records are kept. %s", error)
                away = True
            if last_round and self._queue.empty():
                break
        if upload is not None:
            upload.close()

    def _drain(self) -> Iterator[TimedRecord]:
        while not self._queue.empty():
            yield self._queue.get()


def timed(log: bytes) -> Iterator[TimedRecord]:
    """The records of a training log, with the present as their time; a line that is still being written is left out."""
    now = int(time.time() * 1000)
    complete, _, _ = log.rpartition(b"\n")
    for line in complete.splitlines():
        yield TimedRecord(json.loads(line), now)
