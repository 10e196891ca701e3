from __future__ import annotations

import math

import pytest
import torch

from v2a_dpo.scoring.inception import InceptionContribution, class_log_probabilities, class_marginal


class SpectrumTagger:
    """Classes are three bands of frequency: a real, if simple, tagger."""

    def tag(self, audio_BS, sample_rate):
        bands = torch.fft.rfft(audio_BS).abs().square()[:, : 3 * 600].unflatten(1, (3, 600)).mean(dim=2)
        return bands, (bands + 1e-9).log()


def _tones(*frequencies: float) -> torch.Tensor:
    time = torch.arange(4000) / 4000
    return torch.stack([torch.sin(2 * math.pi * frequency * time) for frequency in frequencies])


def test_the_mean_score_is_the_inception_score_of_the_set():
    generator = torch.Generator().manual_seed(0)
    audio = _tones(100, 700, 1300, 200, 900) + 0.5 * torch.randn(5, 4000, generator=generator)
    tagger = SpectrumTagger()
    scorer = InceptionContribution(tagger, class_marginal(tagger, audio, 4000))
    scores = torch.tensor(scorer.score([], audio[:, None], 4000)).flatten()
    p = class_log_probabilities(tagger, audio, 4000).exp()
    entropy_of_mean = -(p.mean(dim=0) * p.mean(dim=0).log()).sum()
    mean_entropy = -(p * p.log()).sum(dim=1).mean()
    assert float(scores.mean()) == pytest.approx(float(entropy_of_mean - mean_entropy), abs=1e-6)
    assert (scores >= 0).all()


def test_a_sure_rare_class_scores_minus_the_log_of_its_share():
    scorer = InceptionContribution(SpectrumTagger(), torch.tensor([0.7, 0.2, 0.1]))
    ((common, rare),) = scorer.score([], _tones(100, 1300)[None], 4000)
    assert common == pytest.approx(-math.log(0.7), abs=1e-3)
    assert rare == pytest.approx(-math.log(0.1), abs=1e-3)


def test_a_constant_offset_of_the_signal_does_not_count():
    scorer = InceptionContribution(SpectrumTagger(), torch.tensor([0.4, 0.3, 0.3]))
    ((plain, shifted),) = scorer.score([], torch.stack([_tones(700)[0], _tones(700)[0] + 0.9])[None], 4000)
    assert plain == pytest.approx(shifted, abs=1e-4)
