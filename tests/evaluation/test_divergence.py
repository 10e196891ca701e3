import numpy as np
import pytest

from v2a_dpo.evaluation.bootstrap import resample_indices
from v2a_dpo.evaluation.divergence import (
    inception_contributions,
    inception_score,
    kl_divergences,
    marginal,
    permutation,
    resampled_inception_scores,
)


def logits_of(*probabilities):
    return np.log(np.array(probabilities))


def test_kl_of_two_classes_is_the_hand_made_sum_and_not_symmetric():
    reference, generated = logits_of([0.75, 0.25]), logits_of([0.5, 0.5])
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert kl_divergences(reference + 7.0, generated)[0] == pytest.approx(expected, rel=1e-12)
    assert kl_divergences(generated, reference)[0] == pytest.approx(-0.5 * np.log(0.75), rel=1e-12)


def test_kl_of_certain_but_opposite_logits_stays_finite():
    assert kl_divergences(np.array([[500.0, 0.0]]), np.array([[0.0, 500.0]]))[0] == pytest.approx(500.0)


def test_inception_score_is_one_when_all_clips_sound_the_same():
    logits = np.tile(np.random.default_rng(0).normal(size=(1, 9)), (50, 1))
    assert inception_score(logits).mean == pytest.approx(1.0, abs=1e-12)


def test_inception_score_is_the_number_of_classes_when_they_are_certain_and_even():
    logits = np.repeat(np.eye(4), 25, axis=0) * 200
    assert inception_score(logits, chunks=1).mean == pytest.approx(4.0, rel=1e-9)
    # Sorted by class and left in order, each of four chunks holds one class only.
    assert inception_score(logits, chunks=4, permutation_seed=None).mean == pytest.approx(1.0, rel=1e-9)


def test_fewer_clips_than_chunks_make_one_chunk_instead_of_an_undefined_score():
    logits = np.repeat(np.eye(3), 3, axis=0) * 200
    assert inception_score(logits).mean == pytest.approx(3.0, rel=1e-9)


def test_golden_kl_and_inception_scores_are_reproduced(golden):
    reference, generated = golden["inputs.gt_logits"], golden["inputs.pred_logits"]
    divergences = kl_divergences(reference, generated[: len(reference)])
    np.testing.assert_allclose(divergences, golden["outputs.kl_softmax_per_sample"], rtol=2e-5, atol=1e-6)
    assert divergences.mean() == pytest.approx(float(golden["outputs.kl_softmax"]), rel=1e-5)
    for name, settings in {
        "10_shuffled_2020": {},
        "1_unshuffled": {"chunks": 1, "permutation_seed": None},
        "3_shuffled_7": {"chunks": 3, "permutation_seed": 7},
    }.items():
        score = inception_score(generated, **settings)
        assert score.mean == pytest.approx(float(golden[f"outputs.isc_{name}_mean"]), rel=1e-9)
        assert score.standard_deviation == pytest.approx(float(golden[f"outputs.isc_{name}_std"]), rel=1e-9, abs=1e-12)
    np.testing.assert_array_equal(permutation(64, seed=2020), golden["outputs.isc_permutation_2020"])
    np.testing.assert_allclose(marginal(reference), golden["outputs.marginal_from_gt"], rtol=1e-6)
    contributions = inception_contributions(generated, marginal(reference))
    np.testing.assert_allclose(contributions, golden["outputs.is_contribution_per_sample"], rtol=1e-5, atol=1e-7)


def test_contributions_to_the_own_marginal_average_to_the_one_chunk_score():
    logits = np.random.default_rng(1).normal(size=(30, 6)) * 3
    mean = inception_contributions(logits, marginal(logits)).mean()
    assert np.exp(mean) == pytest.approx(inception_score(logits, chunks=1).mean, rel=1e-12)


@pytest.mark.parametrize("count", [7, 33])
def test_resampled_scores_equal_those_of_copied_rows(count):
    logits = np.random.default_rng(2).normal(size=(count, 5)) * 2
    indices = resample_indices(count, resamples=6, seed=3)
    naive = [inception_score(logits[rows]).mean for rows in indices]
    np.testing.assert_allclose(resampled_inception_scores(logits, indices), naive, rtol=1e-12)
