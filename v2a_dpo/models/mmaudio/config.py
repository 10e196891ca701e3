"""The sizes of MMAudio's velocity networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from v2a_dpo.errors import UserError

#: Synchformer features come in groups of eight frames, one group per segment.
SYNC_GROUP = 8


@dataclass(frozen=True)
class MMAudioConfig:
    """The sizes of an MMAudio velocity network; everything else follows from them.

    `v2` selects the second generation's input projections and time embedding. `mlp_multiple_of` is what the hidden
    width of every gated feed-forward layer is rounded up to (256 in all official networks).
    """

    latent_channels: int
    hidden_size: int
    num_heads: int
    num_joint_blocks: int
    num_fused_blocks: int
    clip_dim: int = 1024
    sync_dim: int = 768
    text_dim: int = 1024
    text_length: int = 77
    v2: bool = False
    mlp_multiple_of: int = 256

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_heads):
            raise UserError(
                f"hidden_size {self.hidden_size} does not split into {self.num_heads} heads of an even size.",
                where="MMAudioConfig.hidden_size",
                remedy="Choose a multiple of twice num_heads.",
            )
        if self.num_joint_blocks < 1:
            raise UserError(
                "An MMAudio network needs at least one joint block.",
                where="MMAudioConfig.num_joint_blocks",
                remedy="Set it to 1 or more.",
            )

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def mlp_hidden_size(self) -> int:
        """Hidden width of the gated feed-forward layers: two thirds of four times the hidden size, rounded up."""
        return -(-(4 * self.hidden_size * 2 // 3) // self.mlp_multiple_of) * self.mlp_multiple_of

    @property
    def time_frequencies(self) -> int:
        """Entries of the sinusoidal time embedding."""
        return self.hidden_size if self.v2 else 256

    @property
    def longest_time_period(self) -> float:
        """The period P of the time embedding's table: its frequencies run from 10000/P downwards."""
        return 1.0 if self.v2 else 10000.0


_SMALL_16K = MMAudioConfig(latent_channels=20, hidden_size=448, num_heads=7, num_joint_blocks=4, num_fused_blocks=8)
_SMALL_44K = replace(_SMALL_16K, latent_channels=40)
_MEDIUM_44K = replace(_SMALL_44K, hidden_size=896, num_heads=14)
_LARGE_44K = replace(_MEDIUM_44K, num_joint_blocks=7, num_fused_blocks=14)

#: The five released networks by name.
VARIANTS: dict[str, MMAudioConfig] = {
    "small_16k": _SMALL_16K,
    "small_44k": _SMALL_44K,
    "medium_44k": _MEDIUM_44K,
    "large_44k": _LARGE_44K,
    "large_44k_v2": replace(_LARGE_44K, v2=True),
}
