"""MMAudio behind the generators' common interface: encoders, velocity network and codec, in the paper's time.

The official model and the tiny profile's are this class with different parts.
Letters in tensor names: B batch, U distinct conditions, L latent length, C latent channels, S audio samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.models.base import Conditions, Use, VideoToAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import Sequences
from v2a_dpo.models.mmaudio.winograd import use_winograd
from v2a_dpo.models.precision import round_weights


class ConditionEncoders(Protocol):
    """The frozen networks that turn frames and words into raw features."""

    def video(self, frames: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """CLIP-like features `[B, T, clip_dim]` and synchronisation features `[B, T, sync_dim]` of uint8 frames."""

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text features `[B, text_length, text_dim]` of prompts that are not empty."""


class LatentCodec(Protocol):
    """The frozen map from audio to unnormalised latents and back."""

    def encode(self, audio_BS: Tensor) -> Tensor:
        """Unnormalised latents `[B, L, C]` of audio in [-1, 1]."""

    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Audio `[B, S]` in [-1, 1] of unnormalised latents."""


def velocity_in_paper_time(
    network: MMAudioNetwork,
    latents_BLC: Tensor,
    t_U: Tensor,
    embedded: Mapping[str, Tensor],
    *,
    condition_index_B: Tensor | None = None,
) -> Tensor:
    """The velocity `eps - a_0` at paper time `t_U`: upstream's velocity at 1 - t with its sign turned.

    The second generation's time embedding distinguishes times that differ in the last bit, so use float64 times.
    """
    tau_U = (1.0 - t_U).float()
    return -network.predict_velocity(latents_BLC, tau_U, embedded, condition_index_B=condition_index_B)


class MMAudioModel(VideoToAudioModel):
    """An MMAudio generator. The only place where upstream's time (0 noise, 1 data) meets the paper's.

    `load_encoders` and `load_codec` are called when conditions, or latents of audio, are first asked for: most programs
    need neither or only one.
    """

    network: MMAudioNetwork
    #: The family that `config.json` names, for the catalog.
    family = "mmaudio"

    def __init__(
        self,
        network: MMAudioNetwork,
        sequences: Sequences,
        *,
        load_encoders: Callable[[], ConditionEncoders],
        load_codec: Callable[[], LatentCodec],
        frozen_files: Mapping[Use, Mapping[str, Path]] | None = None,
    ) -> None:
        self.network = network
        self._sequences = sequences
        self._load_encoders = load_encoders
        self._load_codec = load_codec
        self._frozen_files = frozen_files or {}
        self.sample_rate = sequences.sample_rate
        self.frame_streams = sequences.frame_streams

    @cached_property
    def encoders(self) -> ConditionEncoders:
        """The frozen condition encoders."""
        return self._load_encoders()

    @cached_property
    def codec(self) -> LatentCodec:
        """The frozen latent codec."""
        return self._load_codec()

    def latent_shape(self, duration_s: float) -> tuple[int, int]:
        """Latent length L and channels C of an audio of `duration_s` seconds."""
        return self._sequences.latent_length(duration_s), self.network.config.latent_channels

    def num_samples(self, duration_s: float) -> int:
        """Audio samples S that `decode` returns for `duration_s` seconds."""
        return self._sequences.num_samples(duration_s)

    @torch.no_grad()
    def extract_conditions(self, frames: Mapping[str, Tensor], prompts: Sequence[str | None]) -> Conditions:
        """Raw conditions `clip`, `sync` and `text` of B clips by the frozen encoders.

        A prompt of None or "" takes the features of the empty string that the network carries.
        """
        clip, sync = self.encoders.video(frames)
        text = self._empty_text(len(prompts)).to(clip.dtype).clone()
        written = [row for row, prompt in enumerate(prompts) if prompt]
        if written:
            text[written] = self.encoders.text([prompt for prompt in prompts if prompt]).to(text)
        return Conditions({"clip": clip, "sync": sync, "text": text})

    def empty_conditions(self, duration_s: float) -> Conditions:
        """The raw conditions of one row (B = 1) that stand for no video and no text; gradients flow into the null."""
        return Conditions(self.network.empty_conditions(*self._sequences.feature_lengths(duration_s)))

    @torch.no_grad()
    def without_text(self, conditions: Conditions) -> Conditions:
        """The conditions with the features of the empty string that the network carries as `text`; the video stays."""
        text = conditions.tensors["text"]
        return Conditions({**conditions.tensors, "text": self._empty_text(conditions.batch).to(text)})

    def _empty_text(self, batch: int) -> Tensor:
        return self.network.empty_string_feat.expand(batch, -1, -1)

    def embed(self, conditions: Conditions) -> Conditions:
        """The network's own embedding of raw conditions; differentiable, independent of time and noise."""
        raw = conditions.tensors
        return Conditions(self.network.embed_conditions(raw["clip"], raw["sync"], raw["text"]))

    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, embedded: Conditions, *, condition_index_B: Tensor | None = None
    ) -> Tensor:
        """The velocity `eps - a_0` predicted at paper time `t_B` in [0, 1], same shape as `latents_BLC`.

        With `condition_index_B` the time and the conditions have U rows, and latent i takes row `condition_index_B[i]`.
        """
        return velocity_in_paper_time(
            self.network, latents_BLC, t_B, embedded.tensors, condition_index_B=condition_index_B
        )

    @torch.no_grad()
    def encode(self, audio_BS: Tensor) -> Tensor:
        """Normalised latents `[B, L, C]` of mono audio in [-1, 1] at `sample_rate`."""
        return self.network.normalize(self.codec.encode(audio_BS))

    @torch.no_grad()
    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Mono audio `[B, S]` in [-1, 1] at `sample_rate` of normalised latents."""
        return self.codec.decode(self.network.unnormalize(latents_BLC))

    def save(self, folder: Path) -> None:
        """Writes the network: its sizes to `config.json`, its weights to `model.safetensors`.

        The frozen encoders and the codec come from the official files and are not copied.
        """
        config = {"family": self.family, "sample_rate": self.sample_rate, "network": asdict(self.network.config)}
        write_json(folder / "config.json", config)
        state = {key: value.detach().cpu().contiguous() for key, value in self.network.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"))

    def prepare_for_sampling(self, dtype: torch.dtype) -> None:
        """Rounds the weights to `dtype` and, on a CPU, computes convolutions of kernel 3 with fewer multiplications."""
        if next(self.network.parameters()).device.type == "cpu":
            use_winograd(self.network, dtype)
        if dtype is not torch.float32:
            round_weights(self.network, dtype)

    def part(self, use: Use) -> object:
        """The encoders, the network or the codec."""
        part: object = getattr(self, {"conditions": "encoders", "velocity": "network", "decoding": "codec"}[use])
        return part

    def frozen_files(self, use: Use) -> Mapping[str, Path]:
        """Files with frozen weights of that part which are not in the model folder."""
        return self._frozen_files.get(use, {})
