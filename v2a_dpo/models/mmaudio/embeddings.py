"""Embeddings of time and position, and the map from latent steps to Synchformer rows.

Rotary positions turn interleaved channel pairs, always in float32.
Letters in tensor names: B batch, H heads, N tokens, P = head size / 2 channel pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from v2a_dpo.models.mmaudio.config import MMAudioConfig


def nearest_exact_index(source_length: int, target_length: int, *, device: torch.device | None = None) -> Tensor:
    """The source row of every target row, `[target_length]` int64: torch's `nearest-exact` interpolation.

    The arithmetic is float32 throughout, which decides the ties (192 rows onto 345 have three).
    """
    ratio = float(np.float32(source_length / target_length))
    centres = torch.arange(target_length, dtype=torch.float32, device=device) + 0.5
    return (centres * ratio).floor().long().clamp(max=source_length - 1)


class TimeEmbedding(nn.Module):
    """Embeds upstream time t in [0, 1] as `[B, hidden_size]`: cosines, then sines, then two linear layers.

    The frequencies reach 10^4 in the second generation, so the table stays float32 whatever type the network is cast
    to.
    """

    def __init__(self, config: MMAudioConfig) -> None:
        super().__init__()
        self._num_frequencies = config.time_frequencies
        self._period = config.longest_time_period
        inner = nn.Linear(config.time_frequencies, config.hidden_size)
        outer = nn.Linear(config.hidden_size, config.hidden_size)
        self.mlp = nn.Sequential(inner, nn.SiLU(), outer)
        self.freqs: Tensor
        self.register_buffer("freqs", self._table(), persistent=False)

    def _table(self) -> Tensor:
        """The frequencies in float32, on the CPU even where the network is being laid out on the meta device."""
        exponents = torch.arange(0, self._num_frequencies, 2, dtype=torch.float32, device="cpu") / self._num_frequencies
        return (10000.0 / self._period) * (1.0 / (10000.0**exponents))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self.freqs = self._table().to(self.freqs.device)
        return self

    def sinusoid(self, t_B: Tensor) -> Tensor:
        """`[B, num_frequencies]` in float32: cosines of t times the frequencies, then their sines."""
        phases = t_B.float()[:, None] * self.freqs
        return torch.cat([phases.cos(), phases.sin()], dim=-1)

    def forward(self, t_B: Tensor) -> Tensor:
        """The embedding `[B, hidden_size]` of `t_B`, in the type of the weights."""
        return self.mlp(self.sinusoid(t_B).to(next(self.mlp.parameters()).dtype))

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws the two linear weights from a narrow normal distribution."""
        for name, parameter in self.mlp.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            else:
                nn.init.zeros_(parameter)


def rotary_table(length: int, head_size: int, *, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """Cosines and sines `[2, N, P]` in float32 of the angles position times `scale * 10000^(-2i/head_size)`.

    `scale` stretches an axis onto another's steps: MMAudio's CLIP tokens use latent length / CLIP length.
    """
    exponents_P = torch.arange(0, head_size, 2, dtype=torch.float32, device=device) / head_size
    frequencies_P = (1.0 / (10000.0**exponents_P)) * scale
    angles_NP = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies_P
    return torch.stack([angles_NP.cos(), angles_NP.sin()])


def rotate(x_BHNK: Tensor, table_2NP: Tensor) -> Tensor:
    """`x` with every channel pair (2i, 2i+1) turned by its angle; computed in float32, returned in x's type."""
    cos_NP, sin_NP = table_2NP[0], table_2NP[1]
    even, odd = x_BHNK.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos_NP - odd * sin_NP, even * sin_NP + odd * cos_NP], dim=-1)
    return turned.flatten(-2).to(x_BHNK.dtype)
