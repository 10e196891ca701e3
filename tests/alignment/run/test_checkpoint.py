"""Checkpoints: the next step after loading is the step that would have been."""

import resource

import pytest
import torch
from torch import nn

from v2a_dpo.alignment.run.checkpoint import Position, load_checkpoint, remove_checkpoints, save_checkpoint
from v2a_dpo.errors import UserError


def network_and_optimizer(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def train(network, optimizer, steps):
    """The last layer takes no part, so it has no state in the optimizer."""
    for step in range(steps):
        optimizer.zero_grad()
        network[:2](torch.full((1, 3), step + 1.0)).square().sum().backward()
        optimizer.step()


def test_a_loaded_checkpoint_continues_bit_for_bit(tmp_path):
    network, optimizer = network_and_optimizer(0)
    train(network, optimizer, 3)
    save_checkpoint(tmp_path, Position(3, 120), network, optimizer)
    train(network, optimizer, 4)
    other, other_optimizer = network_and_optimizer(1)
    assert load_checkpoint(tmp_path, other, other_optimizer) == Position(3, 120)
    train(other, other_optimizer, 4)
    for expected, found in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_only_the_newest_checkpoint_is_kept_and_partial_ones_are_ignored(tmp_path):
    network, optimizer = network_and_optimizer(0)
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, Position(step, step), network, optimizer)
    (tmp_path / ".checkpoint-00000011.pt.dead.partial").write_text("left by a killed process")
    assert load_checkpoint(tmp_path, network, optimizer) == Position(10, 10)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000010.pt"]
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_checkpoint_nothing_changes_and_the_run_starts(tmp_path):
    fresh, fresh_optimizer = network_and_optimizer(1)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    assert load_checkpoint(tmp_path, fresh, fresh_optimizer) == Position(0, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


def test_a_full_disk_is_told_and_leaves_the_older_checkpoint(tmp_path):
    network, optimizer = network_and_optimizer(0)
    train(network, optimizer, 1)
    save_checkpoint(tmp_path, Position(1, 1), network, optimizer)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            save_checkpoint(tmp_path, Position(2, 2), network, optimizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]
    assert load_checkpoint(tmp_path, network, optimizer) == Position(1, 1)
