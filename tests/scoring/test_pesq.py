from __future__ import annotations

import numpy as np
import pesq
import pytest
import torch

from v2a_dpo.scoring.base import Missing, ScoringClip
from v2a_dpo.scoring.pesq import SpeechQuality
from v2a_dpo.scoring.pesq_worker import wide_band_pesq

RATE = 16_000


def _bursts(seconds: float, *, every_s: float = 0.47, seed: int = 0) -> torch.Tensor:
    """Coloured noise in bursts, which PESQ takes for utterances."""
    generator = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    noise = np.convolve(generator.standard_normal(samples), np.hanning(12), mode="same")
    phase = (np.arange(samples) / RATE) % every_s
    return torch.from_numpy((0.2 * noise * (phase < 0.2)).astype(np.float32)).clamp(-1, 1)


def _clip(reference: torch.Tensor | None, *, has_speech: bool = True, rate: int = RATE) -> ScoringClip:
    return ScoringClip("clip", {}, None, reference, rate, has_speech)


@pytest.fixture(scope="module")
def scorer():
    quality = SpeechQuality(workers=1)
    yield quality
    quality.close()


def test_a_copy_scores_the_maximum_and_noise_lowers_it(scorer):
    speech = _bursts(2.0)
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(1))
    audio = torch.stack([speech, 0.1 * speech, speech + 0.002 * noise, speech + 0.05 * noise])[None]
    ((copy, quiet, slightly, badly),) = scorer.score([_clip(speech)], audio, RATE)
    assert copy == pytest.approx(4.64, abs=0.01)
    assert quiet == pytest.approx(4.64, abs=0.01)
    assert badly < slightly < copy
    assert badly >= 1.0


def test_values_are_those_of_the_package(scorer):
    speech, other = _bursts(2.0), _bursts(2.0, seed=5)
    ((score,),) = scorer.score([_clip(speech)], other[None, None], RATE)
    assert score == wide_band_pesq((speech.numpy(), other.numpy()))


def test_other_rates_are_resampled(scorer):
    speech = _bursts(2.0)
    double = torch.nn.functional.interpolate(speech[None, None], scale_factor=2, mode="linear")[0, 0]
    ((score,),) = scorer.score([_clip(double, rate=2 * RATE)], double[None, None], 2 * RATE)
    assert score == pytest.approx(4.64, abs=0.01)


def test_clips_without_speech_or_sound_are_missing(scorer):
    speech = _bursts(1.0)
    table = scorer.score([_clip(speech, has_speech=False), _clip(None)], speech.expand(2, 2, -1), RATE)
    assert table == [
        [Missing("the clip has no human speech")] * 2,
        [Missing("the clip has no sound of its own")] * 2,
    ]


def test_every_failure_is_missing_with_its_reason(scorer):
    speech = _bursts(1.0)
    damaged = speech.clone()
    damaged[100] = float("nan")
    audio = torch.stack([torch.zeros(RATE), damaged, speech, torch.full((RATE,), float("inf"))])[None]
    ((silent, broken, fine, infinite),) = scorer.score([_clip(speech)], audio, RATE)
    assert silent == Missing("the generated sound is silent")
    assert broken == Missing("the generated sound is not finite")
    assert fine == pytest.approx(4.64, abs=0.01)
    assert infinite == Missing("the generated sound is not finite")
    ((short,),) = scorer.score([_clip(speech)], speech[None, None, : RATE // 5], RATE)
    assert short == Missing("the generated sound is shorter than 0.25 s")
    ((no_reference,),) = scorer.score([_clip(torch.zeros(RATE))], speech[None, None], RATE)
    assert no_reference == Missing("the reference sound is silent")


def test_a_refusal_of_the_package_is_missing(scorer):
    blip = torch.zeros(RATE)
    blip[:500] = 0.1 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    ((score,),) = scorer.score([_clip(blip)], _bursts(1.0)[None, None], RATE)
    assert isinstance(score, Missing)
    assert score.reason == "PESQ refuses: No utterances detected"


def test_memory_that_runs_out_inside_pesq_is_no_fault_of_the_clip(monkeypatch):
    def no_memory(*_):
        raise pesq.OutOfMemoryError(b"Out of memory")

    monkeypatch.setattr(pesq, "pesq", no_memory)
    quality = SpeechQuality(workers=0)
    with pytest.raises(MemoryError, match="PESQ"):
        quality.score([_clip(_bursts(1.0))], _bursts(1.0)[None, None], RATE)


@pytest.mark.slow
def test_a_crash_inside_pesq_costs_one_score():
    """70 utterances in 33 s overrun an array of the package and end the process; a cut at 20 s prevents it."""
    long = _bursts(33.0)
    unguarded = SpeechQuality(workers=1, max_duration_s=40.0)
    try:
        audio = torch.stack([long, torch.cat([_bursts(2.0), torch.zeros(31 * RATE)])])[None]
        table = unguarded.score([_clip(long)], audio, RATE)
        assert table[0][0] == Missing("PESQ crashed")
        ((after,),) = unguarded.score([_clip(_bursts(2.0))], _bursts(2.0)[None, None], RATE)
        assert after == pytest.approx(4.64, abs=0.01)
    finally:
        unguarded.close()


def test_long_sounds_are_cut_to_what_is_safe(scorer):
    long = _bursts(33.0)
    ((score,),) = scorer.score([_clip(long)], long[None, None], RATE)
    assert score == pytest.approx(4.64, abs=0.01)
