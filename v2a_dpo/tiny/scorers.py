"""The tiny world's frozen scorers, in the roles of PANNs, PaSST, CLAP, ImageBind and Synchformer.

Audio comes in as 16 kHz waveforms `[B, S]`, video as uint8 `[B, T, 3, 32, 32]` at 25 fps, text as prompts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.errors import UserError
from v2a_dpo.tiny.networks import (
    BandTrunk,
    ClipAudioEncoder,
    ClipVideoEncoder,
    FrameEncoder,
    PromptEncoder,
    SpectrogramTrunk,
)
from v2a_dpo.tiny.spectrogram import NUM_MELS, log_mel
from v2a_dpo.tiny.world import CLASSES, SAMPLE_RATE, tokenize


class TaggerNetwork(nn.Module):
    """Names the class of a sound; two of them with different trunks stand in for PANNs and PaSST."""

    def __init__(self, trunk: Literal["spectrogram", "band"]) -> None:
        super().__init__()
        self.trunk: nn.Module = (
            SpectrogramTrunk((12, 24, 32, 48), first_kernel=5) if trunk == "spectrogram" else BandTrunk(64)
        )
        self.head = nn.Linear(48 if trunk == "spectrogram" else 64, len(CLASSES))

    def tag_mel(self, mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]` before the last layer and the class logits `[B, K]`, in the order of
        `world.CLASSES`."""
        embedding = self.trunk(mel_BMT)
        return embedding, self.head(functional.silu(embedding))

    def tag(self, audio_BS: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]`, for the Fréchet distance, and the class logits `[B, K]` of sounds at 16 kHz."""
        return self.tag_mel(log_mel(audio_BS))


class AudioText(nn.Module):
    """Places sounds and prompts in one space, as CLAP does; the score is the cosine of unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = ClipAudioEncoder(64, 48)
        self.text = PromptEncoder(48, 48)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_audio(self, audio_BS: Tensor) -> Tensor:
        """Unit vectors `[B, D]` of sounds."""
        return self.audio(log_mel(audio_BS))

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors `[B, D]` of prompts."""
        return self.text(torch.tensor([tokenize(prompt) for prompt in prompts], device=self.log_scale.device))


class AudioVideo(nn.Module):
    """Places sounds and silent videos in one space, as ImageBind does; the score is the cosine of unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = ClipAudioEncoder(64, 64)
        self.video = ClipVideoEncoder(48, 64)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_audio(self, audio_BS: Tensor) -> Tensor:
        """Unit vectors `[B, D]` of sounds."""
        return self.audio(log_mel(audio_BS))

    def embed_video(self, frames_BTCHW: Tensor) -> Tensor:
        """Unit vectors `[B, D]` of videos."""
        return self.video(frames_BTCHW)


class Synchronisation(nn.Module):
    """Tells by how much a sound is late, as Synchformer does: features correlated over a grid of lags, then a
    softmax."""

    #: Feature steps a second; one step is one lag of the grid.
    rate = 32
    max_lag = 20

    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.frames = FrameEncoder(width)
        self.video = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2), nn.SiLU(), nn.Conv1d(width, width, 5, padding=2)
        )
        self.audio = nn.Sequential(
            nn.Conv1d(NUM_MELS, 48, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(48, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv1d(width, width, 3, padding=1),
        )
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    @property
    def offset_grid_s(self) -> Tensor:
        """The lags in s, -0.625 to 0.625 in steps of 1/32; positive means that the sound comes late."""
        return torch.arange(-self.max_lag, self.max_lag + 1, device=self.log_scale.device) / self.rate

    def embed_video(self, frames_BTCHW: Tensor) -> Tensor:
        """Video features `[B, 32 a second, D]` without their mean over time."""
        features = self.video(self.frames(frames_BTCHW).transpose(1, 2))
        length = round(frames_BTCHW.shape[1] * self.rate / 25)
        return _centred(functional.interpolate(features, size=length, mode="linear", align_corners=False))

    def embed_audio(self, audio_BS: Tensor) -> Tensor:
        """Sound features `[B, 32 a second, D]` without their mean over time."""
        return self.embed_mel(log_mel(audio_BS))

    def embed_mel(self, mel_BMT: Tensor) -> Tensor:
        """Sound features `[B, T / 2, D]` of a log-mel."""
        return _centred(self.audio(mel_BMT))

    def offset_logits(self, audio_BTD: Tensor, video_BTD: Tensor) -> Tensor:
        """Logits `[B, 41]` over `offset_grid_s` from both embeddings, which are cut to the shorter one."""
        length = min(audio_BTD.shape[1], video_BTD.shape[1])
        padded = functional.pad(audio_BTD[:, :length], (0, 0, self.max_lag, self.max_lag))
        shifted = padded.unfold(1, length, 1)
        correlation = torch.einsum("btd,bldt->bl", video_BTD[:, :length], shifted)
        return correlation * self.log_scale.exp() / length

    def desync_s(self, audio_BTD: Tensor, video_BTD: Tensor) -> Tensor:
        """The expected absolute offset `[B]` in s, rounded to the grid's step; 0 is in synchrony."""
        probabilities = self.offset_logits(audio_BTD, video_BTD).softmax(dim=1)
        return (probabilities @ self.offset_grid_s.abs() * self.rate).round() / self.rate


def _centred(features_BDT: Tensor) -> Tensor:
    return (features_BDT - features_BDT.mean(dim=2, keepdim=True)).transpose(1, 2)


@dataclass(frozen=True)
class TinyScorers:
    """All scorers of one world, frozen."""

    panns: TaggerNetwork
    passt: TaggerNetwork
    clap: AudioText
    imagebind: AudioVideo
    synchformer: Synchronisation

    def save(self, folder: Path) -> None:
        """Writes one safetensors file a scorer and `config.json`."""
        for name, scorer in vars(self).items():
            save_scorer(folder, name, scorer)
        (folder / "config.json").write_text(
            json.dumps({"family": "tiny-scorers", "sample_rate": SAMPLE_RATE}, indent=2, allow_nan=False)
        )

    @staticmethod
    def load(folder: Path) -> TinyScorers:
        """The scorers that `save` wrote, in evaluation mode; raises UserError when a file is missing."""
        scorers: dict[str, Any] = {name: load_scorer(folder, name) for name in SCORER_NAMES}
        return TinyScorers(**scorers)


SCORER_NAMES = ("panns", "passt", "clap", "imagebind", "synchformer")


def build_scorer(name: str) -> nn.Module:
    """An untrained scorer; its weights come from torch's global generator, which the caller seeds."""
    match name:
        case "panns":
            return TaggerNetwork("spectrogram")
        case "passt":
            return TaggerNetwork("band")
        case "clap":
            return AudioText()
        case "imagebind":
            return AudioVideo()
        case "synchformer":
            return Synchronisation()
    raise UserError(f"There is no tiny scorer named {name}.", remedy=f"Choose one of {', '.join(SCORER_NAMES)}.")


def save_scorer(folder: Path, name: str, scorer: nn.Module) -> None:
    """Writes `<name>.safetensors` by an atomic rename."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.safetensors.partial"
    save_file({key: value.contiguous() for key, value in scorer.state_dict().items()}, partial)
    partial.replace(folder / f"{name}.safetensors")


def load_scorer(folder: Path, name: str) -> nn.Module:
    """The frozen scorer in `<name>.safetensors`, in evaluation mode."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(
            "The tiny scorer's weights are missing.", where=str(path), remedy="Run `v2a-dpo pretrain` first."
        )
    scorer = build_scorer(name)
    scorer.load_state_dict(load_file(path))
    return scorer.eval().requires_grad_(False)
