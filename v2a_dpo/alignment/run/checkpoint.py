"""Checkpoints that make a resumed run equal to one that was never stopped.

A checkpoint is a folder `checkpoint-<step>` that appears by one rename, with the weights, the optimizer's state, the
step, and how long the log was. Nothing else has a state: order, time, noise, learning rate and reference errors are
functions of the step. Whose checkpoint it is stands beside it, in the record of the run.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from v2a_dpo.alignment.processes import Processes
from v2a_dpo.artifacts.folder import new_folder, remove_partial_folders

#: Of the names of checkpoints.
PREFIX = "checkpoint-"
_KEEP = 1
#: Written last, so that a checkpoint without it is not complete.
STATE = "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands: optimizer steps done, and the length of the log in bytes then."""

    step: int
    log_bytes: int


def save_checkpoint(folder: Path, position: Position, network: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """The checkpoint of `position`, written into `folder`; older ones are deleted then. Raises UserError when the disk
    is full."""
    checkpoint = folder / f"{PREFIX}{position.step:08d}"
    with new_folder(checkpoint) as partial:
        _save(dict(network.state_dict()), partial / "weights.safetensors")
        _save(_optimizer_tensors(network, optimizer), partial / "optimizer.safetensors")
        state = {"step": position.step, "log_bytes": position.log_bytes}
        (partial / STATE).write_text(json.dumps(state, allow_nan=False) + "\n", encoding="utf-8")
    for old in _checkpoints(folder)[:-_KEEP]:
        shutil.rmtree(old)
    return checkpoint


def load_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts the newest checkpoint's state into `network` and `optimizer` and returns its position.

    When there is none, nothing is changed, and the position is the start of the run.
    """
    checkpoints = _checkpoints(folder)
    if not checkpoints:
        return Position(step=0, log_bytes=0)
    state = json.loads((checkpoints[-1] / STATE).read_text(encoding="utf-8"))
    network.load_state_dict(load_file(checkpoints[-1] / "weights.safetensors"))
    tensors = load_file(checkpoints[-1] / "optimizer.safetensors")
    names = _parameter_names(network, optimizer)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition(":")
        moments.setdefault(names.index(name), {})[moment] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return Position(state["step"], state["log_bytes"])


def remove_checkpoints(folder: Path) -> None:
    """Deletes all checkpoints in `folder`, and what killed writers left of others."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint)
    remove_partial_folders(folder / f"{PREFIX}*")


def checkpoint_names(folder: Path) -> list[str]:
    """The names of the complete checkpoints in `folder`, which sort by step."""
    return [checkpoint.name for checkpoint in _checkpoints(folder)]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"))


def _parameter_names(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the optimizer's parameters, in its own order."""
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return [name_of[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors `parameter:moment`."""
    names = _parameter_names(network, optimizer)
    return {
        f"{names[index]}:{moment}": value
        for index, moments in optimizer.state_dict()["state"].items()
        for moment, value in moments.items()
    }


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


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Writes `tensors`; a full disk is an OSError here as everywhere."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        raise OSError(str(error)) from error
