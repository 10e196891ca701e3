"""BigVGAN's anti-aliased activation as matrix products, which are fast on a CPU and on a GPU.

The `bigvgan` package filters every channel by depthwise convolutions at twice the sample rate, which on a CPU take as
long as the dense convolutions between them. The same filters as products with a banded matrix over short blocks of
time, a few channels at a time so that the intermediates stay in the cache, give the same sound.

Letters in tensor names: B batch, C channels, R rows (batch times channels), T samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Samples of the lower rate in one row of a matrix product.
_BLOCK = 32
#: Samples of the lower rate that a CPU takes at once: their intermediates fill about a megabyte.
_CACHED_SAMPLES = 1 << 16


class AntiAliasedActivation(nn.Module):
    """Up-sampling by two, a snake activation, and down-sampling by two, in float32 whatever autocast says.

    Takes over the parts of bigvgan's `Activation1d` under their names, so that state dicts stay what they are.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.act: Any = original.get_submodule("act")
        self.upsample: Any = original.get_submodule("upsample")
        self.downsample: Any = original.get_submodule("downsample")

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The activated signal, same shape and type."""
        with torch.autocast(x_BCT.device.type, enabled=False):
            up, down = self._matrices(x_BCT.device)
            rate_R1, gain_R1 = (parameter.repeat(len(x_BCT))[:, None] for parameter in self._snake())
            rows_RT = x_BCT.flatten(0, 1)
            at_once = max(1, _CACHED_SAMPLES // rows_RT.shape[1]) if x_BCT.device.type == "cpu" else len(rows_RT)
            parts = zip(*(tensor.split(at_once) for tensor in (rows_RT, rate_R1, gain_R1)), strict=True)
            activated = [_activate(rows.float(), rate, gain, up, down).to(x_BCT.dtype) for rows, rate, gain in parts]
            return torch.cat(activated).view(x_BCT.shape)

    def _snake(self) -> tuple[Tensor, Tensor]:
        """Rate a and gain g `[C]` of the activation u + g sin^2(a u)."""
        alpha = self.act.alpha.float()
        beta = getattr(self.act, "beta", self.act.alpha).float()
        if self.act.alpha_logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return alpha, 1.0 / (beta + self.act.no_div_by_zero)

    def _matrices(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The two filters as matrices from a block's input samples to its output samples."""
        low, high = torch.arange(_BLOCK + 6, device=device), torch.arange(2 * _BLOCK + 10, device=device)
        up = _banded(self.upsample.filter.flatten() * 2, high[: 2 * _BLOCK] + 11 - 2 * low[:, None])
        return up, _banded(self.downsample.lowpass.filter.flatten(), high[:, None] - 2 * low[:_BLOCK])


def _banded(taps: Tensor, index: Tensor) -> Tensor:
    """The matrix whose entries are the taps named by `index`, and 0 where there is none."""
    inside = (index >= 0) & (index < len(taps))
    return torch.where(inside, taps.float()[index.clamp(0, len(taps) - 1)], 0.0)


def _activate(rows_RT: Tensor, rate_R1: Tensor, gain_R1: Tensor, up: Tensor, down: Tensor) -> Tensor:
    length = rows_RT.shape[1]
    filling = -length % _BLOCK
    padded = F.pad(rows_RT, (3, 3 + filling), mode="replicate")
    fine = (padded.unfold(1, _BLOCK + 6, _BLOCK) @ up).flatten(1)[:, : 2 * length]
    fine = torch.addcmul(fine, (fine * rate_R1).sin_().square_(), gain_R1)
    padded = F.pad(fine, (5, 5 + 2 * filling), mode="replicate")
    return (padded.unfold(1, 2 * _BLOCK + 10, 2 * _BLOCK) @ down).flatten(1)[:, :length]
