"""Convolutions of kernel 3 along time with fewer multiplications, for CPUs.

Winograd's minimal filtering makes two neighbouring outputs from four products instead of six, F(2,3), or four outputs
from six products instead of twelve, F(4,3) (Lavin and Gray 2016, section 4, in one dimension). The result is the same
up to rounding. F(4,3) needs float32; in bfloat16 F(2,3) loses less than a bit. Three quarters of MMAudio's work are
such convolutions. On a GPU it gains nothing: products are cheap there, and the sums around them are not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.models.mmaudio.blocks import TimeConv1d

#: Filter transforms G `[products, 3]`.
_F23 = ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1))
_F43 = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


class WinogradConv1d(nn.Module):
    """A `TimeConv1d` of kernel 3, for inference; takes over its weights and computes in `dtype`."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: TimeConv1d, dtype: torch.dtype) -> None:
        super().__init__()
        transform = torch.tensor(_F43 if dtype is torch.float32 else _F23, device=conv.weight.device)
        weight_PIO = torch.einsum("pk,oik->pio", transform, conv.weight.detach().float())
        self.outputs = len(transform) - 2
        self.register_buffer("weight", weight_PIO.to(dtype).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().to(dtype))

    def forward(self, x_BND: Tensor) -> Tensor:
        """The convolved sequence `[B, N, out_channels]`."""
        x_BND = x_BND.to(self.weight.dtype)
        batch, length, channels = x_BND.shape
        tiles, stride = -(-length // self.outputs), self.outputs
        # Tile i takes samples i * stride - 1 to i * stride + stride: those of its own stretch and two of the next.
        padded = F.pad(x_BND, (0, 0, 1, (tiles + 1) * stride - length - 1)).unflatten(1, (-1, stride))
        samples = [padded[:, :-1, index] for index in range(stride)] + [padded[:, 1:, index] for index in (0, 1)]
        transformed = torch.stack(_combine_inputs(samples)).view(-1, batch * tiles, channels)
        products = torch.bmm(transformed, self.weight)
        outputs = torch.stack(_combine_products(products.unbind(0)), dim=1)
        filtered = outputs.view(batch, tiles * stride, -1)[:, :length]
        return filtered if self.bias is None else filtered + self.bias


def _combine_inputs(d: list[Tensor]) -> list[Tensor]:
    """The samples of every tile, combined for one product each (the matrix B^T)."""
    if len(d) == 4:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    even_outer, odd_outer = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    even, odd = d[4] - d[2], d[3] - d[1]
    return [
        torch.sub(torch.add(d[4], d[0], alpha=4), d[2], alpha=5),
        even_outer + odd_outer,
        even_outer - odd_outer,
        torch.add(even, odd, alpha=2),
        torch.sub(even, odd, alpha=2),
        torch.sub(torch.add(d[5], d[1], alpha=4), d[3], alpha=5),
    ]


def _combine_products(m: tuple[Tensor, ...]) -> list[Tensor]:
    """The outputs of every tile from its products (the matrix A^T)."""
    total, difference = m[1] + m[2], m[1] - m[2]
    if len(m) == 4:
        return [m[0] + total, difference - m[3]]
    outer_total, outer_difference = m[3] + m[4], m[3] - m[4]
    return [
        m[0] + total + outer_total,
        torch.add(difference, outer_difference, alpha=2),
        torch.add(total, outer_total, alpha=4),
        torch.add(difference, outer_difference, alpha=8) + m[5],
    ]


def use_winograd(network: nn.Module, dtype: torch.dtype) -> None:
    """Replaces, in place, every convolution of kernel 3 along time; the network can only infer from then on."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, TimeConv1d) and child.kernel_size == (3,):
                setattr(module, name, WinogradConv1d(child, dtype))
