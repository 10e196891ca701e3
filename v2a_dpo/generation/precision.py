"""What a network becomes for sampling: weights rounded once in bfloat16, cheaper convolutions on a CPU.

Autocast over float32 weights is what keeps time embeddings, rotary positions and norms exact, but it rounds a billion
weights again at every step. Rounding the weights of linear layers and convolutions beforehand, under the same autocast,
gives the same numbers bit for bit without that work and in half the memory.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from v2a_dpo.models.mmaudio.winograd import use_minimal_filtering


def prepare_for_sampling(network: nn.Module, dtype: torch.dtype) -> None:
    """Makes the network, in place, as fast as its device allows; it can neither be trained nor saved afterwards."""
    if next(network.parameters()).device.type == "cpu":
        use_minimal_filtering(network, dtype)
    if dtype is not torch.float32:
        round_weights(network, dtype)


def round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Casts, in place, the weights and biases that autocast casts at every use; norms, tables and constants stay."""
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            module.to(dtype)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which matrix products and convolutions run in `dtype`; does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is not torch.float32)
