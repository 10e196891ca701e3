"""The metrics of the paper's Table 1 and a few more: name, direction, and how systems compare with a reference system.

| metric | source | direction |
| --- | --- | --- |
| FD (PaSST) | Fréchet distance of PaSST embeddings, paired clips | lower |
| KL (PANNs), KL (PaSST) | KL(real || generated) of softmaxed logits, mean over clips | lower |
| IS | Inception Score of PANNs logits, ten chunks | higher |
| IB-score | 100 x mean cosine of ImageBind embeddings of video and audio | higher |
| DeSync | mean absolute offset in seconds, Synchformer | lower |
| CLAP | mean cosine of CLAP embeddings of prompt and audio | higher |
| quality, win rate | a rater's; only where one can judge every candidate | higher |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import (
    Array,
    Difference,
    Interval,
    difference,
    interval,
    resample_counts,
    resample_indices,
    resampled_means,
)
from v2a_dpo.evaluation.divergence import (
    inception_contributions,
    inception_score,
    kl_divergences,
    marginal,
    resampled_inception_scores,
)
from v2a_dpo.evaluation.frechet import frechet_distance, resampled_frechet_distances
from v2a_dpo.evaluation.systems import SystemClips
from v2a_dpo.randomness import row_seed

#: A value and its resampled values `[R]`.
Estimate = tuple[float, Array]


@dataclass(frozen=True)
class Metric:
    """A metric's key in artifacts, its title in tables, unit ("" for none), direction, and decimals shown."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    decimals: int


#: The paper's columns in the paper's order, then ours.
METRICS = (
    Metric("fd_passt", "FD (PaSST)", "", False, 2),
    Metric("kl_panns", "KL (PANNs)", "", False, 2),
    Metric("kl_passt", "KL (PaSST)", "", False, 2),
    Metric("inception_score", "IS", "", True, 2),
    Metric("ib_score", "IB-score", "", True, 2),
    Metric("desync_s", "DeSync", "s", False, 3),
    Metric("clap_score", "CLAP", "", True, 3),
    Metric("rater_quality", "Rater's quality", "", True, 3),
)
WIN_RATE = Metric("win_rate", "Win rate", "", True, 3)
#: Metrics of all clips together.
SET_METRICS = ("fd_passt", "inception_score")
#: The numbers per clip; all but a clip's part of a one-chunk Inception Score are metrics as means over clips.
PER_CLIP_VALUES = (
    "kl_panns",
    "kl_passt",
    "inception_contribution",
    "ib_score",
    "desync_s",
    "clap_score",
    "rater_quality",
)
PER_CLIP = tuple(name for name in PER_CLIP_VALUES if name != "inception_contribution")


@dataclass(frozen=True)
class BootstrapSettings:
    """How uncertainty is estimated: resamples of the clips, fewer of them for FD, level of confidence, seed."""

    resamples: int
    fd_resamples: int
    confidence: float
    seed: int

    @staticmethod
    def of(params: Params) -> BootstrapSettings:
        """The bootstrap of `params`, seeded by its root seed."""
        config = params.evaluate
        return BootstrapSettings(
            resamples=config.bootstrap_samples,
            fd_resamples=min(config.fd_bootstrap_samples, config.bootstrap_samples),
            confidence=config.confidence,
            seed=row_seed(params.seed, "evaluation", "bootstrap"),
        )


@dataclass(frozen=True)
class WinRate(Difference):
    """The share of `clips` where the rater prefers a system to the reference system, ties counting one half.

    It is tested against one half. A clip that only one of the two systems failed on is lost by that one.
    """

    clips: int


@dataclass(frozen=True)
class Comparison:
    """The metrics of any number of systems on the same clips, and their paired differences to the system `reference`.

    `systems` maps system -> metric key -> interval. `differences` (system minus `reference`) and `win_rate` map the
    other systems; metrics no clip has are absent, and without ratings `win_rate` is empty. `counts` maps a metric's key
    to the number of clips it rests on, `failed` a system to the number of further clips on which it made no usable
    sound although another system did, and `bootstrap` is how the intervals were made. `levels` maps `real` and the
    systems -> key of LEVELS, None where no clip has it; it is empty where no sound was at hand.
    """

    clips: int
    reference: str
    systems: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Difference]]
    win_rate: dict[str, WinRate]
    counts: dict[str, int]
    failed: dict[str, int]
    bootstrap: BootstrapSettings
    levels: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def others(self) -> list[str]:
        """The systems but the reference system, in order."""
        return list(self.differences)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, the content of `metrics.json`."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Comparison:
        """The comparison from what `to_dict` gave; raises UserError when an earlier release gave it."""
        try:
            return _COMPARISON.validate_python(content)
        except ValidationError as error:
            reason = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
            raise UserError(
                f"These metrics are of an earlier release: {reason}.",
                where="metrics.json",
                remedy="Evaluate again, and register the model again where it was registered.",
            ) from error


_COMPARISON = TypeAdapter(Comparison)


def evaluated_clips(real: SystemClips, system: SystemClips, clip_ids: Sequence[str]) -> SystemClips:
    """All that the metrics need of `system`, for clips that the real audio has too.

    The columns are PER_CLIP_VALUES `[N]`, NaN where a clip has none (`inception_contribution` against the real audio's
    marginal), `passt_embedding` and `real_passt_embedding` for FD, and `panns_logits` for the Inception Score.
    """
    real_columns, columns = (source.select(clip_ids).columns for source in (real, system))
    real_logits = real_columns["panns_logits"]
    evaluated = {
        "kl_panns": kl_divergences(real_logits, columns["panns_logits"]),
        "kl_passt": kl_divergences(real_columns["passt_logits"], columns["passt_logits"]),
        "inception_contribution": inception_contributions(columns["panns_logits"], marginal(real_logits)),
        "ib_score": 100.0 * columns["imagebind"].astype(np.float64),
        "desync_s": columns["desync"].astype(np.float64),
        "clap_score": columns["clap"].astype(np.float64),
        "rater_quality": columns["quality"].astype(np.float64),
        "passt_embedding": columns["passt_embedding"],
        "panns_logits": columns["panns_logits"],
        "real_passt_embedding": real_columns["passt_embedding"],
    }
    return SystemClips(list(clip_ids), evaluated)


