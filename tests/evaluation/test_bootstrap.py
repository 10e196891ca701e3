import numpy as np
import pytest

from v2a_dpo.evaluation.bootstrap import (
    difference,
    interval,
    resample_counts,
    resample_indices,
    resampled_means,
)


def test_counts_say_how_often_each_clip_was_drawn():
    indices = resample_indices(9, resamples=4, seed=0)
    expected = [[list(row).count(clip) for clip in range(9)] for row in indices]
    np.testing.assert_array_equal(resample_counts(indices), expected)


def test_means_leave_missing_values_out():
    values = np.array([1.0, np.nan, 5.0])
    indices = np.array([[0, 1, 2], [1, 1, 2], [1, 1, 1]], dtype=np.int32)
    np.testing.assert_allclose(resampled_means(values, indices), [3.0, 5.0, np.nan])


def test_intervals_cover_the_true_mean_about_as_often_as_they_claim():
    generator = np.random.default_rng(6)
    covered = 0
    for trial in range(400):
        values = generator.exponential(size=60)
        indices = resample_indices(60, resamples=400, seed=trial)
        found = interval(values.mean(), resampled_means(values, indices), confidence=0.9)
        covered += found.low <= 1.0 <= found.high
    # Standard error of the share: 1.5%; percentile intervals of a skewed mean fall a little short.
    assert 0.84 <= covered / 400 <= 0.94


def test_paired_differences_are_far_tighter_than_unpaired_ones_when_clips_vary():
    generator = np.random.default_rng(7)
    base = generator.normal(scale=5.0, size=100)
    aligned = base + 0.5 + generator.normal(scale=0.5, size=100)
    indices = resample_indices(100, resamples=1000, seed=8)
    base_R, aligned_R = resampled_means(base, indices), resampled_means(aligned, indices)
    change = difference(aligned.mean() - base.mean(), aligned_R - base_R, confidence=0.95, higher_is_better=True)
    alone = interval(aligned.mean(), aligned_R, confidence=0.95)
    assert change.high - change.low < 0.2 * (alone.high - alone.low)
    assert change.low > 0
    assert change.p_better == pytest.approx(1 / 1001)


def test_probabilities_follow_the_metrics_direction():
    resampled = np.linspace(0.1, 2.0, 99)
    up = difference(1.05, resampled, confidence=0.95, higher_is_better=True)
    down = difference(1.05, resampled, confidence=0.95, higher_is_better=False)
    assert (up.p_better, down.p_better) == (pytest.approx(0.01), pytest.approx(1.0))
    assert up.p_two_sided == down.p_two_sided == pytest.approx(0.02)


def test_no_difference_at_all_is_never_an_improvement():
    change = difference(0.0, np.zeros(500), confidence=0.95, higher_is_better=True)
    assert (change.low, change.high, change.p_better, change.p_two_sided) == (0.0, 0.0, 1.0, 1.0)


def test_under_no_difference_small_probabilities_are_as_rare_as_they_should_be():
    generator = np.random.default_rng(9)
    small = 0
    for trial in range(400):
        gain = generator.normal(size=50)
        resampled = resampled_means(gain, resample_indices(50, resamples=300, seed=trial))
        small += difference(gain.mean(), resampled, confidence=0.95, higher_is_better=True).p_better < 0.1
    assert 0.06 <= small / 400 <= 0.15


def test_intervals_are_centred_so_that_a_biased_statistic_keeps_its_value_inside():
    found = interval(10.0, np.random.default_rng(0).normal(25.0, 1.0, size=2000), confidence=0.95)
    assert found.low == pytest.approx(10 - 1.96, abs=0.15)
    assert found.high == pytest.approx(10 + 1.96, abs=0.15)
