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
    """Latents `[2B, L, C]`, winners first, with what winner and loser of a pair share: conditions, time `[B]`, noise
    `[B, L, C]`."""

    latents: Tensor
    conditions: Conditions
    t: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """The batch on `device`."""
        return PairBatch(self.latents.to(device), self.conditions.to(device), self.t.to(device), self.noise.to(device))


def pair_errors(model: VideoToAudioModel, batch: PairBatch, *, precision: str) -> Tensor:
    """The velocity errors `[2B]` of `model` at the batch's noisy points, winners first, in one forward pass.

    With `precision` bfloat16 the network runs under autocast on its float32 weights; no gradient scaler is needed (it
    made MMAudio's large model diverge upstream). The errors are float32 either way.
    """
    noise, t_2B = torch.cat([batch.noise, batch.noise]), torch.cat([batch.t, batch.t])
    noisy = interpolate(batch.latents, noise, t_2B)
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        embedded = model.embed(batch.conditions)
        predicted = model.velocity(noisy, t_2B, Conditions.concatenate([embedded, embedded]))
    return velocity_errors(predicted, velocity_target(batch.latents, noise))


class PairErrors(nn.Module):
    """`pair_errors` of one model as a module, whose parameters are those of the model's network."""

    def __init__(self, model: VideoToAudioModel, *, precision: str) -> None:
        super().__init__()
        self.network = model.network
        self._model = model
        self._precision = precision

    def forward(self, batch: PairBatch) -> Tensor:
        """The velocity errors `[2B]` at the batch's noisy points, winners first."""
        return pair_errors(self._model, batch, precision=self._precision)
