import numpy as np
import pytest
import torch

from v2a_dpo.config import PretrainConfig
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import Conditions
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.tiny import generator as tiny_generator
from v2a_dpo.tiny import pretraining
from v2a_dpo.tiny.generator import SEQUENCES, TinyEncoders, sync_length
from v2a_dpo.tiny.pretraining import flow_matching_loss, prepare_generator


@pytest.fixture(scope="module")
def prepared():
    return prepare_generator(seed=0, num_clips=40, encoder_steps=4)


def pretrain_generator(folder, **progress):
    config = PretrainConfig(generator_steps=8, encoder_steps=4, batch_size=8)
    return pretraining.pretrain_generator(folder, config, seed=0, num_clips=40, checkpoint_every=3, **progress)


def same_weights(first, second):
    states = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_a_short_pre_training_lowers_the_loss(prepared):
    model, data = prepared
    model = tiny_generator.build(model.encoders, model.codec, seed=1)
    optimizer = torch.optim.AdamW([p for p in model.network.parameters() if p.requires_grad], lr=3e-3)

    def loss_of(step):
        return flow_matching_loss(model, data, batch_size=8, seed=0, step=step)

    def loss_on_draws_of_its_own():
        with torch.no_grad():
            return np.mean([loss_of(step).item() for step in range(1000, 1016)])

    before = loss_on_draws_of_its_own()
    for step in range(30):
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss_on_draws_of_its_own() < 0.8 * before


@pytest.mark.slow
def test_killed_pre_training_resumes_to_the_same_weights(tmp_path):
    whole = pretrain_generator(tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done == 5:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain_generator(tmp_path / "killed", progress=kill)
    assert (tmp_path / "killed-training.ckpt").is_file()
    seen = []
    resumed = pretrain_generator(tmp_path / "killed", progress=lambda done, total: seen.append(done))
    assert seen == [4, 5, 6, 7, 8]
    assert same_weights(whole, resumed)
    assert not (tmp_path / "killed-training.ckpt").exists()
    with (tmp_path / "killed" / "codec.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(UserError, match=r"codec\.safetensors has the SHA-256"):
        load_generator(tmp_path / "killed", device="cpu")


def test_a_saved_model_is_loaded_by_the_catalog_and_predicts_the_same(prepared, tmp_path):
    model, data = prepared
    model.save(tmp_path)
    loaded = load_generator(tmp_path, device="cpu")
    latents, t = data.latents[:2], torch.tensor([0.3, 0.8])
    conditions = data.conditions.rows(slice(0, 2))
    torch.testing.assert_close(
        loaded.velocity(latents, t, loaded.embed(conditions)), model.velocity(latents, t, model.embed(conditions))
    )
    torch.testing.assert_close(loaded.decode(latents), model.decode(latents))


def test_an_incomplete_folder_is_reported(prepared, tmp_path):
    prepared[0].save(tmp_path)
    (tmp_path / "codec.safetensors").unlink()
    with pytest.raises(UserError, match="incomplete"):
        tiny_generator.load(tmp_path, torch.device("cpu"))


def test_conditions_have_the_shapes_of_the_empty_ones(prepared):
    model, data = prepared
    for name, empty in model.empty_conditions(2.0).tensors.items():
        assert data.conditions.tensors[name].shape[1:] == empty.shape[1:], name


def test_a_share_of_rows_loses_its_video_and_its_text(prepared):
    model, _ = prepared
    shapes = {name: tensor.shape for name, tensor in model.empty_conditions(2.0).tensors.items()}
    ones = Conditions({name: torch.ones(4000, 1, shape[2]).expand(-1, shape[1], -1) for name, shape in shapes.items()})
    dropped = pretraining._drop_conditions(model, ones, np.random.default_rng(0)).tensors
    no_video, no_text = dropped["clip"][:, 0, 0] == 0, dropped["text"][:, 0, 0] == 0
    assert torch.equal(no_video, dropped["sync"][:, 0, 0] == 0)
    assert no_video.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (no_video & no_text).float().mean().item() == pytest.approx(0.01, abs=0.006)


def test_synchronisation_features_come_in_groups_of_eight():
    assert [sync_length(count) for count in (1, 50, 51, 132)] == [8, 64, 72, 176]
    encoders = TinyEncoders().eval()
    for duration_s in (1.0, 2.0, 5.28):
        streams = {s.name: torch.zeros(1, s.num_frames(duration_s), 3, 32, 32) for s in SEQUENCES.frame_streams}
        clip, sync = encoders.video(streams)
        assert (clip.shape[1], sync.shape[1]) == SEQUENCES.feature_lengths(duration_s)
