"""The keys and shapes of the official files of MMAudio's parts, from the networks themselves without their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from v2a_dpo.models.loading import uninitialised
from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipFeatures
from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS
from v2a_dpo.models.mmaudio.config import VARIANTS
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.vae import MelVAE, MelVAEConfig
from v2a_dpo.models.vocoder import Vocoder

NetworkLayout = dict[str, tuple[int, ...]]


def _layout(build: Callable[[], nn.Module], *, device: str = "meta") -> NetworkLayout:
    with torch.device(device):
        return {key: tuple(value.shape) for key, value in uninitialised(build).state_dict().items()}


def network_layouts(variant: str) -> Sequence[NetworkLayout]:
    """The layout of a velocity network."""
    return [_layout(lambda: MMAudioNetwork(VARIANTS[variant]))]


def autoencoder_layouts(name: str) -> Sequence[NetworkLayout]:
    """The layout of the mel autoencoder `16k` or `44k`."""
    return [_layout(lambda: MelVAE(MelVAEConfig.official(name)))]


def vocoder_layouts(name: str) -> Sequence[NetworkLayout]:
    """The layouts of the vocoder `16k` or `44k`: weight norm split in two, and merged."""
    # For its constants the meta device would import torch's compiler, which takes seconds.
    split = _layout(lambda: Vocoder(OFFICIAL_CODECS[name][1]).generator, device="cpu")
    merged = {
        key.removesuffix("_v") if key.endswith("weight_v") else key: shape
        for key, shape in split.items()
        if not key.endswith("weight_g")
    }
    return [split, merged]


def clip_layouts(variant: str) -> Sequence[NetworkLayout]:
    """The layout of CLIP ViT-H-14-378; there is one, so `variant` is empty."""
    return [_layout(lambda: ClipFeatures(ClipConfig()).clip)]
