"""The flow against closed forms: constant, linear and Gaussian velocity fields with known end points."""

import pytest
import torch

from v2a_dpo.flow import guided, interpolate, is_guided, sample_euler, time_grid, velocity_target
from v2a_dpo.randomness import row_noise


def test_interpolation_is_data_at_time_zero_and_noise_at_time_one():
    data, noise = row_noise((3, 4, 2), 0, "data"), row_noise((3, 4, 2), 0, "noise")
    points = interpolate(data, noise, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(points[0], data[0])
    assert torch.equal(points[1], noise[1])
    torch.testing.assert_close(points[2], 0.75 * data[2] + 0.25 * noise[2])


def test_velocity_target_is_the_time_derivative_of_the_interpolation():
    data, noise = row_noise((2, 5), 1, "data").double(), row_noise((2, 5), 1, "noise").double()
    early, late = torch.full((2,), 0.3, dtype=torch.float64), torch.full((2,), 0.31, dtype=torch.float64)
    slope = (interpolate(data, noise, late) - interpolate(data, noise, early)) / 0.01
    torch.testing.assert_close(velocity_target(data, noise), slope)


@pytest.mark.parametrize("steps", [1, 7, 25])
def test_a_constant_velocity_is_integrated_exactly_and_against_time(steps):
    """a_0 = a_1 - v: the sign of time decides between a_1 - v and a_1 + v."""
    noise = row_noise((2, 3, 4), 2)
    velocity = row_noise((2, 3, 4), 3)
    end = sample_euler(lambda latents, t: velocity, noise, steps=steps)
    torch.testing.assert_close(end, noise - velocity)


def test_the_true_velocity_of_one_pair_leads_from_its_noise_to_its_data():
    data, noise = row_noise((4, 6), 4, "data"), row_noise((4, 6), 4, "noise")
    end = sample_euler(lambda latents, t: velocity_target(data, noise), noise, steps=10)
    torch.testing.assert_close(end, data)


def test_a_linear_velocity_matches_the_product_of_its_euler_factors():
    """v = k a gives a_0 = a_1 (1 - k/n)^n with n steps."""
    noise = row_noise((2, 8), 5).double()
    end = sample_euler(lambda latents, t: 0.7 * latents, noise, steps=20)
    torch.testing.assert_close(end, noise * (1 - 0.7 / 20) ** 20, rtol=1e-6, atol=1e-9)


def test_a_velocity_linear_in_time_sums_over_the_left_points_of_the_grid():
    """v = t gives a_0 = a_1 - (1 + 1/n)/2: Euler takes t at the noisier end of each step, so never t = 0."""
    noise = torch.zeros(1, 1, dtype=torch.float64)
    seen = []

    def velocity(latents, t_B):
        seen.append(t_B.item())
        return t_B[:, None].double()

    end = sample_euler(velocity, noise, steps=8)
    assert end.item() == pytest.approx(-(1 + 1 / 8) / 2)
    assert seen[0] == 1.0
    assert min(seen) == 1 / 8
    assert seen == sorted(seen, reverse=True)


def test_the_exact_gaussian_velocity_samples_the_data_distribution():
    """Data N(1, 1/4): E[eps - a_0 | a_t] is known in closed form; 400 Euler steps keep mean and variance."""
    mean, variance = 1.0, 0.25

    def velocity(latents, t_B):
        t = t_B[:, None].double()
        spread = (1 - t) ** 2 * variance + t**2
        centred = latents - (1 - t) * mean
        return t / spread * centred - (mean + (1 - t) * variance / spread * centred)

    noise = row_noise((200_000, 1), 6).double()
    end = sample_euler(velocity, noise, steps=400)
    assert end.mean().item() == pytest.approx(mean, abs=5e-3)
    assert end.var().item() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("steps", [3, 5, 12, 25])
def test_the_grid_reversed_is_the_uniform_float32_grid_to_the_last_bit(steps):
    upstream = torch.linspace(0, 1, steps + 1)
    assert torch.equal((1 - time_grid(steps)).float(), upstream)
    steps_taken = torch.tensor(
        [after - now for now, after in zip(time_grid(steps)[:-1], time_grid(steps)[1:], strict=True)]
    )
    assert torch.equal(-steps_taken.float(), upstream[1:] - upstream[:-1])


def test_sampling_without_a_step_is_refused():
    with pytest.raises(ValueError, match="steps"):
        sample_euler(lambda latents, t: latents, torch.zeros(1, 1), steps=0)


def _both(latents, t_B):
    """Rows of the first half are conditional (a + t), those of the second half empty (2 a)."""
    half = latents.shape[0] // 2
    return torch.cat([latents[:half] + t_B[:half, None], 2 * latents[half:]])


def test_guidance_extrapolates_from_the_empty_through_the_conditional_velocity():
    latents, t_B = torch.tensor([[1.0], [3.0]]), torch.tensor([0.5, 0.25])
    conditional, empty = latents + t_B[:, None], 2 * latents
    velocity = guided(_both, 4.5)(latents, t_B)
    torch.testing.assert_close(velocity, empty + 4.5 * (conditional - empty))


def test_guidance_takes_one_forward_pass_on_the_doubled_batch():
    rows = []

    def velocity_of_both(latents, t_B):
        rows.append((latents.shape[0], t_B.shape[0]))
        return _both(latents, t_B)

    guided(velocity_of_both, 2.0)(torch.ones(3, 1), torch.ones(3))
    assert rows == [(6, 6)]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_without_guidance_only_the_conditional_rows_are_evaluated(scale):
    rows = []

    def conditional(latents, t_B):
        rows.append(latents.shape[0])
        return latents + 1

    assert not is_guided(scale)
    assert torch.equal(guided(conditional, scale)(torch.ones(3, 1), torch.ones(3)), torch.full((3, 1), 2.0))
    assert rows == [3]
