"""Metrics of predicted label probabilities: confusion, calibration, ranking. Letters: R rows, K labels."""

from __future__ import annotations

from typing import Any

import numpy as np


def confusion_matrix(true_R: np.ndarray, predicted_R: np.ndarray, num_labels: int) -> np.ndarray:
    """Counts `[K, K]`: row = true label, column = predicted label."""
    counts = np.bincount(true_R * num_labels + predicted_R, minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels)


def cross_entropy(probabilities_RK: np.ndarray, true_R: np.ndarray) -> float:
    """The mean negative log-probability of the true labels, in nats."""
    of_label_R = probabilities_RK[np.arange(len(true_R)), true_R]
    return float(-np.log(np.maximum(of_label_R, np.finfo(np.float32).tiny)).mean())


def calibration(probability_R: np.ndarray, happened_R: np.ndarray, *, bins: int = 10) -> dict[str, Any]:
    """The reliability curve of predicted probabilities and its expected calibration error.

    Equal-width bins over [0, 1]; an empty one has null for its means. The error is the mean over rows of
    |mean probability - observed frequency| of the row's bin (Guo et al. 2017).
    """
    index_R = np.minimum((probability_R * bins).astype(int), bins - 1)
    counts = np.bincount(index_R, minlength=bins)
    mean_probability = np.bincount(index_R, weights=probability_R, minlength=bins) / np.maximum(counts, 1)
    frequency = np.bincount(index_R, weights=happened_R, minlength=bins) / np.maximum(counts, 1)
    curve = [
        {
            "from": bin_ / bins,
            "to": (bin_ + 1) / bins,
            "count": int(counts[bin_]),
            "mean_probability": float(mean_probability[bin_]) if counts[bin_] else None,
            "frequency": float(frequency[bin_]) if counts[bin_] else None,
        }
        for bin_ in range(bins)
    ]
    error = float((counts * np.abs(mean_probability - frequency)).sum() / max(counts.sum(), 1))
    return {"bins": curve, "expected_calibration_error": error}


def rank_correlation(predicted_R: np.ndarray, true_R: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one side is constant."""
    if len(np.unique(predicted_R)) < 2 or len(np.unique(true_R)) < 2:
        return None
    from scipy.stats import spearmanr  # its import takes a second

    return float(spearmanr(predicted_R, true_R).statistic)


def pair_accuracy(predicted_R: np.ndarray, true_R: np.ndarray, group_R: np.ndarray) -> float | None:
    """The share of pairs of one group with different `true` values that `predicted` orders alike.

    Equal predictions count half. None where no group has two different values.
    """
    right, pairs = 0.0, 0
    for group in np.unique(group_R):
        rows = group_R == group
        true_difference = np.subtract.outer(true_R[rows], true_R[rows])
        difference = np.subtract.outer(predicted_R[rows], predicted_R[rows])[true_difference > 0]
        right += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        pairs += difference.size
    return right / pairs if pairs else None
