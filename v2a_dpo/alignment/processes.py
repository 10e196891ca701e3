"""The processes that share one training run: alone by default, or as many as `torchrun` or `accelerate launch` started.

They share gradients averaged during the backward pass, a sum, a broadcast and a barrier. accelerate reads rank, backend
(nccl, or gloo on CPUs) and device from either launcher's environment; a single process never imports it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import choose_device

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

#: Longest wait for a process that gathers data or loads a checkpoint; NCCL's own ten minutes are too few.
_TIMEOUT = timedelta(hours=2)


class Processes:
    """This process among those that share the run: its `rank` in `world_size`, and its `device`."""

    def __init__(self, device: torch.device, accelerator: Accelerator | None = None) -> None:
        self.device = device
        self._accelerator = accelerator
        self.rank = accelerator.process_index if accelerator else 0
        self.world_size = accelerator.num_processes if accelerator else 1
        self.is_first_on_node = accelerator is None or bool(accelerator.is_local_main_process)

    @property
    def is_main(self) -> bool:
        """Whether this process writes log, checkpoints and summary; exactly one does."""
        return self.rank == 0

    def local_slice(self, rows: int) -> slice:
        """The rows of a batch of `rows` that are this process's; every row belongs to exactly one."""
        return slice(rows * self.rank // self.world_size, rows * (self.rank + 1) // self.world_size)

    def prepare(self, module: nn.Module) -> nn.Module:
        """`module` with the main process's weights, whose backward pass averages gradients over the processes."""
        return self._accelerator.prepare_model(module) if self._accelerator else module

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's `tensor`."""
        if self._accelerator is None:
            return tensor
        total: Tensor = self._accelerator.reduce(tensor.to(self.device), reduction="sum")
        return total.to(tensor.device)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The main process's `tensor`; the others give one of the same shape and type."""
        if self._accelerator is None:
            return tensor
        sent = tensor.to(self.device, copy=True).contiguous()
        torch.distributed.broadcast(sent, src=0)
        return sent.to(tensor.device)

    def broadcast_result(self, work: Callable[[], T]) -> T:
        """The result of `work()`, which runs in the main process alone, in every process; it must be picklable."""
        shared: list[Any] = [work() if self.is_main else None]
        if self._accelerator is not None:
            torch.distributed.broadcast_object_list(shared, src=0)
        result: T = shared[0]
        return result

    def barrier(self) -> None:
        """Returns when every process has called it."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def in_turns(self, work: Callable[[], T], *, shared_disk: bool) -> T:
        """`work()` in every process: first where its files are missing, then where they exist already.

        The main process is first, then one process of each other node, then all others. Without a `shared_disk` the
        first process of every node starts at once.
        """
        first = self.is_main or (self.is_first_on_node and not shared_disk)
        own_turn = 0 if first else 1 if self.is_first_on_node else 2
        for turn in range(3):
            if turn == own_turn:
                result = work()
            self.barrier()
        return result

    def close(self) -> None:
        """Leaves the group of processes."""
        if self._accelerator is not None:
            self._accelerator.end_training()


def join_processes(device: str) -> Processes:
    """This process among those of its launcher, on the device of that name: `auto`, `cpu`, or `cuda`.

    Several processes on `cuda` take one GPU of their node each. Raises UserError for a numbered GPU then.
    """
    resolved = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(resolved)
    if resolved.index is not None:
        raise UserError(
            f"Several processes cannot share the device {device!r}.",
            where="generator.device",
            remedy="Use `auto`: each process then takes the GPU of its own number.",
        )
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    accelerator = Accelerator(
        cpu=resolved.type == "cpu",
        mixed_precision="no",  # precision is this package's own autocast; the launcher's setting must not add to it
        kwargs_handlers=[
            # The velocity does not depend on every parameter; those must stay without a gradient.
            DistributedDataParallelKwargs(
                broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
            ),
            InitProcessGroupKwargs(timeout=_TIMEOUT),
        ],
    )
    return Processes(accelerator.device, accelerator)


def check_batch_divides(batch_size: int, processes: Processes) -> None:
    """Raises UserError unless every process gets the same number of each batch's pairs."""
    if batch_size % processes.world_size:
        raise UserError(
            f"A batch of {batch_size} pairs cannot be shared equally by {processes.world_size} processes.",
            where="align.batch_size",
            remedy=f"Start a number of processes that divides {batch_size}, or change the batch size.",
        )