def compare(
    systems: Mapping[str, SystemClips],
    settings: BootstrapSettings,
    *,
    reference: str,
    failed: Mapping[str, Collection[str]] | None = None,
) -> Comparison:
    """The metrics of `systems`, and each one's differences to the system called `reference`.

    `systems` are the results of `evaluated_clips`, with the same clips in the same rows. A metric that is a mean over
    clips is taken over the clips for which all systems have a number. `failed` maps every system to the further clips
    on which it made no usable sound; those that all systems failed on count for none.
    """
    estimates, counts = _estimates(systems, systems[reference].columns["real_passt_embedding"], settings)
    others = [name for name in systems if name != reference]
    quality = _numbers(systems, "rater_quality") if "rater_quality" in counts else {}
    failed = failed or dict.fromkeys(systems, ())
    failures = {name: frozenset(failed[name]) for name in systems}
    by_all = frozenset.intersection(*failures.values())
    win_rate = {}
    for name in others if quality else []:
        lost, won = len(failures[name] - failures[reference]), len(failures[reference] - failures[name])
        win_rate[name] = _win_rate(quality[name] - quality[reference], lost, won, settings)
    return Comparison(
        len(systems[reference].clip_ids),
        reference,
        {name: _intervals(estimates[name], settings) for name in systems},
        {name: _differences(estimates[name], estimates[reference], settings) for name in others},
        win_rate,
        counts=counts,
        failed={name: len(clip_ids - by_all) for name, clip_ids in failures.items()},
        bootstrap=settings,
    )


def _estimates(
    systems: Mapping[str, SystemClips], real_embedding_ND: NDArray[np.floating], settings: BootstrapSettings
) -> tuple[dict[str, dict[str, Estimate]], dict[str, int]]:
    """By system and metric the value and its resampled values `[R]`, and on how many clips each metric rests."""
    count = len(real_embedding_ND)
    indices = resample_indices(count, resamples=settings.resamples, seed=settings.seed)
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in systems}
    counts = dict.fromkeys(SET_METRICS, count)
    for key in PER_CLIP:
        for name, numbers_N in _numbers(systems, key).items():
            if present := int(np.isfinite(numbers_N).sum()):
                counts[key] = present
                estimates[name][key] = (float(np.nanmean(numbers_N)), resampled_means(numbers_N, indices))
    embeddings = [system.columns["passt_embedding"] for system in systems.values()]
    drawn = resample_counts(indices[: settings.fd_resamples])
    distances = resampled_frechet_distances(embeddings, real_embedding_ND, drawn)
    for (name, system), embedding, distances_R in zip(systems.items(), embeddings, distances, strict=True):
        logits = system.columns["panns_logits"]
        estimates[name]["fd_passt"] = (frechet_distance(embedding, real_embedding_ND), distances_R)
        estimates[name]["inception_score"] = (
            inception_score(logits).mean,
            resampled_inception_scores(logits, indices),
        )
    return estimates, counts


def _numbers(systems: Mapping[str, SystemClips], key: str) -> dict[str, Array]:
    """Each system's numbers `[N]`; a clip that one system has none for is NaN in all, as means would not compare."""
    columns = {name: system.columns[key] for name, system in systems.items()}
    present = np.logical_and.reduce([np.isfinite(column) for column in columns.values()])
    return {name: np.where(present, column, np.nan) for name, column in columns.items()}


def _intervals(estimates: Mapping[str, Estimate], settings: BootstrapSettings) -> dict[str, Interval]:
    present = [metric.key for metric in METRICS if metric.key in estimates]
    return {key: interval(*estimates[key], confidence=settings.confidence) for key in present}


def _differences(
    system: Mapping[str, Estimate], reference: Mapping[str, Estimate], settings: BootstrapSettings
) -> dict[str, Difference]:
    differences = {}
    for metric in [metric for metric in METRICS if metric.key in system]:
        (value, value_R), (other, other_R) = system[metric.key], reference[metric.key]
        differences[metric.key] = difference(
            value - other,
            value_R - other_R,
            confidence=settings.confidence,
            higher_is_better=metric.higher_is_better,
        )
    return differences


def _win_rate(gain_N: Array, lost: int, won: int, settings: BootstrapSettings) -> WinRate:
    """The win rate out of the gain in quality per clip, NaN for an unrated one, and the clips lost and won unheard."""
    wins = np.concatenate([(np.sign(gain_N) + 1) / 2, np.zeros(lost), np.ones(won)])
    rate = float(np.nanmean(wins))
    resampled_R = resampled_means(wins, resample_indices(len(wins), resamples=settings.resamples, seed=settings.seed))
    tested = difference(rate - 0.5, resampled_R - 0.5, confidence=settings.confidence, higher_is_better=True)
    low, high, clips = tested.low + 0.5, tested.high + 0.5, int(np.isfinite(wins).sum())
    return WinRate(rate, low, high, tested.p_better, tested.p_two_sided, clips)


def verdict(metric: Metric, change: Difference, *, no_change: float = 0.0) -> str:
    """`better`, `worse`, or `unclear` when the interval of the paired difference holds `no_change`."""
    if change.low <= no_change <= change.high:
        return "unclear"
    return "better" if (change.low > no_change) == metric.higher_is_better else "worse"
