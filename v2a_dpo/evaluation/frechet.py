"""The Fréchet distance between two sets of features, exact in float64 and free of matrix square roots.

`FD = |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))` with unbiased covariances. For any factors with
`F1^T F1 = S1` and `F2^T F2 = S2` the last trace is the nuclear norm of `F1 F2^T` (the sum of its singular values), which
is exact for fewer samples than dimensions too, and never complex: nothing has to be dropped, and -1 never stands for
"it failed". Letters in array names: N samples, D dimensions, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.errors import UserError

Array = NDArray[np.float64]

#: Bytes of covariance matrices held at once while resampling.
_BATCH_BYTES = 64 << 20


def frechet_distance(features_ND: NDArray[np.floating], other_ND: NDArray[np.floating]) -> float:
    """The Fréchet distance between the Gaussians fitted to two feature sets, 0 or more; symmetric in its arguments.

    It grows as N falls, so only distances of equal N compare. Raises UserError for fewer than two samples, unequal
    dimensions and values that are not finite.
    """
    first, second = _checked(features_ND), _checked(other_ND)
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"The feature sets have {first.shape[1]} and {second.shape[1]} dimensions.",
            where="Fréchet distance",
            remedy="Take both from the same tagger.",
        )
    mean1, mean2 = first.mean(axis=0), second.mean(axis=0)
    factor1, factor2 = _factor(first - mean1), _factor(second - mean2)
    nuclear_norm = np.linalg.svd(factor1 @ factor2.T, compute_uv=False).sum()
    distance = np.square(mean1 - mean2).sum() + np.square(factor1).sum() + np.square(factor2).sum() - 2 * nuclear_norm
    return float(max(distance, 0.0))


def resampled_frechet_distances(
    features_ND: NDArray[np.floating], other_ND: NDArray[np.floating], counts_RN: NDArray[np.integer]
) -> Array:
    """The Fréchet distances `[R]` of resamples that take row n of both sets `counts_RN[r, n]` times.

    Moments of the resamples come from weighted products with the N rows, so a resample costs one D x D
    eigenproblem, or, where N < D, one of the distinct rows' Gram matrix; no features are copied.
    """
    first, second = _checked(features_ND), _checked(other_ND)
    if first.shape[0] > first.shape[1]:
        return _resampled_by_moments(first, second, counts_RN.astype(np.float64))
    return np.array([_resampled_by_gram(first, second, counts) for counts in counts_RN])


def _checked(features_ND: NDArray[np.floating]) -> Array:
    features = np.asarray(features_ND, dtype=np.float64)
    if features.ndim != 2 or features.shape[0] < 2:
        raise UserError(
            f"A feature set of shape {features.shape} has no covariance.",
            where="Fréchet distance",
            remedy="Evaluate two clips or more.",
        )
    if not np.isfinite(features).all():
        raise UserError(
            "The features hold values that are not finite.",
            where="Fréchet distance",
            remedy="Look for clips whose audio is broken; score and evaluate put such clips into quarantine.",
        )
    return features


def _factor(centred_ND: Array) -> Array:
    """Some F with `F^T F` the covariance, with at most D rows."""
    rows, dimensions = centred_ND.shape
    factor = centred_ND if rows <= dimensions else np.linalg.qr(centred_ND, mode="r")
    return factor / np.sqrt(rows - 1)


def _square_roots(covariances_RDD: Array) -> Array:
    values, vectors = np.linalg.eigh(covariances_RDD)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]) @ vectors.swapaxes(1, 2)


def _distances(means1_RD: Array, roots1_RDD: Array, means2_RD: Array, covariances2_RDD: Array) -> Array:
    values = np.linalg.eigvalsh(roots1_RDD @ covariances2_RDD @ roots1_RDD)
    trace_of_root = np.sqrt(np.clip(values, 0.0, None)).sum(axis=1)
    traces = np.square(roots1_RDD).sum(axis=(1, 2)) + np.trace(covariances2_RDD, axis1=1, axis2=2)
    distances = np.square(means1_RD - means2_RD).sum(axis=1) + traces - 2 * trace_of_root
    return np.clip(distances, 0.0, None)


def _resampled_by_moments(first_ND: Array, second_ND: Array, counts_RN: Array) -> Array:
    dimensions = first_ND.shape[1]
    # The distance does not move with a common shift; centring first keeps the subtraction below well conditioned.
    origin = second_ND.mean(axis=0)
    sets = (first_ND - origin, second_ND - origin)
    batch = max(1, _BATCH_BYTES // (8 * dimensions * dimensions))
    distances = []
    for start in range(0, len(counts_RN), batch):
        counts = counts_RN[start : start + batch]
        (means1, covariances1), (means2, covariances2) = (_weighted_moments(rows, counts) for rows in sets)
        distances.append(_distances(means1, _square_roots(covariances1), means2, covariances2))
    return np.concatenate(distances)


def _weighted_moments(rows_ND: Array, counts_RN: Array) -> tuple[Array, Array]:
    totals = counts_RN.sum(axis=1)
    means = counts_RN @ rows_ND / totals[:, None]
    products = np.stack([rows_ND.T @ (rows_ND * counts[:, None]) for counts in counts_RN])
    outer = means[:, :, None] * means[:, None, :]
    return means, (products - totals[:, None, None] * outer) / (totals - 1)[:, None, None]


def _resampled_by_gram(first_ND: Array, second_ND: Array, counts_N: NDArray[np.integer]) -> float:
    taken = np.flatnonzero(counts_N)
    counts = counts_N[taken].astype(np.float64)
    total, scale = counts.sum(), np.sqrt(counts)[:, None]
    means = [counts @ rows[taken] / total for rows in (first_ND, second_ND)]
    factors = [scale * (rows[taken] - mean) for rows, mean in zip((first_ND, second_ND), means, strict=True)]
    nuclear_norm = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    traces = sum(float(np.square(factor).sum()) for factor in factors)
    distance = np.square(means[0] - means[1]).sum() + (traces - 2 * nuclear_norm) / (total - 1)
    return float(max(distance, 0.0))
