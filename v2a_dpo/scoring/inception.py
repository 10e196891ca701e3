"""Score 4: a sound's contribution to the Inception Score, by an audio tagger."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from v2a_dpo.media.video import FrameStream
from v2a_dpo.scoring.base import AudioTagger, Score, ScoringClip


class InceptionContribution:
    """KL(softmax(logits) || marginal) in nats: high for confident, rare classes; ignores the video.

    The paper names only the set statistic; with the set's own mean as marginal, exp of this score's mean is exactly the
    one-chunk Inception Score. A fixed marginal, here of real sounds, makes it a score of one sound by itself.
    """

    name = "inception"
    frame_streams: tuple[FrameStream, ...] = ()

    def __init__(self, tagger: AudioTagger, marginal_K: Tensor) -> None:
        self._tagger = tagger
        self._log_marginal_K = marginal_K.double().clamp_min(1e-12).log()

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` values, 0 or more."""
        log_p = class_log_probabilities(self._tagger, audio_BNS.flatten(0, 1), sample_rate)
        divergence = (log_p.exp() * (log_p - self._log_marginal_K)).sum(dim=-1)
        scores: list[list[Score]] = divergence.unflatten(0, audio_BNS.shape[:2]).tolist()
        return scores


def class_log_probabilities(tagger: AudioTagger, audio_BS: Tensor, sample_rate: int) -> Tensor:
    """Log-probabilities `[B, K]` in double precision of sounds whose mean is subtracted, as in the published
    evaluations."""
    with torch.inference_mode():
        _, logits_BK = tagger.tag(audio_BS - audio_BS.mean(dim=-1, keepdim=True), sample_rate)
    return logits_BK.double().cpu().log_softmax(dim=-1)


def class_marginal(tagger: AudioTagger, audio_BS: Tensor, sample_rate: int) -> Tensor:
    """The mean class probabilities `[K]` of reference sounds."""
    return class_log_probabilities(tagger, audio_BS, sample_rate).exp().mean(dim=0)
