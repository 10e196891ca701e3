"""Checkpoints that make a resumed run equal to one that was never stopped.

A checkpoint is one file `checkpoint-<step>.pt` that appears by one rename, with the weights, the optimizer's state, the
step, and how long the log was. Nothing else has a state: order, time, noise, learning rate and reference errors are
functions of the step. The record of the run beside it names the run that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from v2a_dpo.alignment.processes import Processes
from v2a_dpo.artifacts.location import new_local_file, reported

#: Start of the names of checkpoints, which sort by step.
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Position:
    """The position of a run: optimizer steps done, and the length of the log in bytes then."""

    step: int
    log_bytes: int


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first."""
    return sorted(folder.glob(f"{PREFIX}*"))


def save_checkpoint(folder: Path, position: Position, network: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Writes the checkpoint of `position` into `folder` and deletes older ones. Raises UserError when the disk is
    full."""
    path = folder / f"{PREFIX}{position.step:08d}.pt"
    state = {"position": vars(position), "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    _remove_partial(folder)
    with reported("written", path), new_local_file(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's form of an OSError while it writes
            raise OSError(str(error)) from error
    for old in checkpoints(folder)[:-1]:
        old.unlink()
    return path


def load_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts the newest checkpoint's state into `network` and `optimizer` and returns its position.

    When there is none, nothing is changed, and the position is the start of the run.
    """
    saved = checkpoints(folder)
    if not saved:
        return Position(step=0, log_bytes=0)
    state = torch.load(saved[-1], map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return Position(**state["position"])


def remove_checkpoints(folder: Path) -> None:
    """Deletes all checkpoints in `folder`."""
    for checkpoint in checkpoints(folder):
        checkpoint.unlink()
    _remove_partial(folder)


def _remove_partial(folder: Path) -> None:
    """Deletes the parts of checkpoints that killed processes left."""
    for part in folder.glob(f".{PREFIX}*.partial"):
        part.unlink()


def share_optimizer_state(optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    """Gives every process the AdamW state of the main one: which parameters have been trained, and their moments."""
    if processes.world_size == 1:
        return
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        state = optimizer.state.get(parameter, {})
        if processes.broadcast(torch.tensor(len(state))) > 0:
            moments = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            optimizer.state[parameter] = {
                name: processes.broadcast(state.get(name, torch.zeros_like(like)).detach())
                for name, like in moments.items()
            }
