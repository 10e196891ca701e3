"""Bootstrap intervals over clips, and paired differences on the same resamples.

A resample draws N clips with replacement; all systems and every metric see the same draws, so what the clips have in
common cancels in a difference. Intervals are percentiles of the resampled values, moved so that their mean is the
value itself: set metrics such as FD and the Inception Score depend on how many distinct clips there are, and a
resample always has fewer; for plain means the move is within the simulation error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int32]

_BATCH_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its confidence interval, in the value's unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference, a system minus the reference system.

    `p_better` is the one-sided probability, under the hypothesis of no improvement, of a difference this good;
    `p_two_sided` that of a difference this large in either direction. Neither can be smaller than 1 / (R + 1).
    """

    p_better: float
    p_two_sided: float


def resample_indices(num_clips: int, *, resamples: int, seed: int) -> Indices:
    """The clips `[R, N]` of each resample, by their positions; the same arguments always give the same draws."""
    generator = np.random.default_rng(seed)
    return generator.integers(num_clips, size=(resamples, num_clips), dtype=np.int32)


def resample_counts(indices_RN: Indices) -> NDArray[np.int32]:
    """How often each resample takes each clip `[R, N]`."""
    resamples, count = indices_RN.shape
    flat = (np.arange(resamples, dtype=np.int64)[:, None] * count + indices_RN).ravel()
    return np.bincount(flat, minlength=resamples * count).reshape(resamples, count).astype(np.int32)


def resampled_means(values_N: Array, indices_RN: Indices) -> Array:
    """The means `[R]` over each resample; a missing value (NaN) is left out, a resample of nothing else gives NaN."""
    present = np.isfinite(values_N)
    filled = np.where(present, values_N, 0.0)
    batch = max(1, _BATCH_ELEMENTS // max(1, indices_RN.shape[1]))
    means = np.empty(len(indices_RN))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(indices_RN), batch):
            drawn = indices_RN[start : start + batch]
            means[start : start + batch] = filled[drawn].sum(axis=1) / present[drawn].sum(axis=1)
    return means


def interval(value: float, resampled_R: Array, *, confidence: float) -> Interval:
    """The interval of `value` from its resampled values; see the module's text for the centring."""
    low, high = _percentiles(_centred(value, resampled_R), confidence)
    return Interval(value, low, high)


def difference(value: float, resampled_R: Array, *, confidence: float, higher_is_better: bool) -> Difference:
    """The interval of the paired difference `value`, with its probabilities under no difference.

    A resampled difference of exactly zero counts against an improvement.
    """
    centred = _centred(value, resampled_R)
    low, high = _percentiles(centred, confidence)
    below, above = _share(centred <= 0), _share(centred >= 0)
    return Difference(value, low, high, below if higher_is_better else above, min(1.0, 2 * min(below, above)))


def _centred(value: float, resampled_R: Array) -> Array:
    finite = resampled_R[np.isfinite(resampled_R)]
    return finite - finite.mean() + value


def _percentiles(values_R: Array, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return float(low), float(high)


def _share(condition_R: NDArray[np.bool_]) -> float:
    return float((condition_R.sum() + 1) / (len(condition_R) + 1))
