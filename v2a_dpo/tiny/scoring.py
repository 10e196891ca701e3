"""The tiny world's scorers behind the interface that all scorers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from v2a_dpo.artifacts.location import read_bytes, write_atomically
from v2a_dpo.media.audio import resample
from v2a_dpo.media.frames import FrameStream
from v2a_dpo.scoring.base import AudioTagger, Missing, Score, Scorer, ScoringClip
from v2a_dpo.scoring.inception import InceptionContribution, class_marginal
from v2a_dpo.tiny import scorers as networks
from v2a_dpo.tiny.render import NETWORK_SIZE
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import FRAME_RATE, SAMPLE_RATE, make_split

VIDEO_STREAM = FrameStream("tiny", float(FRAME_RATE), NETWORK_SIZE, NETWORK_SIZE, "stretch")
#: The reference sounds of score 4's marginal: clean clips of a split that no other stage uses.
_REFERENCE_SPLIT, _REFERENCE_CLIPS = "inception-reference", 256
_MARGINAL_FILE = "marginal.safetensors"


def store_marginal(folder: Path) -> None:
    """Adds score 4's class marginal to the scorers in `folder`, from reference sounds that no other stage hears.

    One that is there already is kept.
    """
    if (folder / _MARGINAL_FILE).is_file():
        return
    tagger = TinyTagger(networks.TinyScorers.load(folder).panns)
    clip_events = make_split(0, _REFERENCE_SPLIT, _REFERENCE_CLIPS)
    reference_BS = torch.stack([torch.from_numpy(render_audio(events)) for events in clip_events])
    content = save({"marginal": class_marginal(tagger, reference_BS, SAMPLE_RATE)})
    write_atomically(folder / _MARGINAL_FILE, content)


def load_scorers(folder: Path) -> list[Scorer]:
    """The scorers in the roles of ImageBind, CLAP, Synchformer and the Inception Score's tagger."""
    tiny = networks.TinyScorers.load(folder)
    tagger = TinyTagger(tiny.panns)
    marginal = load(read_bytes(folder / _MARGINAL_FILE))["marginal"]
    return [
        TinyImageBind(tiny.imagebind),
        TinyClap(tiny.clap),
        TinySynchformer(tiny.synchformer),
        InceptionContribution(tagger, marginal),
    ]


def load_taggers(folder: Path) -> Mapping[str, AudioTagger]:
    """The two taggers, in the roles of PANNs and PaSST."""
    tiny = networks.TinyScorers.load(folder)
    return {"panns": TinyTagger(tiny.panns), "passt": TinyTagger(tiny.passt)}


@dataclass(frozen=True)
class TinyTagger:
    """A tiny tagger for sounds at any rate."""

    network: networks.TaggerNetwork

    def tag(self, audio_BS: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]` and the class logits `[B, K]`."""
        return self.network.tag(resample(audio_BS, sample_rate, SAMPLE_RATE))


class TinyImageBind:
    """Cosine of picture and sound, in [-1, 1]."""

    name = "imagebind"
    frame_streams = (VIDEO_STREAM,)

    def __init__(self, network: networks.AudioVideo) -> None:
        self._network = network

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` cosines."""
        video_BD = self._network.embed_video(_frames(clips))
        return _cosines(video_BD, self._network.embed_audio(_flat(audio_BNS, sample_rate)))


class TinyClap:
    """Cosine of prompt and sound, in [-1, 1]; missing without a prompt."""

    name = "clap"
    frame_streams: tuple[FrameStream, ...] = ()

    def __init__(self, network: networks.AudioText) -> None:
        self._network = network

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` cosines."""
        table: list[list[Score]] = [[Missing("the clip has no text")] * audio_BNS.shape[1] for _ in clips]
        written = [row for row, clip in enumerate(clips) if clip.prompt]
        if written:
            text_BD = self._network.embed_text([clip.prompt for clip in clips if clip.prompt])
            audio_BD = self._network.embed_audio(_flat(audio_BNS[written], sample_rate))
            for row, scores in zip(written, _cosines(text_BD, audio_BD), strict=True):
                table[row] = scores
        return table


class TinySynchformer:
    """By how many seconds the sound misses the picture, 0 or more."""

    name = "desync"
    frame_streams = (VIDEO_STREAM,)

    def __init__(self, network: networks.Synchronisation) -> None:
        self._network = network

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` absolute offsets in s."""
        video_BTD = self._network.embed_video(_frames(clips)).repeat_interleave(audio_BNS.shape[1], dim=0)
        offsets = self._network.desync_s(self._network.embed_audio(_flat(audio_BNS, sample_rate)), video_BTD)
        scores: list[list[Score]] = offsets.unflatten(0, audio_BNS.shape[:2]).tolist()
        return scores


def _frames(clips: Sequence[ScoringClip]) -> Tensor:
    return torch.stack([clip.frames[VIDEO_STREAM.name] for clip in clips])


def _flat(audio_BNS: Tensor, sample_rate: int) -> Tensor:
    return resample(audio_BNS.flatten(0, 1), sample_rate, SAMPLE_RATE)


def _cosines(clip_BD: Tensor, audio_BD: Tensor) -> list[list[Score]]:
    """`[B][N]` products of unit vectors: one of each clip, N of its candidates."""
    cosines = torch.einsum("bd,bnd->bn", clip_BD, audio_BD.unflatten(0, (clip_BD.shape[0], -1)))
    scores: list[list[Score]] = cosines.tolist()
    return scores
