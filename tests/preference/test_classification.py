"""Measures of label probabilities against values worked out by hand."""

import numpy as np
import pytest

from v2a_dpo.preference.classification import (
    calibration,
    confusion_matrix,
    cross_entropy,
    pair_accuracy,
    rank_correlation,
)


def test_confusion_counts_true_labels_in_rows_and_predictions_in_columns():
    true, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 2, 1, 2, 0])
    assert confusion_matrix(true, predicted, 3).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_cross_entropy_is_the_mean_surprise_at_the_true_label():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    assert cross_entropy(probabilities, np.array([1, 1])) == pytest.approx((np.log(4) + np.log(1.25)) / 2)


def test_calibration_error_weighs_each_bin_by_its_rows():
    """Two rows at .9 that both happened (gap .1), two at .25 of which one did (gap .25): error (2*.1 + 2*.25) / 4."""
    result = calibration(np.array([0.9, 0.9, 0.25, 0.25]), np.array([True, True, True, False]), bins=10)
    assert result["expected_calibration_error"] == pytest.approx(0.175)
    assert result["bins"][9] == pytest.approx(
        {"from": 0.9, "to": 1.0, "count": 2, "mean_probability": 0.9, "frequency": 1.0}
    )
    assert result["bins"][0]["frequency"] is None


def test_certainty_falls_into_the_last_bin():
    assert calibration(np.array([1.0]), np.array([True]), bins=4)["bins"][3]["count"] == 1


def test_rank_correlation_sees_order_only_and_is_undefined_for_constants():
    assert rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0, 1, 2])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 1.0, 1.0]), np.array([0, 1, 2])) is None


def test_pair_accuracy_compares_inside_a_group_and_counts_ties_one_half():
    predicted, true = np.array([3.0, 1.0, 2.0, 0.0, 0.0]), np.array([2, 1, 0, 1, 0])
    group = np.array(["a", "a", "a", "b", "b"])
    # Pairs: a: (2,1) right, (2,0) right, (1,0) wrong; b: a tie.
    assert pair_accuracy(predicted, true, group) == pytest.approx(2.5 / 4)
    assert pair_accuracy(predicted, np.zeros(5), group) is None
