"""Rectified flow in the paper's time: interpolation, velocity target, Euler sampling, classifier-free guidance.

`a_t = (1 - t) a_0 + t eps`: t = 0 is data, t = 1 is noise, and the velocity `eps - a_0` points from data to noise.
Letters in tensor names: B rows of a batch; latents are `[B, ...]`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

#: `(latents [B, ...], t_B) -> velocity [B, ...]`.
Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(data: Tensor, noise: Tensor, t_B: Tensor) -> Tensor:
    """The point `a_t = (1 - t) a_0 + t eps` between `data` and `noise`, one time per row."""
    t = t_B.to(data.dtype).reshape(-1, *(1,) * (data.dim() - 1))
    return (1 - t) * data + t * noise


def velocity_target(data: Tensor, noise: Tensor) -> Tensor:
    """The velocity `eps - a_0` of the straight path, the same at every t."""
    return noise - data


def time_grid(steps: int) -> Tensor:
    """The `steps + 1` times from 1 (noise) down to 0 (data), in float64.

    They are one minus the uniform float32 grid that MMAudio and Frieren sample on. float64 holds that difference
    exactly, so a model that turns time round in its adapter gets its own grid back to the last bit.
    """
    return 1 - torch.linspace(0, 1, steps + 1, dtype=torch.float32).double()


def sample_euler(velocity: Velocity, noise: Tensor, *, steps: int) -> Tensor:
    """The data at t = 0 that `noise` at t = 1 flows to in `steps` Euler steps.

    `velocity` sees the current latents and float64 times `t_B`; the last call is at the last grid point above 0, never
    at t = 0. Raises ValueError when `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    latents = noise
    for now, after in pairwise(time_grid(steps).tolist()):
        t_B = torch.full(noise.shape[:1], now, dtype=torch.float64, device=noise.device)
        latents = latents + (after - now) * velocity(latents, t_B)
    return latents


def is_guided(scale: float) -> bool:
    """Whether guidance at `scale` needs the empty branch: at 1 it cancels out, and below 1 upstream omits it."""
    return scale > 1


def guided(velocity_of_both: Velocity, scale: float) -> Velocity:
    """The classifier-free guided velocity `empty + scale (conditional - empty)` of B rows, in one forward pass.

    When `is_guided(scale)`, `velocity_of_both` is called on 2 B rows, `[conditional; empty]`; otherwise on the B
    conditional rows alone, and its result is returned.
    """
    if not is_guided(scale):
        return velocity_of_both

    def velocity(latents: Tensor, t_B: Tensor) -> Tensor:
        both = velocity_of_both(torch.cat([latents, latents]), torch.cat([t_B, t_B]))
        conditional, empty = both.chunk(2)
        return scale * conditional + (1 - scale) * empty

    return velocity
