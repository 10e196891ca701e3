"""MMAudio behind the generators' interface, with its own encoders and codec in a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from v2a_dpo.errors import UserError
from v2a_dpo.media.mel import MEL_16K, MelSettings
from v2a_dpo.models.base import Conditions
from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipTextConfig, ClipVisionConfig
from v2a_dpo.models.mmaudio.codec import MelCodec
from v2a_dpo.models.mmaudio.config import MMAudioConfig
from v2a_dpo.models.mmaudio.encoders import MMAudioEncoders
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import CLIP_STREAM, SYNC_STREAM, Sequences
from v2a_dpo.models.mmaudio.vae import MelVAEConfig
from v2a_dpo.models.synchformer import SynchformerVisualConfig
from v2a_dpo.models.vocoder import VocoderConfig

SECONDS = 1.0


def _randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module")
def codec() -> MelCodec:
    mel = MelSettings(8000, 256, 64, 12, 0.0, 4000.0, "e")
    vae = MelVAEConfig(12, 6, 8, (-4.0,) * 12, (2.0,) * 12)
    codec = MelCodec(mel, vae, VocoderConfig(12, (8, 8), (16, 16), upsample_initial_channel=16))
    _randomise(codec.vae, 1)
    codec.vae.load_checkpoint(codec.vae.state_dict())
    return codec.eval()


@pytest.fixture(scope="module")
def encoders() -> MMAudioEncoders:
    clip = ClipConfig(16, True, ClipVisionConfig(384, 1, 16, 8, 96), ClipTextConfig(20, 49408, 16, 2, 1))
    sync = SynchformerVisualConfig(width=16, depth=1, num_heads=2, patch_size=56)
    encoders = MMAudioEncoders(clip, sync, frames_per_pass=3, segments_per_pass=1)
    _randomise(encoders, 2)
    return encoders


@pytest.fixture(scope="module")
def model(encoders: MMAudioEncoders, codec: MelCodec) -> MMAudioModel:
    config = MMAudioConfig(6, 16, 2, 1, 1, clip_dim=16, sync_dim=16, text_dim=16, text_length=20, mlp_multiple_of=8)
    network = MMAudioNetwork(config, generator=torch.Generator().manual_seed(0))
    _randomise(network, 3)
    sequences = Sequences((CLIP_STREAM, SYNC_STREAM), Sequences.official(MEL_16K).feature_lengths, 8000, 128)
    return MMAudioModel(network.eval(), sequences, load_encoders=lambda: encoders, load_codec=lambda: codec)


@pytest.fixture(scope="module")
def frames(model: MMAudioModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        stream.name: torch.randint(
            0,
            256,
            (2, stream.num_frames(SECONDS), 3, stream.height, stream.width),
            generator=generator,
            dtype=torch.uint8,
        )
        for stream in model.frame_streams
    }


def test_lengths_follow_from_the_duration(model: MMAudioModel) -> None:
    assert model.latent_shape(SECONDS) == (63, 6)  # 8000 samples in steps of 128, rounded up
    assert model.num_samples(SECONDS) == 63 * 128
    empty = model.empty_conditions(SECONDS)
    assert {name: tuple(value.shape) for name, value in empty.tensors.items()} == {
        "clip": (1, 8, 16),
        "sync": (1, 16, 16),
        "text": (1, 20, 16),
    }


def test_a_clip_goes_through_features_velocity_and_audio(model: MMAudioModel, frames: dict[str, Tensor]) -> None:
    conditions = model.extract_conditions(frames, ["a dog barks", None])
    assert {name: tuple(value.shape) for name, value in conditions.tensors.items()} == {
        "clip": (2, 8, 16),
        "sync": (2, 16, 16),
        "text": (2, 20, 16),
    }
    latents = torch.randn(2, *model.latent_shape(SECONDS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        velocity = model.velocity(latents, torch.tensor([0.2, 0.7]), model.embed(conditions))
    assert velocity.shape == latents.shape
    audio = model.decode(velocity)
    assert audio.shape == (2, model.num_samples(SECONDS))
    assert audio.abs().max() <= 1.0


def test_no_prompt_takes_the_empty_text_and_a_prompt_its_own(model: MMAudioModel, frames: dict[str, Tensor]) -> None:
    text = model.extract_conditions(frames, ["", "rain"]).tensors["text"]
    assert torch.equal(text[0], model.network.empty_string_feat)
    torch.testing.assert_close(text[1], model.encoders.text(["rain"])[0])
    torch.testing.assert_close(text[1].norm(dim=-1), torch.ones(20))


def test_without_text_is_what_no_prompt_gives_and_leaves_the_video(
    model: MMAudioModel, frames: dict[str, Tensor]
) -> None:
    with_text = model.extract_conditions(frames, ["a dog barks", "rain"])
    without = model.without_text(with_text)
    expected = model.extract_conditions(frames, [None, ""])
    assert not torch.equal(with_text.tensors["text"], expected.tensors["text"])
    for name, tensor in expected.tensors.items():
        assert torch.equal(without.tensors[name], tensor)


def test_features_do_not_depend_on_how_many_frames_go_in_one_pass(
    encoders: MMAudioEncoders, frames: dict[str, Tensor]
) -> None:
    clip, sync = encoders.video(frames)
    pixels = frames["clip"].float() / 255
    torch.testing.assert_close(clip, encoders.clip.frames(pixels), rtol=0, atol=1e-5)
    whole = encoders.sync.video_features((frames["sync"].float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(sync, whole, rtol=0, atol=1e-5)


def test_a_clip_shorter_than_one_segment_is_refused(model: MMAudioModel) -> None:
    with pytest.raises(UserError, match="too short"):
        model.empty_conditions(0.5)


def test_the_papers_velocity_is_upstreams_with_time_and_sign_turned(model: MMAudioModel) -> None:
    latents = torch.randn(1, 20, 6, generator=torch.Generator().manual_seed(1))
    embedded = model.embed(model.empty_conditions(SECONDS))
    with torch.no_grad():
        ours = model.velocity(latents, torch.tensor([0.25], dtype=torch.float64), embedded)
        upstream = model.network.predict_velocity(latents, torch.tensor([0.75]), embedded.tensors)
    assert ours.abs().max() > 0
    assert torch.equal(ours, -upstream)


def test_owners_share_one_row_of_conditions(model: MMAudioModel) -> None:
    latents = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(1))
    embedded, t = model.embed(model.empty_conditions(SECONDS)), torch.tensor([0.4])
    with torch.no_grad():
        shared = model.velocity(latents, t, embedded, condition_index_B=torch.zeros(3, dtype=torch.int64))
        plain = model.velocity(latents, t.expand(3), embedded.expand(3))
    torch.testing.assert_close(shared, plain, rtol=0, atol=1e-6)


def test_encoding_pads_the_last_latent_step_with_silence(model: MMAudioModel) -> None:
    audio = 0.1 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([audio, torch.zeros(1, 24)], dim=1)
    latents = model.encode(audio)
    assert latents.shape == (1, 8, 6)
    assert torch.equal(latents, model.encode(padded))


def test_the_codec_gives_unnormalised_latents_and_the_model_normalised_ones(model: MMAudioModel) -> None:
    audio = 0.1 * torch.randn(1, 1024, generator=torch.Generator().manual_seed(1))
    network = model.network
    expected = (model.codec.encode(audio) - network.latent_mean) / network.latent_std
    torch.testing.assert_close(model.encode(audio), expected)


def test_a_saved_network_is_its_configuration_and_its_official_weights(model: MMAudioModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    network = MMAudioNetwork(MMAudioConfig(**config["network"]))
    network.load_state_dict(load_file(tmp_path / "model" / "model.safetensors"), strict=True)
    assert config["family"] == "mmaudio"
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in model.network.state_dict().items())


def test_embedded_conditions_can_be_repeated_and_joined(model: MMAudioModel) -> None:
    embedded = model.embed(model.empty_conditions(SECONDS))
    joined = Conditions.concatenate([embedded.repeat(2), embedded])
    assert joined.batch == 3
