"""Sampling one batch: the same candidates whatever the batch, the precision or the compiler, as far as each allows."""

import copy

import pytest
import torch

from v2a_dpo.flow import sample_euler
from v2a_dpo.models.mmaudio.winograd import WinogradConv1d
from v2a_dpo.models.precision import autocast, round_weights

CLIPS = ("a", "b", "c")
DURATION_S = 2.0


def rms(values):
    return values.square().mean().sqrt()


def test_a_candidate_is_the_same_alone_and_inside_a_batch(model, conditions, sampler):
    together = sampler(model).latents(CLIPS, conditions)
    for clip, clip_id in enumerate(CLIPS):
        alone = sampler(model).latents([clip_id], conditions.rows(slice(clip, clip + 1)))[0]
        assert (alone - together[clip]).abs().max() <= 1e-4 * rms(together[clip])


def test_more_candidates_do_not_change_the_first_ones(model, conditions, sampler):
    few, many = (sampler(model, candidates=count).latents(CLIPS, conditions) for count in (1, 4))
    assert (few[:, 0] - many[:, 0]).abs().max() <= 1e-4 * rms(many)


def test_candidates_of_a_clip_differ_and_follow_the_seed(model, conditions, sampler):
    first, again, other = (sampler(model, seed=seed).latents(CLIPS, conditions) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert rms(first - other) > 0.1
    assert rms(first[:, 0] - first[:, 1]) > 0.1


def test_guidance_in_one_pass_equals_two_separate_passes(model, conditions, sampler):
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


def test_without_guidance_only_the_clips_own_conditions_count(model, conditions, sampler):
    plain = sampler(model, candidates=2, guidance_scale=1.0)
    embedded = model.embed(conditions.repeat(2))
    expected = sample_euler(lambda x, t: model.velocity(x, t, embedded), plain.noise(CLIPS), steps=4)
    drawn = plain.latents(CLIPS, conditions)
    assert (expected.unflatten(0, (3, 2)) - drawn).abs().max() <= 1e-4 * rms(drawn)


def test_named_owners_equal_repeated_rows(model, conditions):
    embedded = model.embed(conditions)
    latents = torch.randn(6, *model.latent_shape(DURATION_S), generator=torch.Generator().manual_seed(3))
    condition_index, t = torch.tensor([2, 0, 0, 1, 2, 2]), torch.tensor([0.9, 0.5, 0.1])
    shared = model.velocity(latents, t, embedded, condition_index_B=condition_index)
    repeated = model.velocity(latents, t[condition_index], embedded.rows(condition_index))
    assert (shared - repeated).abs().max() <= 1e-5 * rms(repeated)


def test_conditions_matter(model, conditions, sampler):
    usual = sampler(model).latents(CLIPS, conditions)
    exchanged = sampler(model).latents(CLIPS, conditions.rows(torch.tensor([1, 2, 0])))
    assert rms(usual - exchanged) > 1e-3


def test_audio_has_the_length_of_the_clip(model, conditions, sampler):
    drawing = sampler(model)
    audio = drawing.audio(drawing.latents(CLIPS, conditions))
    assert audio.shape == (3, 3, model.num_samples(DURATION_S))
    assert audio.abs().max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("length", "sizes"), [(64, [3, 3]), (128, [2, 1, 2, 1]), (250, [1] * 6), (1000, [1] * 6)])
def test_a_cpu_decodes_no_more_steps_at_once_than_pay(length, sizes, model, sampler, monkeypatch):
    drawing = sampler(model)
    met = []
    monkeypatch.setattr(drawing, "_decode", lambda latents: met.append(len(latents)) or model.decode(latents))
    latents = torch.randn(2, 3, length, drawing.latent_shape[1], generator=torch.Generator().manual_seed(4))
    audio = drawing.audio(latents)
    assert met == sizes
    assert (audio - model.decode(latents.flatten(0, 1)).unflatten(0, (2, 3))).abs().max() < 1e-3 * rms(audio)


def test_rounded_weights_give_what_autocast_over_float32_weights_gives(model, conditions, sampler):
    rounded = copy.deepcopy(model)
    round_weights(rounded.network, torch.bfloat16)
    latents, t = torch.randn(3, *model.latent_shape(DURATION_S)), torch.tensor([0.3, 0.6, 0.9])
    with torch.inference_mode(), autocast(torch.device("cpu"), torch.bfloat16):
        expected, got = (each.velocity(latents, t, each.embed(conditions)) for each in (model, rounded))
    assert torch.equal(expected, got)
    assert rounded.network.latent_std.dtype is torch.float32


def test_a_network_prepared_for_a_cpu_gives_the_same_float32_candidates(model, make_model, conditions, sampler):
    prepared = make_model()
    prepared.prepare_for_sampling(torch.float32)
    expected, got = (sampler(each).latents(CLIPS, conditions) for each in (model, prepared))
    assert any(isinstance(module, WinogradConv1d) for module in prepared.network.modules())
    assert 0 < (got - expected).abs().max() <= 1e-4 * rms(expected)


def test_bfloat16_candidates_stay_close_to_float32_ones(model, make_model, conditions, sampler):
    prepared = make_model()
    prepared.prepare_for_sampling(torch.bfloat16)
    exact, rounded = sampler(model), sampler(prepared, precision=torch.bfloat16)
    expected, got = (each.latents(CLIPS, conditions) for each in (exact, rounded))
    assert got.dtype is torch.float32
    assert 0 < rms(got - expected) < 0.02 * rms(expected)
    assert torch.equal(rounded.audio(expected), exact.audio(expected))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_compiled_step_is_one_graph_and_gives_the_same_candidates(backend, model, conditions, sampler):
    torch._dynamo.reset()
    expected = sampler(model)
    latents = expected.latents(CLIPS, conditions)
    compiled = sampler(model, compile_backend=backend)
    assert (compiled.latents(CLIPS, conditions) - latents).abs().max() <= 1e-4 * rms(latents)
    audio = expected.audio(latents)
    assert (compiled.audio(latents) - audio).abs().max() <= 1e-3 * rms(audio)


@pytest.mark.slow
def test_a_compiled_sampler_meets_one_shape_only(model, conditions, sampler):
    torch._dynamo.reset()
    expected = sampler(model).latents(CLIPS[:2], conditions.rows(slice(0, 2)))
    compiled = sampler(model, compile_backend="eager")
    compiled.latents(CLIPS, conditions, batch_size=3)
    torch._dynamo.utils.counters.clear()
    short = compiled.latents(CLIPS[:2], conditions.rows(slice(0, 2)), batch_size=3)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert (short - expected).abs().max() <= 1e-4 * rms(expected)
