"""Reduced precision for inference: autocast, and weights rounded once for it.

Autocast over float32 weights keeps time embeddings, rotary positions and norms exact, but rounds a billion weights
again at every step. Rounding the weights of linear layers and convolutions beforehand, under the same autocast, gives
the same numbers bit for bit without that work and in half the memory.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd


def round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Casts, in place, the weights and biases that autocast casts at every use; norms, tables and constants stay."""
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            module.to(dtype)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which matrix products and convolutions run in `dtype`; does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is not torch.float32)
