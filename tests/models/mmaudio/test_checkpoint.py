"""Loading an MMAudio generator from its folder and WEIGHTS_DIR."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.models.mmaudio.checkpoint import codec_name, load_network, model_config
from v2a_dpo.models.mmaudio.config import VARIANTS, MMAudioConfig
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.weights.store import WeightsRecord

CONFIG = MMAudioConfig(
    latent_channels=5, hidden_size=16, num_heads=2, num_joint_blocks=1, num_fused_blocks=1,
    clip_dim=6, sync_dim=4, text_dim=3, text_length=2, mlp_multiple_of=8,
)  # fmt: skip


@pytest.fixture
def network():
    return MMAudioNetwork(CONFIG, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path, network):
    path = tmp_path / "generator"
    path.mkdir()
    config = {"family": "mmaudio", "sample_rate": 16_000, "network": asdict(CONFIG)}
    (path / "config.json").write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path / "model.safetensors")
    return path


def test_the_network_comes_back_as_it_was(folder, network):
    loaded = load_network(folder)
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    frozen = {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}
    assert frozen == {"latent_mean", "latent_std", "empty_string_feat"}
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


def test_the_loaded_network_predicts_what_the_saved_one_does(folder, network):
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(2))
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    inputs = [torch.ones(1, 10, 5), torch.ones(1, 4, 6), torch.ones(1, 8, 4), torch.ones(1, 2, 3), torch.tensor([0.3])]
    with torch.no_grad():
        expected = network(*inputs)
        assert expected.abs().max() > 0
        # Not to the last bit: how mapped memory is aligned decides on the order of some sums.
        torch.testing.assert_close(load_network(folder)(*inputs), expected, rtol=1e-5, atol=1e-5)


def test_missing_official_files_are_named_with_the_command(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    with pytest.raises(UserError, match=r"bigvgan_16k \(best_netG\.pt\)") as caught:
        load_generator(folder)
    assert "v2a-dpo weights import" in caught.value.remedy
    assert caught.value.where == str(tmp_path / "weights")


def test_sampling_reads_neither_encoders_nor_codec(folder, network, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    for name in ("mmaudio_vae_16k", "bigvgan_16k", "clip_dfn5b", "synchformer"):
        record = WeightsRecord(
            name=name, source_file="", source_bytes=0, source_md5="", source_sha256="", trust="unverified",
            licence="", tensors=0, parameters=0, sha256="", bytes=0,
        )  # fmt: skip
        (tmp_path / "weights" / name).mkdir(parents=True)
        (tmp_path / "weights" / name / "record.json").write_text(record.model_dump_json())
    model = load_generator(folder, device="cpu")  # though the files with the frozen weights are gone
    assert (model.latent_shape(1.0), model.num_samples(1.0), model.sample_rate) == ((32, 5), 32 * 512, 16_000)
    conditions = model.embed(model.empty_conditions(1.0))
    assert model.velocity(torch.zeros(1, 32, 5), torch.tensor([0.5]), conditions).shape == (1, 32, 5)
    with pytest.raises(UserError, match="cannot be read") as caught:
        model.part("conditions")
    assert caught.value.where.endswith("clip_dfn5b/model.safetensors")
    with pytest.raises(UserError, match="cannot be read") as caught:
        model.part("decoding")
    assert caught.value.where.endswith("mmaudio_vae_16k/model.safetensors")


def test_weights_that_do_not_fit_their_config_are_refused_by_key(folder):
    config = json.loads((folder / "config.json").read_text())
    config["network"]["latent_channels"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"latent_mean") as caught:
        load_network(folder)
    assert caught.value.where.endswith("model.safetensors")


def test_damaged_or_missing_weights_are_named(folder):
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        load_network(folder)
    model.unlink()
    with pytest.raises(UserError, match="missing"):
        load_network(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"family": "mmaudio"}', '{"network": {"width": 3}, "sample_rate": 1}'])
def test_a_wrong_config_is_named(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError) as caught:
        load_network(folder)
    assert caught.value.where.endswith("config.json")


def test_every_variant_has_the_config_of_its_codec():
    for name in VARIANTS:
        config = json.loads(json.dumps(model_config(name)))
        assert MMAudioConfig(**config["network"]) == VARIANTS[name]
        assert codec_name(config["sample_rate"]) == ("16k" if name == "small_16k" else "44k")
    with pytest.raises(UserError, match="48000"):
        codec_name(48_000)
