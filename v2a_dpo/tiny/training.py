"""The training loop of all tiny networks: AdamW, one cycle of the learning rate, gradients clipped at norm 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from v2a_dpo.artifacts.location import write_atomically

StepProgress = Callable[[int, int], None]


def one_cycle(step: int, steps: int, *, warmup: float = 0.2, floor: float = 0.01) -> float:
    """The factor on the peak learning rate before step `step` of `steps`: linear up, then half a cosine down to
    `floor`."""
    rise = max(round(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    fall = (step - rise) / max(steps - rise, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fall))


def train(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    progress: StepProgress | None = None,
) -> None:
    """Minimises `loss(step)` over `steps` steps and leaves `network` in evaluation mode.

    With the file `checkpoint` a killed run continues and ends with the same weights, if `loss` depends on its step
    alone; the caller removes the file once the result is stored.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    first = 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    network.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * one_cycle(step, steps)
        value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if checkpoint is not None and (step + 1) % checkpoint_every == 0:
            state = {"step": step + 1, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, content := BytesIO())
            write_atomically(checkpoint, content.getvalue())
        if progress is not None:
            progress(step + 1, steps)
    network.eval()
