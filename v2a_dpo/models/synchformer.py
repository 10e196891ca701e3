"""Synchformer's visual branch: short video segments to features that follow motion closely (Iashin et al., 2024).

MMAudio takes its output as synchronisation features; the synchronisation score uses the whole of Synchformer.
Letters in tensor names: B batch, S segments, T frames of a segment, G groups, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.models.loading import load_strictly

#: The prefix of the branch's keys in the released file.
VISUAL_PREFIX = "vfeat_extractor."


@dataclass(frozen=True)
class SynchformerVisualConfig:
    """The sizes of the visual branch; the defaults are the released network's."""

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    patch_size: int = 16
    image_size: int = 224
    segment_frames: int = 16
    segment_step: int = 8

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def segment_tokens(self) -> int:
        """Feature rows of a segment: one for two frames."""
        return self.segment_frames // 2

    def num_segments(self, num_frames: int) -> int:
        """Whole segments in a video of `num_frames` frames."""
        return max(0, (num_frames - self.segment_frames) // self.segment_step + 1)


class _DividedAttention(nn.Module):
    """Attention inside groups of tokens: the class token sees all tokens, a patch its own group and the class token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, *, frames: int, over_time: bool) -> Tensor:
        """The attention output for `[class token, frames x patches]`, grouped by patch (`over_time`) or by frame."""
        q, k, v = self.qkv(x_BND).unflatten(-1, (3, self._num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        class_out = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        groups = [_grouped(part[:, :, 1:], frames, over_time) for part in (q, k, v)]
        # Every group gets the class token's key and value in front.
        num_groups = groups[0].shape[2]
        keys, values = (
            torch.cat([part[:, :, None, :1].expand(-1, -1, num_groups, -1, -1), group], dim=3)
            for part, group in zip((k, v), groups[1:], strict=True)
        )
        patch_out = F.scaled_dot_product_attention(groups[0], keys, values)
        if over_time:
            patch_out = patch_out.transpose(2, 3)
        out = torch.cat([class_out, patch_out.flatten(2, 3)], dim=2)
        return self.proj(out.transpose(1, 2).flatten(2))


def _grouped(tokens_BHNK: Tensor, frames: int, over_time: bool) -> Tensor:
    """Patch tokens `[B, H, G, N, K]`: a group holds one frame's patches, or one patch at all times."""
    by_frame = tokens_BHNK.unflatten(2, (frames, -1))
    return by_frame.transpose(2, 3) if over_time else by_frame


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BND)))


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _DividedAttention(width, num_heads)
        self.timeattn = _DividedAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _MLP(width)
        self.norm3 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x_BND: Tensor, *, frames: int) -> Tensor:
        x_BND = x_BND + self.timeattn(self.norm3(x_BND), frames=frames, over_time=True)
        x_BND = x_BND + self.attn(self.norm1(x_BND), frames=frames, over_time=False)
        return x_BND + self.mlp(self.norm2(x_BND))


class _PatchEmbed2d(nn.Module):
    """The released file's image embedding; unused."""

    def __init__(self, config: SynchformerVisualConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)


class _PatchEmbed3d(nn.Module):
    def __init__(self, config: SynchformerVisualConfig) -> None:
        super().__init__()
        tubelet = (2, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.width, tubelet, tubelet)

    def forward(self, frames_BCTHW: Tensor) -> Tensor:
        """The tokens `[B, time x rows x columns, D]` in this order."""
        return self.proj(frames_BCTHW).flatten(2).transpose(1, 2)


class AggregationLayer(nn.TransformerEncoderLayer):
    """A pre-norm transformer layer that pools `[B, N, D]` into `[B, D]`: the row of its own class token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(
            width,
            num_heads,
            4 * width,
            dropout=0.0,
            activation=F.gelu,
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def pool(self, x_BND: Tensor) -> Tensor:
        """The pooled rows."""
        tokens = torch.cat([self.cls_token.expand(x_BND.shape[0], -1, -1), x_BND], dim=1)
        return self(tokens)[:, 0]


class SynchformerVisual(nn.Module):
    """The visual branch: each segment of 16 frames becomes 8 rows of features, independently of all others."""

    def __init__(self, config: SynchformerVisualConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.patches + 1, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, config.segment_tokens, width))
        self.patch_embed = _PatchEmbed2d(config)
        self.patch_embed_3d = _PatchEmbed3d(config)
        self.blocks = nn.ModuleList(_Block(width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.spatial_attn_agg = AggregationLayer(width, config.num_heads)

    def load_checkpoint(self, state: Mapping[str, Tensor]) -> None:
        """Loads the visual keys (`vfeat_extractor.`) of a released file strictly and ignores the other branches.

        Raises `UserError` naming the keys or shapes that differ.
        """
        visual = {key[len(VISUAL_PREFIX) :]: value for key, value in state.items() if key.startswith(VISUAL_PREFIX)}
        load_strictly(self, visual, "visual branch", remedy="Take synchformer_state_dict.pth of the MMAudio release.")

    def tokens(self, segments_BTCHW: Tensor) -> Tensor:
        """The transformer's output `[B, 1 + time x patches, D]` for segments, class token first, before the last
        norm."""
        patches = self.patch_embed_3d(segments_BTCHW.transpose(1, 2))
        positions = self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(patches.shape[0], -1, -1)
        x_BND = torch.cat([class_token, patches + positions.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x_BND = block(x_BND, frames=self.config.segment_tokens)
        return x_BND

    def forward(self, segments_BSTCHW: Tensor) -> Tensor:
        """The features `[B, S, T/2, D]` of segments of frames in [-1, 1]."""
        batch, num_segments = segments_BSTCHW.shape[:2]
        x_BND = self.norm(self.tokens(segments_BSTCHW.flatten(0, 1))[:, 1:])
        by_frame = x_BND.unflatten(1, (self.config.segment_tokens, -1)).flatten(0, 1)
        return self.spatial_attn_agg.pool(by_frame).reshape(batch, num_segments, self.config.segment_tokens, -1)

    def segments(self, frames_BTCHW: Tensor) -> Tensor:
        """The overlapping segments `[B, S, T, 3, H, W]` of whole videos, as a view."""
        return frames_BTCHW.unfold(1, self.config.segment_frames, self.config.segment_step).movedim(-1, 2)

    def video_features(self, frames_BTCHW: Tensor) -> Tensor:
        """The features `[B, S * T/2, D]` of whole videos in [-1, 1]: segment after segment."""
        return self(self.segments(frames_BTCHW)).flatten(1, 2)
