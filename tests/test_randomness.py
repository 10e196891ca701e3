"""Random numbers of rows: theirs alone, by every bit of the seed."""

import torch

from v2a_dpo import randomness
from v2a_dpo.randomness import normal, row_generator, row_noise, row_seed, uniform


def test_a_row_has_the_same_noise_whenever_it_is_drawn():
    first = row_noise((5, 3), 7, "clip", 2)
    row_noise((2, 2), 7, "another clip", 0)
    assert torch.equal(row_noise((5, 3), 7, "clip", 2), first)
    assert (first.dtype, first.shape) == (torch.float32, (5, 3))


def test_rows_and_seeds_have_noise_of_their_own():
    rows = [(7, "clip", 2), (7, "clip", 1), (8, "clip", 2), (7, "other", 2), (7, "clip2")]
    drawn = torch.stack([row_noise((1000,), *row) for row in rows])
    assert (torch.corrcoef(drawn) - torch.eye(len(rows))).abs().max() < 0.15


def test_candidates_whose_seeds_share_their_low_32_bits_differ():
    rows = [("clip10633", 0), ("clip19466", 3)]
    assert len({row_seed(0, *row) % 2**32 for row in rows}) == 1
    one, other = (row_noise((8,), 0, *row) for row in rows)
    assert not torch.equal(one, other)


def test_every_bit_of_a_seed_counts(monkeypatch):
    seeds = [0, *(1 << bit for bit in range(63))]
    drawn = set()
    for seed in seeds:
        monkeypatch.setattr(randomness, "row_seed", lambda *row, seed=seed: seed)
        drawn.add(tuple(row_noise((4,), 0).tolist()))
    assert len(drawn) == len(seeds)


def test_a_seed_fits_a_signed_column_and_fills_it():
    seeds = [row_seed(0, "clip", sample) for sample in range(64)]
    assert 0 <= min(seeds) < 2**62 < max(seeds) < 2**63


def test_the_numbers_are_distributed_as_they_say():
    noise, time = normal((400_000,), row_generator(1, "normal")), uniform((400_000,), row_generator(1, "uniform"))
    within = (noise.abs() < 1.96).float().mean()
    torch.testing.assert_close(
        torch.stack([noise.mean(), noise.std(), within]), torch.tensor([0, 1, 0.95]), rtol=0, atol=5e-3
    )
    torch.testing.assert_close(torch.stack([time.mean(), time.var()]), torch.tensor([1 / 2, 1 / 12]), rtol=0, atol=2e-3)
    assert 0 <= time.min() < time.max() < 1
