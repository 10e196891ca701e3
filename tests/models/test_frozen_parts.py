"""Loading of the frozen networks that generators share or carry: vocoder, autoencoder, Synchformer."""

from __future__ import annotations

import pytest
import torch
from bigvgan.activations import Snake, SnakeBeta
from bigvgan.alias_free_activation.torch.act import Activation1d

from v2a_dpo.errors import UserError
from v2a_dpo.models.antialiased import AntiAliasedActivation
from v2a_dpo.models.mmaudio.vae import MelVAE, MelVAEConfig
from v2a_dpo.models.synchformer import VISUAL_PREFIX, SynchformerVisual, SynchformerVisualConfig
from v2a_dpo.models.vocoder import Vocoder, VocoderConfig

VOCODER = VocoderConfig(6, (4, 2), (8, 4), upsample_initial_channel=8)
AUTOENCODER = MelVAEConfig(6, 4, 8, (-1.0,) * 6, (1.0,) * 6)
VISUAL = SynchformerVisualConfig(width=16, depth=1, num_heads=2, patch_size=8, image_size=16)


def test_split_and_merged_vocoder_weights_make_the_same_sound() -> None:
    split = Vocoder(VOCODER)
    state = {key: value.clone() for key, value in split.generator.state_dict().items()}
    assert "conv_pre.weight_g" in state
    mel = torch.randn(1, 6, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = split(mel)
        split.load_checkpoint(state)
        merged_state = split.generator.state_dict()
        assert "conv_pre.weight" in merged_state
        again = Vocoder(VOCODER)
        again.load_checkpoint(merged_state)
        assert before.shape == (1, 10 * VOCODER.hop)
        torch.testing.assert_close(split(mel), before, rtol=0, atol=1e-6)
        assert torch.equal(split(mel), again(mel))


@pytest.mark.parametrize("length", [1, 5, 32, 33, 1500])
@pytest.mark.parametrize("kind", [Snake, SnakeBeta])
def test_the_anti_aliased_activation_is_the_packages(kind: type, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    original = Activation1d(kind(70, alpha_logscale=kind is SnakeBeta))
    for parameter in original.parameters():
        parameter.data.add_(torch.rand(parameter.shape, generator=generator))
    x = torch.randn(2, 70, length, generator=generator)
    with torch.no_grad():
        expected, ours = original(x), AntiAliasedActivation(original)
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=3e-6)
        with torch.autocast("cpu", torch.bfloat16):
            got = ours(x.bfloat16())
        assert got.dtype is torch.bfloat16
        torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.02)
    assert ours.state_dict().keys() == original.state_dict().keys()


def test_a_vocoder_file_of_another_size_is_refused_by_name_of_the_key() -> None:
    other = Vocoder(VocoderConfig(8, (4, 2), (8, 4), upsample_initial_channel=8)).generator.state_dict()
    with pytest.raises(UserError, match=r"conv_pre\.weight_v"):
        Vocoder(VOCODER).load_checkpoint(other)


def test_autoencoder_weights_are_normalised_once_per_load_and_the_file_stays_raw() -> None:
    autoencoder = MelVAE(AUTOENCODER)
    raw = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    kept = {key: value.clone() for key, value in raw.items()}
    latent = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        autoencoder.load_checkpoint(raw)
        first = autoencoder.decode(latent)
        autoencoder.load_checkpoint(raw)
        second = autoencoder.decode(latent)
    assert torch.equal(first, second)
    assert all(torch.equal(raw[key], kept[key]) for key in raw)
    # Unit gain: every output channel's weights have a sum of squares of one.
    weight = autoencoder.decoder.mid.block_1.conv1.weight
    torch.testing.assert_close(weight.square().sum(dim=(1, 2)), torch.ones(len(weight)), rtol=0.01, atol=0)


def test_the_autoencoders_encoder_stays_as_it_is_in_the_file_until_audio_is_encoded() -> None:
    autoencoder = MelVAE(AUTOENCODER)
    raw = {key: value.clone() for key, value in autoencoder.encoder.state_dict().items()}
    autoencoder.load_checkpoint(autoencoder.state_dict())
    autoencoder.decode(torch.ones(1, 4, 5))
    assert all(torch.equal(value, raw[key]) for key, value in autoencoder.encoder.state_dict().items())
    first, again = (autoencoder.encode(torch.ones(1, 6, 10))[0] for _ in range(2))
    assert torch.equal(first, again)
    normalised = autoencoder.encoder.mid.block_1.conv1.weight
    torch.testing.assert_close(normalised.square().sum(dim=(1, 2)), torch.ones(len(normalised)), rtol=0.01, atol=0)


def test_autoencoder_does_not_care_how_large_the_raw_weights_are() -> None:
    autoencoder = MelVAE(AUTOENCODER)
    raw = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    scaled = {key: value * 7 if value.dim() == 3 and "data" not in key else value for key, value in raw.items()}
    latent = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        autoencoder.load_checkpoint(raw)
        plain = autoencoder.decode(latent)
        autoencoder.load_checkpoint(scaled)
        # Not exactly: a small constant keeps the norm from vanishing.
        torch.testing.assert_close(autoencoder.decode(latent), plain, rtol=0, atol=0.02)


def test_an_autoencoder_file_of_another_size_is_refused() -> None:
    other = MelVAE(MelVAEConfig(8, 4, 8, (0.0,) * 8, (1.0,) * 8)).state_dict()
    with pytest.raises(UserError, match="data_mean"):
        MelVAE(AUTOENCODER).load_checkpoint(other)


def test_the_visual_branch_takes_its_keys_out_of_the_whole_synchformer_file() -> None:
    visual = SynchformerVisual(VISUAL)
    whole = {VISUAL_PREFIX + key: torch.randn_like(value) for key, value in visual.state_dict().items()}
    visual.load_checkpoint({**whole, "afeat_extractor.cls_token": torch.zeros(1)})
    assert all(torch.equal(value, whole[VISUAL_PREFIX + key]) for key, value in visual.state_dict().items())
    del whole[VISUAL_PREFIX + "cls_token"]
    with pytest.raises(UserError, match="cls_token"):
        visual.load_checkpoint(whole)


def test_segments_of_a_video_are_independent_of_each_other() -> None:
    visual = SynchformerVisual(VISUAL).eval()
    video = torch.rand(1, 32, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    changed = video.clone()
    changed[:, 24:] = 0.0  # only the third segment, frames 16 to 31, sees these
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.add_(0.05)
        features, other = visual.video_features(video), visual.video_features(changed)
    assert features.shape == (1, 3 * 8, 16)
    torch.testing.assert_close(features[:, :16], other[:, :16], rtol=0, atol=1e-6)
    assert (features[:, 16:] - other[:, 16:]).abs().max() > 1e-3
