"""The generation engine: conditions of clips in, N candidates a clip out.

All candidates of a batch of clips and both guidance branches go through the network in one forward pass. What does not
change is computed once: a clip's embedded conditions once for its N candidates and all steps, the empty ones once a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from v2a_dpo.flow import guided, is_guided, sample_euler
from v2a_dpo.models.base import Conditions, VideoToAudioModel
from v2a_dpo.randomness import row_noise


@dataclass(frozen=True)
class SamplingSettings:
    """How candidates are drawn: N candidates a clip, Euler `steps`, `guidance_scale`, and the root `seed` of their noise."""

    candidates: int
    steps: int
    guidance_scale: float
    seed: int


class CandidateSampler:
    """Draws candidates of clips of `duration_s` seconds from one model."""

    def __init__(self, model: VideoToAudioModel, settings: SamplingSettings, *, duration_s: float) -> None:
        self.model = model
        self.settings = settings
        self.latent_shape = model.latent_shape(duration_s)
        self.device = next(model.network.parameters()).device
        with torch.inference_mode():
            self._empty = model.embed(model.empty_conditions(duration_s).to(self.device))

    def noise(self, clip_ids: Sequence[str]) -> Tensor:
        """The initial noise `[B * N, L, C]`: each row's own, whatever the batch (design: random numbers belong to rows)."""
        rows = [
            row_noise(self.latent_shape, self.settings.seed, clip_id, sample)
            for clip_id in clip_ids
            for sample in range(self.settings.candidates)
        ]
        return torch.stack(rows)

    @torch.inference_mode()
    def latents(self, clip_ids: Sequence[str], conditions: Conditions) -> Tensor:
        """Latents `[B, N, L, C]` of N candidates for each of B clips with raw `conditions`."""
        batch, count = len(clip_ids), self.settings.candidates
        embedded = self.model.embed(conditions.to(self.device)).repeat(count)
        if is_guided(self.settings.guidance_scale):
            embedded = Conditions.concatenate([embedded, self._empty.expand(batch * count)])

        def velocity_of_both(latents: Tensor, t: Tensor) -> Tensor:
            return self.model.velocity(latents, t, embedded)

        velocity = guided(velocity_of_both, self.settings.guidance_scale)
        drawn = sample_euler(velocity, self.noise(clip_ids).to(self.device), steps=self.settings.steps)
        return drawn.unflatten(0, (batch, count))

    @torch.inference_mode()
    def audio(self, latents_BNLC: Tensor) -> Tensor:
        """Audio `[B, N, S]` in [-1, 1] on the CPU, float32."""
        batch = latents_BNLC.shape[0]
        decoded = self.model.decode(latents_BNLC.flatten(0, 1).to(self.device))
        return decoded.float().cpu().unflatten(0, (batch, -1))
