import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation import frechet
from v2a_dpo.evaluation.bootstrap import resample_counts, resample_indices
from v2a_dpo.evaluation.frechet import frechet_distance, resampled_frechet_distances


def with_moments(mean, covariance, *, rows=200, seed=0):
    """Rows whose sample mean and unbiased covariance are exactly `mean` and `covariance`."""
    rows_ND = np.random.default_rng(seed).normal(size=(rows, len(mean)))
    rows_ND -= rows_ND.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(rows_ND.T @ rows_ND / (rows - 1)), rows_ND.T).T
    return white @ np.linalg.cholesky(covariance).T + np.array(mean)


def test_commuting_gaussians_have_the_textbook_distance():
    first = with_moments([1.0, -2.0, 0.5], np.diag([1.0, 4.0, 9.0]), seed=1)
    second = with_moments([0.0, 1.0, 0.5], np.diag([4.0, 0.25, 9.0]), seed=2)
    expected = (1 + 9 + 0) + (1 - 2) ** 2 + (2 - 0.5) ** 2 + 0
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_covariances_that_do_not_commute_agree_with_the_two_by_two_closed_form():
    covariance1, covariance2 = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    # For 2 x 2 matrices, tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    product = covariance1 @ covariance2
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 5.0 + np.trace(covariance1) + np.trace(covariance2) - 2 * root
    distance = frechet_distance(with_moments([1.0, 2.0], covariance1), with_moments([0.0, 0.0], covariance2, seed=1))
    assert distance == pytest.approx(expected, rel=1e-10)


def test_golden_distances_are_reproduced(golden):
    generated, reference = golden["inputs.pred_features"], golden["inputs.gt_features"]
    assert frechet_distance(generated, reference) == pytest.approx(float(golden["outputs.fd"]), rel=1e-6)
    assert frechet_distance(reference, generated) == pytest.approx(float(golden["outputs.fd_swapped"]), rel=1e-6)
    assert frechet_distance(reference, reference) == pytest.approx(0.0, abs=1e-9)
    few = frechet_distance(generated[:20], reference[:23])
    assert few == pytest.approx(float(golden["outputs.fd_rank_deficient"]), rel=1e-6)
    paired = frechet_distance(generated[golden["outputs.pair_pred_index"]], reference[golden["outputs.pair_gt_index"]])
    assert paired == pytest.approx(float(golden["outputs.fd_paired"]), rel=1e-6)


@pytest.mark.parametrize("dimensions", [5, 40])
def test_resampled_distances_equal_those_of_copied_rows(dimensions):
    generator = np.random.default_rng(4)
    first, second = generator.normal(size=(20, dimensions)) + 3, generator.normal(size=(20, dimensions)) * 2
    indices = resample_indices(20, resamples=7, seed=5)
    systems = [first, second[::-1] + generator.normal(size=dimensions)]
    naive = [[frechet_distance(system[rows], second[rows]) for rows in indices] for system in systems]
    fast = resampled_frechet_distances(systems, second, resample_counts(indices))
    np.testing.assert_allclose(fast, naive, rtol=1e-6)


def _uneven(rows, dimensions, *, seed):
    """Correlated features whose variances span ten orders of magnitude, one of them none at all."""
    generator = np.random.default_rng(seed)
    deviations = np.logspace(0, -5, dimensions)
    deviations[dimensions // 2] = 0.0
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dimensions, dimensions)))
    return generator.standard_t(5, size=(rows, dimensions)) * deviations @ axes.T


def test_single_precision_moves_a_resampled_distance_by_less_than_said(monkeypatch):
    first, second = _uneven(400, 24, seed=1) + 0.3, _uneven(400, 24, seed=2)
    counts = resample_counts(resample_indices(400, resamples=20, seed=5))
    exact = resampled_frechet_distances([first], second, counts)
    monkeypatch.setattr(frechet, "_SINGLE_PRECISION_FROM", 0)
    single = resampled_frechet_distances([first], second, counts)
    assert 0 < np.abs(single - exact).max() < 1e-3 * exact.std()


def test_resamples_of_few_distinct_rows_have_their_distance():
    """More rows than dimensions, but hardly more distinct ones: the covariances of resamples are singular."""
    first, second = (np.repeat(_uneven(14, 12, seed=seed), 2, axis=0) for seed in (1, 2))
    indices = resample_indices(28, resamples=9, seed=5)
    naive = [frechet_distance(first[rows], second[rows]) for rows in indices]
    fast = resampled_frechet_distances([first], second, resample_counts(indices))[0]
    np.testing.assert_allclose(fast, naive, rtol=1e-6)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((1, 3)), "no covariance"),
        (np.array([[0.0, np.nan, 1.0], [1.0, 2.0, 3.0]]), "not finite"),
        (np.zeros((5, 4)), "dimensions"),
    ],
)
def test_unusable_features_raise_instead_of_giving_a_number(features, message):
    with pytest.raises(UserError, match=message):
        frechet_distance(features, np.random.default_rng(0).normal(size=(6, 3)))
