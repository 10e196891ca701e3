"""The keys and shapes of the official files of MMAudio's parts, from the networks themselves on the meta device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipFeatures
from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.vae import MelVAE, MelVAEConfig
from v2a_dpo.models.mmaudio.variants import VARIANTS
from v2a_dpo.models.vocoder import Vocoder

NetworkLayout = dict[str, tuple[int, ...]]


def _layout(module: nn.Module) -> NetworkLayout:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def network_layouts(variant: str) -> Sequence[NetworkLayout]:
    """The layout of a velocity network."""
    with torch.device("meta"):
        return [_layout(MMAudioNetwork(VARIANTS[variant]))]


def autoencoder_layouts(name: str) -> Sequence[NetworkLayout]:
    """The layout of the mel autoencoder `16k` or `44k`."""
    config = MelVAEConfig.official(name)
    with torch.device("meta"):
        return [_layout(MelVAE(config))]


def vocoder_layouts(name: str) -> Sequence[NetworkLayout]:
    """The layouts of the vocoder `16k` or `44k`: weight norm split in two, and merged."""
    with torch.device("meta"):
        split = _layout(Vocoder(OFFICIAL_CODECS[name][1]).generator)
    merged = {
        key.removesuffix("_v") if key.endswith("weight_v") else key: shape
        for key, shape in split.items()
        if not key.endswith("weight_g")
    }
    return [split, merged]


def clip_layouts(variant: str) -> Sequence[NetworkLayout]:
    """The layout of CLIP ViT-H-14-378; there is one, so `variant` is empty."""
    with torch.device("meta"):
        return [_layout(ClipFeatures(ClipConfig()).clip)]
