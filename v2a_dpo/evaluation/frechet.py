"""The Fréchet distance between two sets of features, exact and free of matrix square roots.

`FD = |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))` with unbiased covariances. For any factors with
`F1^T F1 = S1` and `F2^T F2 = S2` the last trace is the nuclear norm of `F1 F2^T` (the sum of its singular values),
which is exact for fewer samples than dimensions too, and never complex: nothing has to be dropped, and -1 never stands
for "it failed". Letters in array names: N samples, D dimensions, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Array

#: Multiplications for one covariance above which those of resamples are in single precision.
_SINGLE_PRECISION_FROM = 1 << 30
#: Variances below this share of the greatest one are rounding.
_NO_VARIANCE = 1e-13


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
    systems: Sequence[NDArray[np.floating]], other_ND: NDArray[np.floating], counts_RN: NDArray[np.integer]
) -> Array:
    """The Fréchet distances `[systems, R]` of the features of each system `[N, D]` and `other_ND`, on resamples.

    Resample r takes row n of all sets `counts_RN[r, n]` times. None is approximated: where N > D it costs a covariance
    of the distinct rows per set and one D x D eigenproblem per system, else the product of the distinct rows. Means and
    traces are in double precision; where `N D^2` exceeds 2^30, covariances are in single precision, along the principal
    axes of `other_ND` so that small variances do not drown in great ones. That moves a distance by
    less than a thousandth of its standard deviation over the resamples.
    """
    firsts, second = [_checked(features) for features in systems], _checked(other_ND)
    if len(second) > second.shape[1]:
        return _resampled_by_moments(firsts, second, counts_RN.astype(np.float64))
    return np.array([[_resampled_by_gram(first, second, counts) for counts in counts_RN] for first in firsts])


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


def _resampled_by_moments(firsts: Sequence[Array], second_ND: Array, counts_RN: Array) -> Array:
    rows, dimensions = second_ND.shape
    # The distance does not move with a common shift; centring first keeps the subtractions below well conditioned.
    origin = second_ND.mean(axis=0)
    second_ND, firsts = second_ND - origin, [first - origin for first in firsts]

    # The eigenvalues of S1 S2 are those of (A^T S1 A)(B^T S2 B) for A B^T = 1: with S2 = V L V^T and B = V L^(-1/2) the
    # second factor of a resample is about 1, and neither has directions that no row has.
    values, axes = np.linalg.eigh(second_ND.T @ second_ND / (rows - 1))
    varied = values > _NO_VARIANCE * values[-1]
    # The greatest variance first: a lower triangular factor then mixes only smaller ones into greater ones.
    axes, deviations = axes[:, varied][:, ::-1], np.sqrt(values[varied])[::-1]
    precision = np.float32 if rows * dimensions**2 > _SINGLE_PRECISION_FROM else np.float64
    loaded = [((first - first.mean(axis=0)) @ (axes * deviations)).astype(precision) for first in firsts]
    whitened_ND = (second_ND @ (axes / deviations)).astype(precision)
    roots_SR = np.array([_traces_of_root(loaded, whitened_ND, counts) for counts in counts_RN]).T

    means2, traces2 = _means_and_traces(second_ND, counts_RN)
    distances = []
    for first_ND, roots in zip(firsts, roots_SR, strict=True):
        means1, traces1 = _means_and_traces(first_ND, counts_RN)
        distances.append(np.square(means1 - means2).sum(axis=1) + traces1 + traces2 - 2 * roots)
    return np.clip(distances, 0.0, None)


def _means_and_traces(rows_ND: Array, counts_RN: Array) -> tuple[Array, Array]:
    """The mean `[R, D]` and the trace `[R]` of the covariance of each resample."""
    totals = counts_RN.sum(axis=1)
    means = counts_RN @ rows_ND / totals[:, None]
    squares = counts_RN @ np.square(rows_ND).sum(axis=1) - totals * np.square(means).sum(axis=1)
    return means, squares / (totals - 1)


def _traces_of_root(
    firsts: Sequence[NDArray[np.floating]], second_ND: NDArray[np.floating], counts_N: Array
) -> list[float]:
    """`tr((S1 S2)^(1/2))` of one resample's covariances, for each of the first sets."""
    taken = np.flatnonzero(counts_N)
    counts = counts_N[taken]
    factor = _square_factor(_covariance(second_ND[taken], counts))
    products = (factor.T @ _covariance(first[taken], counts) @ factor for first in firsts)
    values = (np.linalg.eigvalsh(product.astype(np.float64)) for product in products)
    return [float(np.sqrt(np.clip(each, 0.0, None)).sum()) for each in values]


def _covariance(rows_ND: NDArray[np.floating], counts_N: Array) -> NDArray[np.floating]:
    """The unbiased covariance of rows of which n stands there `counts_N[n]` times; `rows_ND` is overwritten."""
    total, scale = counts_N.sum(), np.sqrt(counts_N).astype(rows_ND.dtype)
    rows_ND *= scale[:, None]
    mean = scale @ rows_ND / rows_ND.dtype.type(total)
    covariance = rows_ND.T @ rows_ND
    covariance -= total * np.outer(mean, mean)
    covariance /= total - 1
    return covariance


def _square_factor(covariance_DD: NDArray[np.floating]) -> NDArray[np.floating]:
    """Some square F with `F F^T` the covariance."""
    try:
        return np.linalg.cholesky(covariance_DD)
    except np.linalg.LinAlgError:  # fewer distinct rows than dimensions
        values, axes = np.linalg.eigh(covariance_DD)
        factor: NDArray[np.floating] = axes * np.sqrt(np.clip(values, 0.0, None))
        return factor


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
