"""The files of one run: log and checkpoints, written by the main process alone, and mirrored to S3 on request."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2a_dpo.alignment.processes import Processes
from v2a_dpo.alignment.run.checkpoint import Position, load_checkpoint, save_checkpoint, share_optimizer_state
from v2a_dpo.alignment.run.log import LOG, Record, TrainingLog, read_log
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.location import is_remote, local_path


def work_folder(log: str, *, identity: str) -> Path:
    """The local working folder, created if missing, for the run of that `identity` in `log`.

    For a remote `log` it is the same scratch folder at every start, so that a restart on this machine resumes.
    """
    scratch = Path(tempfile.gettempdir()) / f"v2a-dpo-{os.getuid()}" / fingerprint(log, identity)
    folder = scratch if is_remote(log) else local_path(log)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class RunFolder:
    """The local `folder` of a run, which holds nothing of any other; every record also goes to `on_record`."""

    def __init__(
        self,
        folder: Path,
        *,
        processes: Processes,
        mirror: Mirror | None = None,
        on_record: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self._folder = folder
        self._processes = processes
        self._mirror = mirror
        self._on_record = on_record
        self._log: TrainingLog | None = None

    def fetch(self, name: str) -> Path:
        """The path of the file `name`, downloaded from the mirror if it is only there."""
        path = self._folder / name
        if self._processes.is_main and self._mirror is not None and not path.exists():
            self._mirror.fetch_file(name)
        return path

    def send(self, name: str) -> None:
        """Uploads the file `name` to the mirror, if any."""
        if self._processes.is_main and self._mirror is not None:
            self._mirror.send(name)

    def resume(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restores the newest checkpoint and returns the next step, 0 for a new run.

        Every process gets the optimizer's state, the main one the weights of `network`: `Processes.prepare` sends them
        to the others.
        """

        def load() -> Position:
            if self._mirror is not None:
                self._mirror.fetch()
            position = load_checkpoint(self._folder, network, optimizer)
            self._log = TrainingLog(self._folder / LOG, length=position.log_bytes, on_record=self._on_record)
            return position

        position = self._processes.broadcast_result(load)
        share_optimizer_state(optimizer, self._processes)
        return position.step

    def write(self, record: Record) -> None:
        """Appends a record to the log."""
        if self._log is not None:
            self._log.write(record)

    def checkpoint(self, step: int, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Saves the state after `step` steps; the mirror uploads it while training continues."""
        if self._log is None:
            return
        position = Position(step, self._log.flush())
        if self._mirror is not None:
            self._mirror.wait()  # the older checkpoint is deleted next: its upload must be complete
        saved = save_checkpoint(self._folder, position, network, optimizer)
        if self._mirror is not None:
            self._mirror.send_checkpoint(saved, log_bytes=position.log_bytes)

    def records(self) -> list[dict[str, Any]]:
        """The main process's whole log."""
        return self._processes.broadcast_result(lambda: read_log(self._folder / LOG))
