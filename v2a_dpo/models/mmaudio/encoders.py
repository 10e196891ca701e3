"""MMAudio's frozen condition encoders: CLIP for pictures and words, Synchformer for motion.

Letters in tensor names: B batch, T frames or feature rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipFeatures, tokenize
from v2a_dpo.models.mmaudio.sequence import CLIP_STREAM, SYNC_STREAM
from v2a_dpo.models.synchformer import SynchformerVisual, SynchformerVisualConfig


class MMAudioEncoders(nn.Module):
    """The released encoders; give `clip` and `sync` their weights by their `load_checkpoint`.

    `frames_per_pass` and `segments_per_pass` bound the memory of one forward pass.
    """

    def __init__(
        self,
        clip: ClipConfig | None = None,
        sync: SynchformerVisualConfig | None = None,
        *,
        frames_per_pass: int = 64,
        segments_per_pass: int = 24,
    ) -> None:
        super().__init__()
        self.clip = ClipFeatures(clip or ClipConfig())
        self.sync = SynchformerVisual(sync or SynchformerVisualConfig())
        self._frames_per_pass = frames_per_pass
        self._segments_per_pass = segments_per_pass
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def video(self, frames: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """CLIP features `[B, T, 1024]` and Synchformer features `[B, T, 768]` of uint8 frames."""
        return self._clip_features(frames[CLIP_STREAM.name]), self._sync_features(frames[SYNC_STREAM.name])

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text features `[B, 77, 1024]`."""
        tokens = tokenize(prompts, context_length=self.clip.config.text.context_length)
        return self.clip.text(tokens.to(self.clip.image_mean.device))

    def _clip_features(self, frames_BTCHW: Tensor) -> Tensor:
        rows = frames_BTCHW.flatten(0, 1).split(self._frames_per_pass)
        features = [self.clip.frames(part[None].to(self.clip.image_mean.device) / 255.0)[0] for part in rows]
        return torch.cat(features).unflatten(0, frames_BTCHW.shape[:2])

    def _sync_features(self, frames_BTCHW: Tensor) -> Tensor:
        weight = self.sync.cls_token
        segments = self.sync.segments(frames_BTCHW)
        parts = segments.flatten(0, 1).split(self._segments_per_pass)
        pixels = (part[None].to(weight.device) / 255.0 for part in parts)
        features = [self.sync(((part - 0.5) / 0.5).to(weight.dtype))[0] for part in pixels]
        return torch.cat(features).unflatten(0, segments.shape[:2]).flatten(1, 2)
