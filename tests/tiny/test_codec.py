import numpy as np
import pytest
import torch

from v2a_dpo.tiny.codec import (
    LATENT_CHANNELS,
    PatchCodec,
    invert_log_mel,
    linear_magnitude,
    log_mel,
    mel_basis,
    mel_magnitude,
    mix_log_mel,
)
from v2a_dpo.tiny.generator import SEQUENCES
from v2a_dpo.tiny.media import render_arrays
from v2a_dpo.tiny.rater import judge
from v2a_dpo.tiny.world import make_split


@pytest.fixture(scope="module")
def clips():
    return render_arrays(make_split(0, "test", 24))


@pytest.fixture(scope="module")
def codec():
    return PatchCodec.fit(render_arrays(make_split(0, "pretrain", 150)).audio)


def test_a_round_trip_keeps_what_the_rater_hears(clips, codec):
    decoded = codec.decode(codec.encode(clips.audio)).numpy()
    true = np.mean(
        [judge(audio.numpy(), events).quality for audio, events in zip(clips.audio, clips.clip_events, strict=True)]
    )
    kept = np.mean([judge(audio, events).quality for audio, events in zip(decoded, clips.clip_events, strict=True)])
    assert true - kept < 0.05


def test_shapes_follow_from_the_duration(clips, codec):
    latents = codec.encode(clips.audio)
    assert latents.shape == (24, SEQUENCES.latent_length(2.0), LATENT_CHANNELS) == (24, 64, 20)
    assert codec.decode(latents).shape == (24, SEQUENCES.num_samples(2.0)) == (24, 32_000)
    assert SEQUENCES.latent_length(2.001) == 65


def test_decoding_is_deterministic_and_rows_do_not_influence_each_other(clips, codec):
    latents = codec.encode(clips.audio[:4])
    together = codec.decode(latents)
    assert torch.equal(together, codec.decode(latents))
    torch.testing.assert_close(together[2:3], codec.decode(latents[2:3]), atol=1e-4, rtol=0)


def test_the_fit_does_not_depend_on_eigenvectors_signs(clips):
    first, second = PatchCodec.fit(clips.audio), PatchCodec.fit(clips.audio.flip(0))
    torch.testing.assert_close(first.components, second.components, atol=2e-3, rtol=0)


def test_components_are_orthonormal(codec):
    torch.testing.assert_close(codec.components.T @ codec.components, torch.eye(20), atol=1e-4, rtol=0)


def test_phase_iterations_bring_the_sound_nearer_to_its_spectrogram(clips):
    mel = log_mel(clips.audio)
    errors = [(log_mel(invert_log_mel(mel, iterations=count)) - mel).abs().mean() for count in (0, 2, 8)]
    assert errors[0] > errors[1] > errors[2]


def test_the_linear_spectrum_has_the_given_mel_bins(clips):
    mel = log_mel(clips.audio)
    rebuilt = mel_basis(mel.device).T @ linear_magnitude(mel)
    target = mel_magnitude(mel)
    assert (rebuilt - target).abs().sum() < 0.1 * target.sum()


def test_mixing_log_mels_adds_powers(clips):
    mel = log_mel(clips.audio[:1])
    torch.testing.assert_close(
        mix_log_mel(mel, mel, torch.zeros(1, 1, 1)), mel + 0.5 * torch.log(torch.tensor(2.0)) / 2.5, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(mix_log_mel(mel, mel, torch.full((1, 1, 1), -200.0)), mel, atol=1e-5, rtol=0)
