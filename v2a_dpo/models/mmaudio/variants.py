"""The five released MMAudio networks by name."""

from __future__ import annotations

from dataclasses import replace

from v2a_dpo.models.mmaudio.config import MMAudioConfig

_SMALL_16K = MMAudioConfig(latent_channels=20, hidden_size=448, num_heads=7, num_joint_blocks=4, num_fused_blocks=8)
_SMALL_44K = replace(_SMALL_16K, latent_channels=40)
_MEDIUM_44K = replace(_SMALL_44K, hidden_size=896, num_heads=14)
_LARGE_44K = replace(_MEDIUM_44K, num_joint_blocks=7, num_fused_blocks=14)

VARIANTS: dict[str, MMAudioConfig] = {
    "small_16k": _SMALL_16K,
    "small_44k": _SMALL_44K,
    "medium_44k": _MEDIUM_44K,
    "large_44k": _LARGE_44K,
    "large_44k_v2": replace(_LARGE_44K, v2=True),
}
