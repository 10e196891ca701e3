"""The tiny world's frozen scorers, in the roles of ImageBind, CLAP, Synchformer, PANNs and PaSST.

They score sounds at any sample rate and train on 16 kHz; videos are uint8 `[B, T, 3, 32, 32]` at 25 fps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.artifacts.location import read_bytes, write_atomically
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import resample
from v2a_dpo.media.video import FrameStream
from v2a_dpo.scoring.base import AudioTagger, Missing, Score, Scorer, ScoringClip
from v2a_dpo.scoring.inception import InceptionContribution, class_marginal
from v2a_dpo.tiny import networks
from v2a_dpo.tiny.codec import NUM_MELS, log_mel
from v2a_dpo.tiny.render import NETWORK_SIZE
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import CLASSES, FRAME_RATE, SAMPLE_RATE, make_split, tokenize

VIDEO_STREAM = FrameStream("tiny", float(FRAME_RATE), NETWORK_SIZE, NETWORK_SIZE, "stretch")
#: The reference sounds of score 4's marginal: clean clips of a split that no other stage uses.
_REFERENCE_SPLIT, _REFERENCE_CLIPS = "inception-reference", 256
_MARGINAL_FILE = "marginal.safetensors"


class TaggerNetwork(nn.Module):
    """Classifies a sound; two of them with different trunks of `width` channels stand in for PANNs and PaSST."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, len(CLASSES))

    def tag_mel(self, mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]` before the last layer and the class logits `[B, K]`, ordered as `world.CLASSES`."""
        embedding = self.trunk(mel_BMT)
        return embedding, self.head(functional.silu(embedding))

    def tag(self, audio_BS: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]`, for the Fréchet distance, and the class logits `[B, K]` of sounds."""
        return self.tag_mel(_log_mel(audio_BS, sample_rate))


class _SharedSpace(nn.Module):
    """Places sounds and something else in one space; the score is the cosine of unit vectors, in [-1, 1]."""

    audio: networks.ClipAudioEncoder
    log_scale: nn.Parameter

    def embed_audio(self, audio_BS: Tensor, sample_rate: int) -> Tensor:
        """Unit vectors `[B, D]` of sounds."""
        return self.audio(_log_mel(audio_BS, sample_rate))

    def cosines(self, clip_BD: Tensor, audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` products of unit vectors: one of each clip, N of its candidates."""
        audio_BND = self.embed_audio(audio_BNS.flatten(0, 1), sample_rate).unflatten(0, audio_BNS.shape[:2])
        scores: list[list[Score]] = torch.einsum("bd,bnd->bn", clip_BD, audio_BND).tolist()
        return scores


