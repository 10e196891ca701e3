"""The interface of all scorers.

Letters in tensor names: B clips, N candidates of each, S audio samples, D dimensions, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from v2a_dpo.artifacts.schema import SCORE_NAMES
from v2a_dpo.media.video import FrameStream


@dataclass(frozen=True)
class Missing:
    """A score that does not apply or could not be computed, with the reason: stored as null, never as an invented
    number."""

    reason: str


Score = float | Missing


@dataclass(frozen=True)
class ScoringClip:
    """A clip as scorers receive it.

    `frames` maps a stream's name to uint8 `[T, 3, height, width]`. `reference` is the clip's own mono sound `[S]` at
    `reference_rate`, read for speech clips alone; None where there is none.
    """

    clip_id: str
    frames: Mapping[str, Tensor]
    prompt: str | None
    reference: Tensor | None
    reference_rate: int
    has_speech: bool


class Scorer(Protocol):
    """One of the five scores."""

    @property
    def name(self) -> str:
        """One of `SCORE_NAMES`."""

    @property
    def frame_streams(self) -> tuple[FrameStream, ...]:
        """The frames that it needs; empty for a scorer of sound alone."""

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` scores of N candidates for each of B clips; features of a clip are computed once for its N."""


class AudioTagger(Protocol):
    """Classifies sounds, in the roles of PANNs and PaSST."""

    def tag(self, audio_BS: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """The embedding `[B, D]` and the class logits `[B, K]` of mono sounds."""


def all_streams(scorers: Mapping[str, Scorer]) -> tuple[FrameStream, ...]:
    """The frame streams that `scorers` need, each once."""
    streams: dict[str, FrameStream] = {}
    for scorer in scorers.values():
        for stream in scorer.frame_streams:
            if streams.setdefault(stream.name, stream) != stream:
                raise ValueError(f"two scorers define the stream {stream.name!r} differently")
    return tuple(streams.values())


def score_batch(
    scorers: Mapping[str, Scorer], clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int
) -> list[list[dict[str, Score]]]:
    """`[B][N]` mappings from each of the five score names to its value; what is not finite is missing."""
    batch, count = audio_BNS.shape[:2]
    rows: list[list[dict[str, Score]]] = [
        [dict.fromkeys(SCORE_NAMES, Missing("there is no such scorer")) for _ in range(count)] for _ in range(batch)
    ]
    for name, scorer in scorers.items():
        with torch.inference_mode():
            table = scorer.score(clips, audio_BNS, sample_rate)
        for row, line in zip(rows, table, strict=True):
            for candidate, score in zip(row, line, strict=True):
                finite = isinstance(score, Missing) or math.isfinite(score)
                candidate[name] = score if finite else Missing("the score is not finite")
    return rows
