"""The Flow-DPO loss against values worked out by hand, naive lines, and its known derivatives."""

import math

import pytest
import torch

from v2a_dpo.alignment.losses import absolute_quantile, flow_dpo, velocity_errors
from v2a_dpo.randomness import row_noise

BETA = 600.0


def errors(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_a_pair_worked_out_by_hand():
    """e_w .50 against .52, e_l .91 against .90: z = -300 (-.02 - .01) = 9; loss = ln(1 + e^-9)."""
    result = flow_dpo(errors(0.50, 0.91), errors(0.52, 0.90), beta=BETA)
    assert result.z.item() == pytest.approx(9.0)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-9.0)))
    assert result.winner_difference.item() == pytest.approx(-0.02)
    assert result.loser_difference.item() == pytest.approx(0.01)


def test_a_batch_matches_naive_lines_with_the_mean_outside_the_log_sigmoid():
    policy, reference = torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    losses = []
    for pair in range(4):
        winner, loser = policy[pair] - reference[pair], policy[4 + pair] - reference[4 + pair]
        losses.append(-math.log(1 / (1 + math.exp(3.0 * (winner - loser)))))
    result = flow_dpo(policy, reference, beta=6.0)
    assert result.loss.item() == pytest.approx(sum(losses) / 4)
    inside = -math.log(1 / (1 + math.exp(-result.z.mean().item())))
    assert result.loss.item() > inside + 1e-6


def test_the_policy_equal_to_the_reference_gives_z_zero_and_loss_ln_two():
    same = torch.rand(10)
    result = flow_dpo(same, same, beta=BETA)
    assert torch.equal(result.z, torch.zeros(5))
    assert result.loss.item() == pytest.approx(math.log(2))
    assert result.implicit_accuracy == 0.5


def test_swapping_winner_and_loser_negates_z():
    policy, reference = torch.rand(6), torch.rand(6)
    swapped = flow_dpo(policy.roll(3), reference.roll(3), beta=BETA)
    torch.testing.assert_close(swapped.z, -flow_dpo(policy, reference, beta=BETA).z)


def test_at_the_start_the_winner_is_pulled_and_the_loser_pushed_with_beta_over_four():
    """The printed Eq. 5 would give +150 and +0.5: towards the loser."""
    policy = errors(0.6, 0.7, 0.8, 0.9)
    flow_dpo(policy, policy.detach(), beta=BETA).loss.backward()
    torch.testing.assert_close(policy.grad, torch.tensor([75.0, 75.0, -75.0, -75.0], dtype=torch.float64))
    single = errors(0.6, 0.7)
    flow_dpo(single, single.detach(), beta=BETA).loss.backward()
    torch.testing.assert_close(single.grad, torch.tensor([150.0, -150.0], dtype=torch.float64))


def test_errors_are_means_over_latent_dimensions_so_a_sum_is_d_times_as_large():
    predicted, target = row_noise((3, 7, 5), 0, "p"), row_noise((3, 7, 5), 0, "t")
    naive = torch.stack([((predicted[row] - target[row]) ** 2).sum() / 35 for row in range(3)])
    torch.testing.assert_close(velocity_errors(predicted, target), naive)
    by_sum = flow_dpo(35 * torch.cat([naive, naive.flip(0)]), torch.zeros(6), beta=2.0)
    by_mean = flow_dpo(
        velocity_errors(torch.cat([predicted, predicted.flip(0)]), torch.cat([target, target.flip(0)])),
        torch.zeros(6),
        beta=2.0,
    )
    torch.testing.assert_close(by_sum.z, 35 * by_mean.z)


def test_errors_of_half_precision_predictions_are_float32():
    predicted = torch.full((1, 100, 20), 1 / 3, dtype=torch.bfloat16)
    error = velocity_errors(predicted, torch.zeros(1, 100, 20))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(predicted[0, 0, 0].item() ** 2, rel=1e-6)


def test_ties_count_one_half_in_the_accuracy():
    """z is positive, zero, negative, positive."""
    result = flow_dpo(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0]), torch.zeros(8), beta=2.0)
    assert result.z.tolist() == [1.0, 0.0, -1.0, 1.0]
    assert result.implicit_accuracy == pytest.approx(2.5 / 4)


def test_the_absolute_quantile_ignores_signs():
    assert absolute_quantile(torch.tensor([-12.0, 1.0, 2.0]), 1.0) == 12.0
