"""A batch of pair visits, and the velocity errors of a model on it.

Letters in tensor names: B pairs of a batch, L latent length, C latent channels; `2B` is `[winners; losers]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from v2a_dpo.alignment.losses import velocity_errors
from v2a_dpo.flow import interpolate, velocity_target
from v2a_dpo.models.base import Conditions, VideoToAudioModel


@dataclass(frozen=True)
class PairBatch:
    """Latents `[2B, L, C]`, winners first; each pair shares conditions, time `[B]` and noise `[B, L, C]`."""

    latents: Tensor
    conditions: Conditions
    t: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """The batch on `device`."""
        return PairBatch(self.latents.to(device), self.conditions.to(device), self.t.to(device), self.noise.to(device))


class PairErrors(nn.Module):
    """The velocity errors of one model as a module, whose parameters are those of the model's network.

    With `precision` bfloat16 the network runs under autocast on its float32 weights; no gradient scaler is needed (it
    made MMAudio's large model diverge upstream).
    """

    def __init__(self, model: VideoToAudioModel, *, precision: str) -> None:
        super().__init__()
        self.network = model.network
        self._model = model
        self._precision = precision

    def forward(self, batch: PairBatch) -> Tensor:
        """The errors `[2B]` at the batch's noisy points, float32, winners first, in one forward pass."""
        noise, t_2B = torch.cat([batch.noise, batch.noise]), torch.cat([batch.t, batch.t])
        noisy = interpolate(batch.latents, noise, t_2B)
        with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=self._precision == "bfloat16"):
            embedded = self._model.embed(batch.conditions)
            predicted = self._model.velocity(noisy, t_2B, Conditions.concatenate([embedded, embedded]))
        return velocity_errors(predicted, velocity_target(batch.latents, noise))
