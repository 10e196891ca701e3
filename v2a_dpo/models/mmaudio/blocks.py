"""The building pieces of MMAudio's transformer, with the official parameter names.

Letters in tensor names: B batch, N tokens of one stream, D hidden size, H heads, K head size, U distinct conditions,
R distinct condition rows of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.models.mmaudio.config import MMAudioConfig
from v2a_dpo.models.mmaudio.embeddings import rotate


class TimeConv1d(nn.Conv1d):
    """A convolution along the tokens of `[B, N, channels]` that keeps their number (odd kernel, zero padding)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)

    def forward(self, x_BND: Tensor) -> Tensor:
        """The convolved sequence `[B, N, out_channels]`."""
        return super().forward(x_BND.transpose(1, 2)).transpose(1, 2)


def token_map(in_channels: int, out_channels: int, kernel_size: int | None, *, bias: bool = True) -> nn.Module:
    """A linear map of single tokens, or with a `kernel_size` a convolution along time."""
    if kernel_size is None:
        return nn.Linear(in_channels, out_channels, bias=bias)
    return TimeConv1d(in_channels, out_channels, kernel_size, bias=bias)


class GatedMLP(nn.Module):
    """A feed-forward layer `w2(silu(w1 x) * w3 x)`, on single tokens or, with a `kernel_size`, along time."""

    def __init__(self, config: MMAudioConfig, kernel_size: int | None = None) -> None:
        super().__init__()
        self.w1 = token_map(config.hidden_size, config.mlp_hidden_size, kernel_size, bias=False)
        self.w2 = token_map(config.mlp_hidden_size, config.hidden_size, kernel_size, bias=False)
        self.w3 = token_map(config.hidden_size, config.mlp_hidden_size, kernel_size, bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """The transformed sequence, same shape."""
        return self.w2(F.silu(self.w1(x_BND)) * self.w3(x_BND))


def modulate(x_BND: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x` in layer norm without learned parameters, scaled by 1 + `scale` and moved by `shift`."""
    return F.layer_norm(x_BND, x_BND.shape[-1:], eps=1e-5) * (1 + scale) + shift


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm over the channels of a head, computed and returned in float32."""

    def __init__(self, head_size: int) -> None:
        # The epsilon that torch takes when none is given, made independent of the input's type.
        super().__init__(head_size, eps=torch.finfo(torch.float32).eps)

    def forward(self, x_BHNK: Tensor) -> Tensor:
        """The normalised heads."""
        return F.rms_norm(x_BHNK.float(), self.normalized_shape, self.weight.float(), self.eps)


class Attention(nn.Module):
    """The input side of an attention layer: projections, norms and positions. Attention itself has no output map."""

    def __init__(self, config: MMAudioConfig) -> None:
        super().__init__()
        self._num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.q_norm = HeadNorm(config.head_size)
        self.k_norm = HeadNorm(config.head_size)

    def project(self, x_BND: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[B, H, N, K]`; queries and keys turned by the rotary `table` if there is one."""
        # The official weights order the outputs (head, channel, {q, k, v}) with the last one fastest.
        q, k, v = self.qkv(x_BND).unflatten(-1, (self._num_heads, -1, 3)).permute(4, 0, 2, 1, 3).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        # Fused attention kernels want channels side by side in memory.
        return q.to(v.dtype), k.to(v.dtype), v.contiguous()


def attend(q_BHNK: Tensor, k_BHNK: Tensor, v_BHNK: Tensor) -> Tensor:
    """The attention output `[B, N, D]` with the heads side by side; no mask."""
    return F.scaled_dot_product_attention(q_BHNK, k_BHNK, v_BHNK).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class RowIndex:
    """The condition row of each token: `condition_index` `[B]` selects the condition, `tokens` `[N]` the row inside it.

    None stands for the identity. Modulations are computed on distinct rows and gathered afterwards, which is exact:
    Synchformer's rows are fewer than the latent steps, and all candidates of a clip share them.
    """

    condition_index: Tensor | None
    tokens: Tensor | None

    def gather(self, rows_UR: Tensor) -> Tensor:
        """The rows `[B, N, ...]` of all tokens; without `tokens` R stays as it is."""
        if self.tokens is not None:
            rows_UR = rows_UR.index_select(1, self.tokens)
        return rows_UR if self.condition_index is None else rows_UR.index_select(0, self.condition_index)

    def whole(self) -> RowIndex:
        """The same conditions, for rows that belong to a clip as a whole."""
        return RowIndex(self.condition_index, None)


class StreamBlock(nn.Module):
    """One stream's half of a transformer block: everything but the attention that may be shared with other streams.

    A `pre_only` stream gives its keys, values and queries and ends there. `kernel_size` None means token-wise layers.
    """

    def __init__(self, config: MMAudioConfig, *, kernel_size: int | None, pre_only: bool = False) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.pre_only = pre_only
        num_chunks = 2 if pre_only else 6
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden_size, num_chunks * config.hidden_size))
        self._num_chunks = num_chunks
        if pre_only:
            return
        self.linear1 = token_map(config.hidden_size, config.hidden_size, kernel_size)
        self.ffn = GatedMLP(config, kernel_size)

    def modulation(self, condition_URD: Tensor, row_index: RowIndex) -> tuple[Tensor, ...]:
        """Shift, scale (and gate, then the same for the feed-forward layer) for every token."""
        return row_index.gather(self.adaLN_modulation(condition_URD)).chunk(self._num_chunks, dim=-1)

    def before_attention(
        self, x_BND: Tensor, modulation: tuple[Tensor, ...], table: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the modulated stream."""
        return self.attn.project(modulate(x_BND, modulation[0], modulation[1]), table)

    def after_attention(self, x_BND: Tensor, attended_BND: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """The stream after its attention output and its feed-forward layer were added."""
        _, _, gate_attention, shift, scale, gate = modulation
        x_BND = x_BND + self.linear1(attended_BND) * gate_attention
        return x_BND + self.ffn(modulate(x_BND, shift, scale)) * gate


class FusedBlock(StreamBlock):
    """A transformer block of the latent stream alone."""

    def __init__(self, config: MMAudioConfig) -> None:
        super().__init__(config, kernel_size=3)

    def forward(self, x_BND: Tensor, condition_URD: Tensor, row_index: RowIndex, table: Tensor) -> Tensor:
        """The latent stream after self-attention and feed-forward layer."""
        modulation = self.modulation(condition_URD, row_index)
        return self.after_attention(x_BND, attend(*self.before_attention(x_BND, modulation, table)), modulation)


class JointBlock(nn.Module):
    """A transformer block in which the latent, CLIP and text streams attend to each other."""

    def __init__(self, config: MMAudioConfig, *, last: bool) -> None:
        super().__init__()
        self.latent_block = StreamBlock(config, kernel_size=3)
        self.clip_block = StreamBlock(config, kernel_size=3, pre_only=last)
        self.text_block = StreamBlock(config, kernel_size=None, pre_only=last)

    def forward(
        self,
        latent: Tensor,
        clip: Tensor,
        text: Tensor,
        *,
        global_condition: Tensor,
        condition_URD: Tensor,
        row_index: RowIndex,
        latent_table: Tensor,
        clip_table: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three streams after the block; CLIP and text come back unchanged from the last block, where they end."""
        latent_modulation = self.latent_block.modulation(condition_URD, row_index)
        clip_modulation = self.clip_block.modulation(global_condition, row_index.whole())
        text_modulation = self.text_block.modulation(global_condition, row_index.whole())
        streams = (
            self.latent_block.before_attention(latent, latent_modulation, latent_table),
            self.clip_block.before_attention(clip, clip_modulation, clip_table),
            self.text_block.before_attention(text, text_modulation, None),
        )
        q, k, v = (torch.cat(parts, dim=2) for parts in zip(*streams, strict=True))
        lengths = [latent.shape[1], clip.shape[1], text.shape[1]]
        if self.clip_block.pre_only:
            attended = attend(q[:, :, : lengths[0]], k, v)
            return self.latent_block.after_attention(latent, attended, latent_modulation), clip, text
        attended_latent, attended_clip, attended_text = attend(q, k, v).split(lengths, dim=1)
        return (
            self.latent_block.after_attention(latent, attended_latent, latent_modulation),
            self.clip_block.after_attention(clip, attended_clip, clip_modulation),
            self.text_block.after_attention(text, attended_text, text_modulation),
        )


class FinalLayer(nn.Module):
    """Turns the latent stream into a velocity."""

    def __init__(self, config: MMAudioConfig) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden_size, 2 * config.hidden_size))
        self.conv = TimeConv1d(config.hidden_size, config.latent_channels, 7)

    def forward(self, latent_BND: Tensor, global_condition: Tensor, row_index: RowIndex) -> Tensor:
        """The velocity `[B, N, latent_channels]`."""
        shift, scale = row_index.gather(self.adaLN_modulation(global_condition)).chunk(2, dim=-1)
        return self.conv(modulate(latent_BND, shift, scale))
