"""The interface every video-to-audio generator offers; sampling and Flow-DPO are written once against it.

Letters in tensor names: B rows of a batch, L latent length, C latent channels, S audio samples.
Time runs as in the paper: `a_t = (1 - t) a_0 + t eps`, t = 0 is data, t = 1 is noise, velocity target `eps - a_0`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from v2a_dpo.artifacts.code import CodeRoot
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.media.video import FrameStream


@dataclass(frozen=True)
class Conditions:
    """Named condition tensors, each `[B, ...]`, of a batch of clips.

    Raw conditions come from frozen encoders and are cached on disk; embedded conditions are the
    trainable network's projections of them, independent of time and noise: once per sampling. This class holds either.
    """

    tensors: Mapping[str, Tensor]

    @property
    def batch(self) -> int:
        """The number of rows."""
        return next(iter(self.tensors.values())).shape[0]

    def rows(self, index: slice | Tensor) -> Conditions:
        """The rows that `index` selects."""
        return Conditions({name: tensor[index] for name, tensor in self.tensors.items()})

    def repeat(self, times: int) -> Conditions:
        """Every row `times` times: c0 c0 c0 c1 c1 c1 (the candidates of a clip are neighbours)."""
        return Conditions({name: tensor.repeat_interleave(times, dim=0) for name, tensor in self.tensors.items()})

    def expand(self, batch: int) -> Conditions:
        """A single row `batch` times, without a copy."""
        return Conditions({name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in self.tensors.items()})

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Conditions:
        """The same conditions on another device and, if given, in another floating-point type."""
        return Conditions({name: tensor.to(device=device, dtype=dtype) for name, tensor in self.tensors.items()})

    @staticmethod
    def concatenate(parts: Sequence[Conditions]) -> Conditions:
        """The rows of all `parts`, one after the other."""
        names = parts[0].tensors.keys()
        return Conditions({name: torch.cat([part.tensors[name] for part in parts]) for name in names})


#: What a stage uses a generator for: raw conditions of clips, its velocity, audio from latents.
Use = Literal["conditions", "velocity", "decoding"]
_MEMBERS: dict[Use, tuple[str, ...]] = {
    "conditions": ("extract_conditions",),
    "velocity": ("latent_shape", "empty_conditions", "without_text", "embed", "velocity", "prepare_for_sampling"),
    "decoding": ("num_samples", "decode"),
}


class VideoToAudioModel(ABC):
    """A flow-matching video-to-audio generator: frozen encoders, a trainable `network`, and a frozen latent codec."""

    #: The trainable velocity network; what Flow-DPO optimises and checkpoints hold.
    network: nn.Module
    sample_rate: int
    frame_streams: tuple[FrameStream, ...]

    @abstractmethod
    def latent_shape(self, duration_s: float) -> tuple[int, int]:
        """Latent length L and channels C of an audio of `duration_s` seconds."""

    @abstractmethod
    def num_samples(self, duration_s: float) -> int:
        """Audio samples S that `decode` returns for `duration_s` seconds."""

    @abstractmethod
    def extract_conditions(self, frames: Mapping[str, Tensor], prompts: Sequence[str | None]) -> Conditions:
        """Raw conditions of B clips by the frozen encoders.

        `frames` maps each stream's name to uint8 `[B, T, 3, height, width]`; a prompt of None or "" means no text.
        """

    @abstractmethod
    def empty_conditions(self, duration_s: float) -> Conditions:
        """The raw conditions of one row (B = 1) that stand for no video and no text."""

    @abstractmethod
    def without_text(self, conditions: Conditions) -> Conditions:
        """Raw conditions with every row's text replaced by the model's own empty text; the video stays."""

    @abstractmethod
    def embed(self, conditions: Conditions) -> Conditions:
        """The network's own embedding of raw conditions; differentiable, independent of time and noise."""

    @abstractmethod
    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, embedded: Conditions, *, condition_index_B: Tensor | None = None
    ) -> Tensor:
        """The velocity `eps - a_0` predicted at paper time `t_B` in [0, 1], same shape as `latents_BLC`.

        With `condition_index_B` (int64) time and conditions have U rows, and latent i takes row `condition_index_B[i]`:
        the candidates of a clip share its row, and all null branches of a batch share one.
        """

    @abstractmethod
    def encode(self, audio_BS: Tensor) -> Tensor:
        """Normalised latents `[B, L, C]` of mono audio in [-1, 1] at `sample_rate`."""

    @abstractmethod
    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Mono audio `[B, S]` in [-1, 1] at `sample_rate` of normalised latents."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes `config.json`, `model.safetensors` and all else that `catalog.load_generator` needs."""

    @abstractmethod
    def prepare_for_sampling(self, dtype: torch.dtype) -> None:
        """Makes the network, in place, as fast as its device allows under autocast to `dtype` (float32: no autocast).

        It can neither be trained nor saved afterwards.
        """

    @abstractmethod
    def part(self, use: Use) -> object:
        """The part of the generator that does the work of `use`: its encoders, its network or its codec.

        Encoders and codec may be read from their files only now.
        """

    @abstractmethod
    def frozen_files(self, use: Use) -> Mapping[str, Path]:
        """Files with frozen weights of that part, by name, which are not in the model folder."""

    def code(self, *uses: Use) -> list[CodeRoot]:
        """The code roots of these uses, for the identity of artifacts."""
        members = [getattr(type(self), name) for use in uses for name in _MEMBERS[use]]
        return [*members, *(type(self.part(use)) for use in uses)]

    def frozen_weights(self, *uses: Use) -> dict[str, str]:
        """The SHA-256 of each file with frozen weights outside the model folder, by name."""
        files = {name: path for use in uses for name, path in self.frozen_files(use).items()}
        return {f"weights {name}": file_checksum(path) for name, path in sorted(files.items())}
