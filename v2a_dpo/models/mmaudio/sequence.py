"""How long each of MMAudio's sequences is for a duration."""

from __future__ import annotations

import math

#: The autoencoder halves the mel's frame rate.
VAE_REDUCTION = 2


def latent_length(duration_s: float, *, sample_rate: int, hop: int) -> int:
    """Latent steps that cover `duration_s` seconds, rounded up (8 s at 44.1 kHz: 345)."""
    return math.ceil(duration_s * sample_rate / hop / VAE_REDUCTION)


def num_samples(duration_s: float, *, sample_rate: int, hop: int) -> int:
    """Audio samples that so many latent steps decode to: a little more than the duration (8 s at 44.1 kHz: 353280)."""
    return latent_length(duration_s, sample_rate=sample_rate, hop=hop) * hop * VAE_REDUCTION
