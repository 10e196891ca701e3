"""What is measured on a tagger's class logits: KL divergence to the real audio and the Inception Score.

Softmax is applied to both taggers' logits, as in the published numbers, although the networks were trained with
sigmoids. Letters in array names: N clips, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from v2a_dpo.evaluation.bootstrap import Array

#: The published Inception Scores are means over ten chunks of the clips in this generator's order.
CHUNKS = 10
PERMUTATION_SEED = 2020
#: Elements of chunk marginals held at once while resampling.
_BATCH_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class InceptionScore:
    """Mean and population standard deviation of the score over chunks; 1 at least, the number of classes at most."""

    mean: float
    standard_deviation: float


def kl_divergences(real_logits_NC: NDArray[np.floating], generated_logits_NC: NDArray[np.floating]) -> Array:
    """KL(softmax(real) || softmax(generated)) of each clip in nats `[N]`, in log space without an epsilon."""
    real = log_softmax(real_logits_NC.astype(np.float64), axis=1)
    generated = log_softmax(generated_logits_NC.astype(np.float64), axis=1)
    return np.asarray((np.exp(real) * (real - generated)).sum(axis=1))


def marginal(logits_NC: NDArray[np.floating]) -> Array:
    """The mean softmax `[C]` of a set of clips."""
    return np.asarray(softmax(logits_NC.astype(np.float64), axis=1).mean(axis=0))


def inception_contributions(logits_NC: NDArray[np.floating], marginal_C: Array) -> Array:
    """KL(softmax || marginal) of each clip in nats `[N]`.

    With the set's own marginal, exp of the mean is the Inception Score of one chunk.
    """
    log_probabilities = log_softmax(logits_NC.astype(np.float64), axis=1)
    return np.asarray((np.exp(log_probabilities) * (log_probabilities - np.log(marginal_C))).sum(axis=1))


def inception_score(
    logits_NC: NDArray[np.floating], *, chunks: int = CHUNKS, permutation_seed: int | None = PERMUTATION_SEED
) -> InceptionScore:
    """The Inception Score as published: rows permuted by the legacy generator, cut into chunks, averaged.

    The score grows with the size of a chunk, so only sets of equal N compare. With fewer clips than chunks, where the
    published code gives NaN, all clips are one chunk. A `permutation_seed` of None leaves the order alone.
    """
    count = len(logits_NC)
    order = np.arange(count) if permutation_seed is None else permutation(count, seed=permutation_seed)
    scores = _chunk_scores(logits_NC, order[None], chunks)[0]
    return InceptionScore(float(scores.mean()), float(scores.std()))


def resampled_inception_scores(
    logits_NC: NDArray[np.floating], indices_RN: NDArray[np.integer], *, chunks: int = CHUNKS
) -> Array:
    """The Inception Scores `[R]` of resamples that take the rows `indices_RN[r]`, permuted and cut as the set
    itself."""
    count, classes = logits_NC.shape
    order = permutation(indices_RN.shape[1], seed=PERMUTATION_SEED)
    batch = max(1, _BATCH_ELEMENTS // (chunks * classes + count))
    parts = [
        _chunk_scores(logits_NC, indices_RN[start : start + batch][:, order], chunks).mean(axis=1)
        for start in range(0, len(indices_RN), batch)
    ]
    return np.concatenate(parts)


def permutation(count: int, *, seed: int) -> NDArray[np.int64]:
    """The order of `count` rows by NumPy's legacy generator, which the published numbers depend on."""
    return np.random.RandomState(seed).permutation(count).astype(np.int64)


def _chunk_scores(logits_NC: NDArray[np.floating], indices_RN: NDArray[np.integer], chunks: int) -> Array:
    """The scores `[R, chunks]`.

    A chunk's mean of sum p (log p - log q) is its mean of sum p log p minus sum q log q, so chunk marginals suffice,
    and those are one sparse product.
    """
    resamples, count = indices_RN.shape
    chunks = chunks if count >= chunks else 1
    log_probabilities = log_softmax(logits_NC.astype(np.float64), axis=1)
    probabilities = np.exp(log_probabilities)
    bounds = np.arange(chunks + 1) * count // chunks
    sizes = np.diff(bounds)
    chunk_of_place = np.repeat(np.arange(chunks), sizes)
    rows = np.arange(resamples)[:, None] * chunks + chunk_of_place
    weights = np.broadcast_to(1.0 / sizes[chunk_of_place], indices_RN.shape)
    averaging = scipy.sparse.csr_matrix(
        (weights.ravel(), (rows.ravel(), indices_RN.ravel())), shape=(resamples * chunks, len(logits_NC))
    )
    negative_entropies = averaging @ (probabilities * log_probabilities).sum(axis=1)
    marginals = averaging @ probabilities
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(marginals > 0, marginals * np.log(marginals), 0.0)
    return np.asarray(np.exp(negative_entropies - terms.sum(axis=1)).reshape(resamples, chunks))
