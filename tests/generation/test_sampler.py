"""The candidate sampler on the tiny generator with random weights: every property here holds for any weights."""

import pytest
import torch

from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.models.base import Conditions
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.encoders import TinyEncoders
from v2a_dpo.tiny.generator import build

CLIPS = ("a", "b", "c")
DURATION_S = 2.0


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(1)
    codec = PatchCodec.fit(torch.randn(24, 32_000, generator=generator) * 0.1)
    model = build(TinyEncoders(), codec, seed=1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    model.network.eval().requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def conditions(model):
    generator = torch.Generator().manual_seed(2)
    empty = model.empty_conditions(DURATION_S).tensors
    return Conditions({name: torch.randn(3, *tensor.shape[1:], generator=generator) for name, tensor in empty.items()})


def sampler(model, *, candidates=3, guidance_scale=2.0, seed=0):
    settings = SamplingSettings(candidates=candidates, steps=4, guidance_scale=guidance_scale, seed=seed)
    return CandidateSampler(model, settings, duration_s=DURATION_S)


def rms(values):
    return values.square().mean().sqrt()


def test_a_candidate_is_the_same_alone_and_inside_a_batch(model, conditions):
    together = sampler(model).latents(CLIPS, conditions)
    for clip, clip_id in enumerate(CLIPS):
        alone = sampler(model).latents([clip_id], conditions.rows(slice(clip, clip + 1)))[0]
        assert (alone - together[clip]).abs().max() <= 1e-4 * rms(together[clip])


def test_more_candidates_do_not_change_the_first_ones(model, conditions):
    few, many = (sampler(model, candidates=count).latents(CLIPS, conditions) for count in (1, 4))
    assert (few[:, 0] - many[:, 0]).abs().max() <= 1e-4 * rms(many)


def test_candidates_of_a_clip_differ_and_follow_the_seed(model, conditions):
    first, again, other = (sampler(model, seed=seed).latents(CLIPS, conditions) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert rms(first - other) > 0.1
    assert rms(first[:, 0] - first[:, 1]) > 0.1


def test_guidance_in_one_pass_equals_two_separate_passes(model, conditions):
    scale, steps = 3.0, 4
    fast = sampler(model, candidates=2, guidance_scale=scale)
    drawn = fast.latents(CLIPS, conditions)
    conditional = model.embed(conditions.repeat(2))
    empty = model.embed(model.empty_conditions(DURATION_S)).expand(6)
    latents = fast.noise(CLIPS)
    for step in range(steps):
        t = torch.full((6,), 1 - step / steps)
        with_clip, without = model.velocity(latents, t, conditional), model.velocity(latents, t, empty)
        latents = latents - (without + scale * (with_clip - without)) / steps
    assert (latents.unflatten(0, (3, 2)) - drawn).abs().max() <= 1e-4 * rms(drawn)


def test_conditions_matter(model, conditions):
    usual = sampler(model).latents(CLIPS, conditions)
    exchanged = sampler(model).latents(CLIPS, conditions.rows(torch.tensor([1, 2, 0])))
    assert rms(usual - exchanged) > 1e-3


def test_audio_has_the_length_of_the_clip(model, conditions):
    drawing = sampler(model)
    audio = drawing.audio(drawing.latents(CLIPS, conditions))
    assert audio.shape == (3, 3, model.num_samples(DURATION_S))
    assert audio.abs().max() <= 1
