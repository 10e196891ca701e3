"""Costs counted on the networks against the published counts (in GFLOP, 8 s clips, batch 1)."""

from __future__ import annotations

from functools import cache

import pytest

from v2a_dpo.models.mmaudio.config import VARIANTS
from v2a_dpo.models.mmaudio.cost import MMAudioCost

#: Variant -> the official network's velocity call, and its embedding of conditions.
OFFICIAL = {"small_16k": (57.3, 4.0), "large_44k": (513.9, 13.7), "large_44k_v2": (513.9, 13.7)}
FEATURES = 64_446 + 9_464 + 47
DECODING = {"16k": 52.6 + 917, "44k": 129.1 + 2_529}


def codec_of(name):
    return "16k" if "16k" in name else "44k"


@cache
def cost_of(name):
    return MMAudioCost(VARIANTS[name], codec_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_operations_are_the_official_ones_less_the_repeated_modulations(name):
    cost = cost_of(name)
    operations, config = cost.operations(), cost.config
    # The official code runs each block's modulation on every latent step, ours on the distinct synchronisation rows.
    blocks = config.num_joint_blocks + config.num_fused_blocks
    repeated = (cost.latent_length - cost.sync_length) * blocks * 2 * config.hidden_size * 6 * config.hidden_size
    assert (operations.velocity + repeated) / 1e9 == pytest.approx(OFFICIAL[name][0], rel=2e-3)
    assert operations.embedding / 1e9 == pytest.approx(OFFICIAL[name][1], rel=0.02)
    assert operations.features / 1e9 == pytest.approx(FEATURES, rel=1e-3)
    # The published figure has the vocoder's anti-aliasing filters, ours not.
    assert 0.98 < operations.decoding / 1e9 / DECODING[codec_of(name)] < 0.99
    assert operations.candidate(steps=25) == 50 * operations.velocity + operations.decoding


@pytest.mark.slow
def test_memory_counts_weights_gradients_and_moments():
    cost = cost_of("small_16k")
    sizes, memory = cost.sizes(lora_rank=8), cost.memory("float32", lora_rank=8)
    assert (sizes.network, sizes.trainable) == (157_283_644, 157_204_756)
    assert sizes.frozen == 986_714_881 + 122_440_704 + 171_657_218 + 112_231_250
    assert memory.full_training == 16 * sizes.trainable + 4 * (sizes.network - sizes.trainable)
    assert memory.lora == 4 * sizes.network + 16 * sizes.lora
    assert memory.inference == 4 * (sizes.network + sizes.frozen)
    half = cost.memory("bfloat16", lora_rank=8)
    assert 2 * half.inference == memory.inference
    assert half.activations_per_row < memory.activations_per_row < 2.2 * half.activations_per_row


def test_an_adapters_size_grows_with_its_rank():
    cost = cost_of("small_16k")
    assert cost.sizes(lora_rank=16).lora == 2 * cost.sizes(lora_rank=8).lora > 0