class AudioText(_SharedSpace):
    """Sounds and prompts in one space, as in CLAP; the score is missing without a prompt."""

    name = "clap"
    frame_streams: tuple[FrameStream, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.audio = networks.ClipAudioEncoder(64, 48)
        self.text = networks.PromptEncoder(48, 48)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors `[B, D]` of prompts."""
        return self.text(torch.tensor([tokenize(prompt) for prompt in prompts], device=self.log_scale.device))

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` cosines of prompt and sound."""
        table: list[list[Score]] = [[Missing("the clip has no text")] * audio_BNS.shape[1] for _ in clips]
        prompts = {row: clip.prompt for row, clip in enumerate(clips) if clip.prompt}
        if prompts:
            cosines = self.cosines(self.embed_text(list(prompts.values())), audio_BNS[list(prompts)], sample_rate)
            for row, scores in zip(prompts, cosines, strict=True):
                table[row] = scores
        return table


class AudioVideo(_SharedSpace):
    """Sounds and silent videos in one space, as in ImageBind."""

    name = "imagebind"
    frame_streams = (VIDEO_STREAM,)

    def __init__(self) -> None:
        super().__init__()
        self.audio = networks.ClipAudioEncoder(64, 64)
        self.video = networks.ClipVideoEncoder(48, 64)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` cosines of picture and sound."""
        return self.cosines(self.video(_frames(clips)), audio_BNS, sample_rate)


class Synchronisation(nn.Module):
    """Estimates how late a sound is, as Synchformer does: features correlated over a grid of lags, then a softmax."""

    name = "desync"
    frame_streams = (VIDEO_STREAM,)
    #: Feature steps per second; one step is one lag of the grid.
    rate = 32
    max_lag = 20

    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.frames = networks.FrameEncoder(width)
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
        """Video features `[B, 32 per second, D]` without their mean over time."""
        features = self.video(self.frames(frames_BTCHW).transpose(1, 2))
        length = round(frames_BTCHW.shape[1] * self.rate / FRAME_RATE)
        return _centred(functional.interpolate(features, size=length, mode="linear", align_corners=False))

    def embed_mel(self, mel_BMT: Tensor) -> Tensor:
        """Sound features `[B, T / 2, D]`, 32 per second, of a log-mel, without their mean over time."""
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

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` absolute offsets in s, 0 or more."""
        video_BTD = self.embed_video(_frames(clips)).repeat_interleave(audio_BNS.shape[1], dim=0)
        audio_BTD = self.embed_mel(_log_mel(audio_BNS.flatten(0, 1), sample_rate))
        scores: list[list[Score]] = self.desync_s(audio_BTD, video_BTD).unflatten(0, audio_BNS.shape[:2]).tolist()
        return scores


def _centred(features_BDT: Tensor) -> Tensor:
    return (features_BDT - features_BDT.mean(dim=2, keepdim=True)).transpose(1, 2)


def _log_mel(audio_BS: Tensor, sample_rate: int) -> Tensor:
    return log_mel(resample(audio_BS, sample_rate, SAMPLE_RATE))


def _frames(clips: Sequence[ScoringClip]) -> Tensor:
    return torch.stack([clip.frames[VIDEO_STREAM.name] for clip in clips])


_BUILDERS: Mapping[str, Callable[[], nn.Module]] = {
    "panns": lambda: TaggerNetwork(networks.SpectrogramTrunk((12, 24, 32, 48), first_kernel=5), 48),
    "passt": lambda: TaggerNetwork(networks.BandTrunk(64), 64),
    "clap": AudioText,
    "imagebind": AudioVideo,
    "synchformer": Synchronisation,
}
SCORER_NAMES = tuple(_BUILDERS)


def build_scorer(name: str) -> nn.Module:
    """An untrained scorer; its weights come from torch's global generator, which the caller seeds."""
    if name not in _BUILDERS:
        raise UserError(f"There is no tiny scorer named {name}.", remedy=f"Choose one of {', '.join(SCORER_NAMES)}.")
    return _BUILDERS[name]()


def save_scorer(folder: Path, name: str, scorer: nn.Module) -> None:
    """Writes `<name>.safetensors` in one step."""
    state = {key: value.contiguous() for key, value in scorer.state_dict().items()}
    write_atomically(folder / f"{name}.safetensors", save(state))


@dataclass(frozen=True)
class TinyScorers:
    """All scorers of one world, frozen."""

    panns: TaggerNetwork
    passt: TaggerNetwork
    clap: AudioText
    imagebind: AudioVideo
    synchformer: Synchronisation

    @staticmethod
    def load(folder: Path) -> TinyScorers:
        """The scorers in `folder`, in evaluation mode; raises UserError when a file is missing."""
        scorers: dict[str, Any] = {}
        for name in SCORER_NAMES:
            path = folder / f"{name}.safetensors"
            if not path.is_file():
                raise UserError(
                    "The tiny scorer's weights are missing.", where=str(path), remedy="Run `v2a-dpo pretrain` first."
                )
            scorers[name] = build_scorer(name)
            scorers[name].load_state_dict(load_file(path))
            scorers[name].eval().requires_grad_(False)
        return TinyScorers(**scorers)


def store_marginal(folder: Path) -> None:
    """Adds score 4's class marginal, over reference sounds that no other stage uses, to the scorers in `folder`.

    An existing one is kept.
    """
    if (folder / _MARGINAL_FILE).is_file():
        return
    clip_events = make_split(0, _REFERENCE_SPLIT, _REFERENCE_CLIPS)
    reference_BS = torch.stack([torch.from_numpy(render_audio(events)) for events in clip_events])
    marginal = class_marginal(TinyScorers.load(folder).panns, reference_BS, SAMPLE_RATE)
    write_atomically(folder / _MARGINAL_FILE, save({"marginal": marginal}))


def load_scorers(folder: Path) -> list[Scorer]:
    """The scorers in the roles of ImageBind, CLAP, Synchformer and the Inception Score's tagger."""
    tiny = TinyScorers.load(folder)
    marginal = load(read_bytes(folder / _MARGINAL_FILE))["marginal"]
    return [tiny.imagebind, tiny.clap, tiny.synchformer, InceptionContribution(tiny.panns, marginal)]


def load_taggers(folder: Path) -> Mapping[str, AudioTagger]:
    """The two taggers, in the roles of PANNs and PaSST."""
    tiny = TinyScorers.load(folder)
    return {"panns": tiny.panns, "passt": tiny.passt}
