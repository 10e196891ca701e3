"""What holds for MMAudio's velocity network beyond its golden numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.errors import UserError
from v2a_dpo.models.mmaudio.config import VARIANTS, MMAudioConfig
from v2a_dpo.models.mmaudio.embeddings import nearest_exact_index, rotary_table, rotate
from v2a_dpo.models.mmaudio.network import MMAudioNetwork

SMALL = MMAudioConfig(
    latent_channels=5,
    hidden_size=32,
    num_heads=4,
    num_joint_blocks=2,
    num_fused_blocks=2,
    clip_dim=12,
    sync_dim=10,
    text_dim=14,
    text_length=6,
    mlp_multiple_of=16,
)


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _network(config: MMAudioConfig = SMALL) -> MMAudioNetwork:
    """A network whose every weight takes part: the untrained one has zeros where it is modulated."""
    network = MMAudioNetwork(config, generator=torch.Generator().manual_seed(3)).eval()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.add_(0.05 * _drawn(*parameter.shape, seed=100 + index))
    return network


def _raw(batch: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _drawn(batch, 8, 12, seed=seed),
        _drawn(batch, 16, 10, seed=seed + 1),
        _drawn(batch, 6, 14, seed=seed + 2),
    )


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("small_16k", 157_204_756),
        ("small_44k", 157_330_216),
        ("medium_44k", 621_727_016),
        ("large_44k", 1_029_923_240),
        ("large_44k_v2", 1_030_496_680),
    ],
)
def test_released_networks_have_the_published_number_of_trainable_parameters(name: str, trainable: int) -> None:
    with torch.device("meta"):
        network = MMAudioNetwork(VARIANTS[name])
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) == trainable


def test_untrained_network_predicts_zero() -> None:
    network = MMAudioNetwork(SMALL, generator=torch.Generator().manual_seed(0))
    velocity = network(_drawn(2, 21, 5, seed=1), *_raw(2, seed=2), torch.tensor([0.1, 0.9]))
    assert torch.equal(velocity, torch.zeros_like(velocity))


def test_initial_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = MMAudioNetwork(SMALL, generator=torch.Generator().manual_seed(7)).state_dict()
    torch.manual_seed(2)
    second = MMAudioNetwork(SMALL, generator=torch.Generator().manual_seed(7)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("v2", [False, True])
def test_candidates_of_a_clip_share_its_conditions_without_changing_the_velocity(v2: bool) -> None:
    network = _network(MMAudioConfig(**{**SMALL.__dict__, "v2": v2}))
    latents, t = _drawn(5, 21, 5, seed=4), torch.tensor([0.3, 0.8])
    condition_index = torch.tensor([0, 0, 1, 0, 1])
    with torch.no_grad():
        embedded = network.embed_conditions(*_raw(2, seed=5))
        shared = network.predict_velocity(latents, t, embedded, condition_index_B=condition_index)
        repeated = {name: value[condition_index] for name, value in embedded.items()}
        plain = network.predict_velocity(latents, t[condition_index], repeated)
    assert plain.std() > 0.1
    assert (shared - plain).abs().max() <= 1e-4 * plain.square().mean().sqrt()


def test_a_candidate_does_not_depend_on_its_batch() -> None:
    network = _network()
    latents, t, raw = _drawn(4, 21, 5, seed=4), torch.tensor([0.1, 0.4, 0.6, 0.9]), _raw(4, seed=5)
    with torch.no_grad():
        together = network(latents, *raw, t)
        alone = torch.cat(
            [network(latents[i : i + 1], *(part[i : i + 1] for part in raw), t[i : i + 1]) for i in range(4)]
        )
    assert (together - alone).abs().max() <= 1e-4 * together.square().mean().sqrt()


@pytest.mark.parametrize("length", [7, 16, 50])
def test_any_latent_length_works(length: int) -> None:
    network = _network()
    with torch.no_grad():
        velocity = network(_drawn(1, length, 5, seed=6), *_raw(1, seed=7), torch.tensor([0.5]))
    assert velocity.shape == (1, length, 5)
    assert velocity.isfinite().all()


def test_each_stream_of_conditions_reaches_the_velocity() -> None:
    network, latents, t = _network(), _drawn(1, 21, 5, seed=8), torch.tensor([0.5])
    raw = _raw(1, seed=9)
    with torch.no_grad():
        base = network(latents, *raw, t)
        for index in range(3):
            changed = [part + 0.5 * (position == index) for position, part in enumerate(raw)]
            assert (network(latents, *changed, t) - base).abs().max() > 1e-3


def test_the_empty_features_are_trained_and_the_data_constants_are_not() -> None:
    network = _network()
    raw = network.empty_conditions(8, 16)
    embedded = network.embed_conditions(raw["clip"], raw["sync"], raw["text"])
    network.predict_velocity(_drawn(1, 21, 5, seed=1), torch.tensor([0.5]), embedded).sum().backward()
    assert network.empty_clip_feat.grad is not None
    assert network.empty_clip_feat.grad.abs().sum() > 0
    assert network.empty_sync_feat.grad is not None
    assert network.empty_string_feat.grad is None
    assert not network.latent_mean.requires_grad
    assert not network.latent_std.requires_grad


def test_normalisation_is_undone_and_leaves_its_argument_alone() -> None:
    network = _network()
    with torch.no_grad():
        network.latent_std.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0]))
    latents = _drawn(2, 9, 5, seed=1)
    kept = latents.clone()
    torch.testing.assert_close(network.unnormalize(network.normalize(latents)), latents)
    assert torch.equal(latents, kept)


def test_the_time_table_stays_in_float32_when_the_network_is_cast() -> None:
    network = _network()
    table = network.t_embed.freqs.clone()
    network.to(torch.bfloat16)
    assert network.t_embed.freqs.dtype == torch.float32
    assert torch.equal(network.t_embed.freqs, table)
    assert network.t_embed(torch.tensor([0.5])).dtype == torch.bfloat16


def test_a_network_laid_out_on_the_meta_device_runs_once_its_weights_are_assigned() -> None:
    network = _network()
    with torch.device("meta"):
        twin = MMAudioNetwork(SMALL)
    twin.load_state_dict(network.state_dict(), strict=True, assign=True)
    latents, t, raw = _drawn(1, 21, 5, seed=4), torch.tensor([0.4]), _raw(1, seed=5)
    with torch.no_grad():
        assert torch.equal(network(latents, *raw, t), twin(latents, *raw, t))


def test_bfloat16_autocast_stays_close_to_float32() -> None:
    network, latents, t, raw = _network(), _drawn(1, 21, 5, seed=4), torch.tensor([0.4]), _raw(1, seed=5)
    with torch.no_grad():
        exact = network(latents, *raw, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(latents, *raw, t).float()
    assert F.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.999


@pytest.mark.slow
def test_the_velocity_is_one_graph_for_the_compiler() -> None:
    network, latents, t = _network(), _drawn(2, 21, 5, seed=4), torch.tensor([0.4, 0.5])
    with torch.no_grad():
        embedded = network.embed_conditions(*_raw(2, seed=5))
        compiled = torch.compile(network.predict_velocity, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(latents, t, embedded), network.predict_velocity(latents, t, embedded))


@pytest.mark.parametrize(("source", "target"), [(192, 345), (192, 250), (16, 21), (24, 431), (736, 1292), (40, 32)])
def test_rows_are_dealt_out_as_torch_interpolates(source: int, target: int) -> None:
    rows = torch.arange(source, dtype=torch.float32)[None, None]
    expected = nn.functional.interpolate(rows, size=target, mode="nearest-exact")[0, 0].long()
    assert torch.equal(nearest_exact_index(source, target), expected)


def test_rotation_depends_on_distance_alone() -> None:
    table = rotary_table(12, 8)
    q, k = _drawn(8, seed=1), _drawn(8, seed=2)
    turned_q = rotate(q.expand(1, 1, 12, 8), table)[0, 0]
    turned_k = rotate(k.expand(1, 1, 12, 8), table)[0, 0]
    products = turned_q @ turned_k.T
    for distance in range(-5, 6):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_stretched_positions_fall_on_the_other_axis() -> None:
    stretched, plain = rotary_table(4, 8, scale=3.0), rotary_table(12, 8)
    torch.testing.assert_close(stretched, plain[:, ::3], rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_split_into_heads_are_refused() -> None:
    with pytest.raises(UserError, match="heads"):
        MMAudioConfig(latent_channels=4, hidden_size=30, num_heads=4, num_joint_blocks=1, num_fused_blocks=0)
    with pytest.raises(UserError, match="joint block"):
        MMAudioConfig(latent_channels=4, hidden_size=32, num_heads=4, num_joint_blocks=0, num_fused_blocks=2)
