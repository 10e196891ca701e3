"""Candidates of one batch of clips: noise, Euler steps with guidance, and the codec.

All candidates of all clips and both guidance branches go through the network in one forward pass. Constants are
computed once: a clip's embedded conditions for its N candidates, the empty ones for all null branches of the batch.
Rows of conditions are not copied: every latent has the index of its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from v2a_dpo.flow import guided, is_guided, sample_euler
from v2a_dpo.models.base import Conditions, VideoToAudioModel
from v2a_dpo.models.precision import autocast
from v2a_dpo.randomness import row_noise

#: Latent steps decoded at once on a CPU: one candidate of MMAudio's 8 s, where more would only take memory,
#: five of 2 s.
_DECODED_STEPS = 320


@dataclass(frozen=True)
class SamplingSettings:
    """How candidates are drawn: N candidates per clip, Euler `steps`, `guidance_scale`, and the root `seed` of their
    noise.

    Without `use_text` every clip is sampled as if it had no prompt.
    """

    candidates: int
    steps: int
    guidance_scale: float
    seed: int
    use_text: bool = True


class CandidateSampler:
    """Draws candidates of clips of `duration_s` seconds from one model.

    `precision` is that of matrix products and convolutions (`model.prepare_for_sampling` saves them work); latents
    stay float32 between the steps. `compile_backend` names a torch.compile backend, of which `inductor` replays each
    step as one CUDA graph where there is a GPU; None runs operation by operation.
    """

    def __init__(
        self,
        model: VideoToAudioModel,
        settings: SamplingSettings,
        *,
        duration_s: float,
        precision: torch.dtype = torch.float32,
        compile_backend: str | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.duration_s = duration_s
        self.latent_shape = model.latent_shape(duration_s)
        self.device = next(model.network.parameters()).device
        self.precision = precision
        self.has_fixed_shapes = compile_backend is not None
        self._velocity, self._decode = self._velocity_of_rows, model.decode
        if compile_backend is not None:
            graphs = compile_backend == "inductor" and self.device.type == "cuda"
            model.part("decoding")  # read now: the compiler would follow the reading of its weights
            options: dict[str, Any] = {"backend": compile_backend, "dynamic": False}
            mode = "reduce-overhead" if graphs else None
            self._velocity = torch.compile(self._velocity, fullgraph=True, mode=mode, **options)
            self._decode = torch.compile(self._decode, **options)
        with torch.inference_mode(), autocast(self.device, precision):
            self._empty = model.embed(model.empty_conditions(duration_s).to(self.device))

    def noise(self, clip_ids: Sequence[str]) -> Tensor:
        """The initial noise `[B * N, L, C]`; a row's depends on the seed, its clip and its sample, not on the batch."""
        rows = [
            row_noise(self.latent_shape, self.settings.seed, clip_id, sample)
            for clip_id in clip_ids
            for sample in range(self.settings.candidates)
        ]
        return torch.stack(rows)

    @torch.inference_mode()
    def latents(self, clip_ids: Sequence[str], conditions: Conditions, *, batch_size: int = 0) -> Tensor:
        """Latents `[B, N, L, C]`, on the device, of N candidates for each of B clips with raw `conditions`.

        A compiled sampler pads batches of fewer than `batch_size` clips with copies of the last one and drops their
        results: a new shape, though smaller, would be compiled anew.
        """
        batch, count = len(clip_ids), self.settings.candidates
        if self.has_fixed_shapes and batch < batch_size:
            clip_ids = [*clip_ids, *[clip_ids[-1]] * (batch_size - batch)]
            conditions = conditions.rows(torch.arange(batch_size).clamp(max=batch - 1))
        clips = len(clip_ids)
        condition_index = torch.arange(clips).repeat_interleave(count)
        if is_guided(self.settings.guidance_scale):
            condition_index = torch.cat([condition_index, torch.full_like(condition_index, clips)])
        condition_index = self._on_device(condition_index)
        on_device = Conditions({name: self._on_device(tensor) for name, tensor in conditions.tensors.items()})
        if not self.settings.use_text:
            on_device = self.model.without_text(on_device)
        with autocast(self.device, self.precision):
            rows = Conditions.concatenate([self.model.embed(on_device), self._empty])

            def velocity_of_both(latents: Tensor, t: Tensor) -> Tensor:
                # All rows have the same time: one per row of conditions is enough.
                return self._velocity(latents, t[:1].expand(clips + 1), rows.tensors, condition_index).float()

            velocity = guided(velocity_of_both, self.settings.guidance_scale)
            drawn = sample_euler(velocity, self._on_device(self.noise(clip_ids)), steps=self.settings.steps)
        return drawn.unflatten(0, (clips, count))[:batch]

    @torch.inference_mode()
    def audio(self, latents_BNLC: Tensor) -> Tensor:
        """Audio `[B, N, S]` in [-1, 1] in float32, on the device.

        A GPU decodes the candidates of a clip together, a CPU as many of them as have `_DECODED_STEPS` steps, at least
        one.
        """
        count, length = latents_BNLC.shape[1:3]
        together = count if self.device.type == "cuda" else max(1, _DECODED_STEPS // length)
        with autocast(self.device, self.precision):
            return torch.stack([torch.cat(self._decoded(clip.split(together))) for clip in latents_BNLC])

    def _decoded(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        return [self._decode(latents.to(self.device)).float() for latents in pieces]

    def _velocity_of_rows(
        self, latents: Tensor, t_U: Tensor, embedded: Mapping[str, Tensor], condition_index_B: Tensor
    ) -> Tensor:
        return self.model.velocity(latents, t_U, Conditions(embedded), condition_index_B=condition_index_B)

    def _on_device(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; a copy to a GPU runs beside the host's work."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)
