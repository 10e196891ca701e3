"""Rotary positions on interleaved channel pairs, always in float32.

Letters in tensor names: B batch, H heads, N tokens, P = head size / 2 channel pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(length: int, head_size: int, *, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """The rotation angles `[N, P]` in float32: position times `scale * 10000^(-2i/head_size)`.

    `scale` stretches an axis onto another's steps: MMAudio's CLIP tokens use latent length / CLIP length.
    """
    exponents_P = torch.arange(0, head_size, 2, dtype=torch.float32, device=device) / head_size
    frequencies_P = (1.0 / (10000.0**exponents_P)) * scale
    positions_N = torch.arange(length, dtype=torch.float32, device=device)
    return positions_N[:, None] * frequencies_P


def rotary_table(length: int, head_size: int, *, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """Cosines and sines of the rotation, `[2, N, P]` in float32."""
    angles_NP = rotary_angles(length, head_size, scale=scale, device=device)
    return torch.stack([angles_NP.cos(), angles_NP.sin()])


def rotate(x_BHNK: Tensor, table_2NP: Tensor) -> Tensor:
    """`x` with every channel pair (2i, 2i+1) turned by its angle; computed in float32, returned in x's type."""
    cos_NP, sin_NP = table_2NP[0], table_2NP[1]
    even, odd = x_BHNK.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos_NP - odd * sin_NP, even * sin_NP + odd * cos_NP], dim=-1)
    return turned.flatten(-2).to(x_BHNK.dtype)
