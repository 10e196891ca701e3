"""The metrics of the paper's Table 1 and a few more: what each is called, which way is better, and how two systems
compare.

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

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

SYSTEMS = ("base", "aligned")
NO_FAILURES = {"base": 0, "aligned": 0}


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
#: Metrics of all clips together, and those that are means of one number per clip.
SET_METRICS = ("fd_passt", "inception_score")
PER_CLIP = ("kl_panns", "kl_passt", "ib_score", "desync_s", "clap_score", "rater_quality")


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
class Comparison:
    """Both systems' metrics on the same clips, and their paired differences, aligned minus base.

    `intervals` maps system -> metric key, `differences` metric key. `win_rate` is the share of clips where the rater
    prefers the aligned system, ties counting one half, tested against one half; a clip that one system alone failed on
    is lost by it. Metrics no clip has are absent. `counts` maps the key of a metric, or `win_rate`, to the number of
    clips it rests on, `failed` a system to the number of clips on which it alone made no usable sound, and `bootstrap`
    is how the intervals were made. `levels` maps `real` and the systems -> key of LEVELS, None where no clip has it; it
    is empty where no sound was at hand.
    """

    clips: int
    intervals: dict[str, dict[str, Interval]]
    differences: dict[str, Difference]
    win_rate: Difference | None
    counts: Mapping[str, int]
    failed: Mapping[str, int]
    bootstrap: BootstrapSettings
    levels: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries with numbers (and null for a missing level) only, the content of `metrics.json`."""
        content: dict[str, Any] = {"clips": self.clips}
        for system, metrics in self.intervals.items():
            content[system] = {key: asdict(value) for key, value in metrics.items()}
        content["difference"] = {key: asdict(value) for key, value in self.differences.items()}
        content |= {"counts": dict(self.counts), "failed": dict(self.failed), "bootstrap": asdict(self.bootstrap)}
        content["levels"] = {name: dict(levels) for name, levels in self.levels.items()}
        return content if self.win_rate is None else {**content, "win_rate": asdict(self.win_rate)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Comparison:
        """The comparison from what `to_dict` gave; raises UserError when an earlier release gave it."""
        try:
            return Comparison(
                clips=content["clips"],
                intervals={
                    system: {key: Interval(**value) for key, value in content[system].items()} for system in SYSTEMS
                },
                differences={key: Difference(**value) for key, value in content["difference"].items()},
                win_rate=Difference(**content["win_rate"]) if "win_rate" in content else None,
                counts=content["counts"],
                failed=content["failed"],
                bootstrap=BootstrapSettings(**content["bootstrap"]),
                levels=content["levels"],
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"These metrics are of an earlier release: {error!r}.",
                where="metrics.json",
                remedy="Evaluate again, and register the model again where it was registered.",
            ) from error


def per_clip_values(reference: SystemClips, system: SystemClips) -> dict[str, Array]:
    """The numbers `[N]` behind the metrics that are means over clips, NaN where a clip has none; rows must be paired.

    `inception_contribution` is each clip's part of a one-chunk Inception Score, against the real audio's marginal.
    """
    columns, real = system.columns, reference.columns
    return {
        "kl_panns": kl_divergences(real["panns_logits"], columns["panns_logits"]),
        "kl_passt": kl_divergences(real["passt_logits"], columns["passt_logits"]),
        "inception_contribution": inception_contributions(columns["panns_logits"], marginal(real["panns_logits"])),
        "ib_score": 100.0 * columns["imagebind"].astype(np.float64),
        "desync_s": columns["desync"].astype(np.float64),
        "clap_score": columns["clap"].astype(np.float64),
        "rater_quality": columns["quality"].astype(np.float64),
    }


@dataclass(frozen=True)
class EvaluatedClips:
    """All that the metrics need of one system, one row per clip: numbers `[N]` by name, embeddings
    `[N, D]`, logits `[N, C]`.

    `values` are those of `per_clip_values`, `passt_embedding` feeds FD, `panns_logits` the Inception Score.
    """

    clip_ids: list[str]
    values: Mapping[str, Array]
    passt_embedding: NDArray[np.floating]
    panns_logits: NDArray[np.floating]


def evaluated_clips(reference: SystemClips, system: SystemClips) -> EvaluatedClips:
    """What the metrics need of `system`; the rows of the real audio must be paired with it."""
    columns = system.columns
    return EvaluatedClips(
        system.clip_ids, per_clip_values(reference, system), columns["passt_embedding"], columns["panns_logits"]
    )


def compare(
    reference: SystemClips,
    systems: Mapping[str, SystemClips],
    settings: BootstrapSettings,
    *,
    failed: Mapping[str, int] = NO_FAILURES,
) -> Comparison:
    """The metrics of `systems["base"]` and `systems["aligned"]` against the real audio; all rows must be paired.

    `failed` counts the further clips on which one system alone made no usable sound.
    """
    evaluated = {name: evaluated_clips(reference, systems[name]) for name in SYSTEMS}
    return compare_evaluated(reference.columns["passt_embedding"], evaluated, settings, failed=failed)


def compare_evaluated(
    real_embedding: NDArray[np.floating],
    systems: Mapping[str, EvaluatedClips],
    settings: BootstrapSettings,
    *,
    failed: Mapping[str, int],
) -> Comparison:
    """The same of clips that were evaluated before; `real_embedding` holds the real audio's PaSST embeddings
    `[N, D]`."""
    indices = resample_indices(len(real_embedding), resamples=settings.resamples, seed=settings.seed)
    clips = {name: systems[name].values for name in SYSTEMS}
    values: dict[str, dict[str, tuple[float, Array]]] = {name: {} for name in SYSTEMS}
    counts = dict.fromkeys(SET_METRICS, len(real_embedding))
    for key in PER_CLIP:
        # A clip that one system has no number for would make the two means incomparable.
        both = np.isfinite(clips["base"][key]) & np.isfinite(clips["aligned"][key])
        if both.any():
            counts[key] = int(both.sum())
            for name in SYSTEMS:
                numbers = np.where(both, clips[name][key], np.nan)
                values[name][key] = (float(np.nanmean(numbers)), resampled_means(numbers, indices))
    embeddings = [systems[name].passt_embedding for name in SYSTEMS]
    distances = resampled_frechet_distances(
        embeddings, real_embedding, resample_counts(indices[: settings.fd_resamples])
    )
    for name, resampled in zip(SYSTEMS, distances, strict=True):
        logits = systems[name].panns_logits
        values[name]["fd_passt"] = (frechet_distance(systems[name].passt_embedding, real_embedding), resampled)
        values[name]["inception_score"] = (inception_score(logits).mean, resampled_inception_scores(logits, indices))
    intervals, differences = _intervals(values, settings.confidence)
    wins = _wins(clips, failed)
    if wins is not None:
        counts["win_rate"] = int(np.isfinite(wins).sum())
    return Comparison(
        len(real_embedding),
        intervals,
        differences,
        None if wins is None else _win_rate(wins, settings),
        counts=counts,
        failed=failed,
        bootstrap=settings,
    )


def _wins(clips: Mapping[str, Mapping[str, Array]], failed: Mapping[str, int]) -> Array | None:
    """1, 1/2 or 0 for each clip the aligned system wins, draws or loses, NaN for an unrated one; None without
    ratings."""
    gain = clips["aligned"]["rater_quality"] - clips["base"]["rater_quality"]
    if not np.isfinite(gain).any():
        return None
    return np.concatenate([(np.sign(gain) + 1) / 2, np.zeros(failed["aligned"]), np.ones(failed["base"])])


def _intervals(
    values: Mapping[str, Mapping[str, tuple[float, Array]]], confidence: float
) -> tuple[dict[str, dict[str, Interval]], dict[str, Difference]]:
    present = [metric for metric in METRICS if metric.key in values["base"]]
    intervals = {
        name: {metric.key: interval(*values[name][metric.key], confidence=confidence) for metric in present}
        for name in SYSTEMS
    }
    differences = {}
    for metric in present:
        (base, base_R), (aligned, aligned_R) = (values[name][metric.key] for name in SYSTEMS)
        differences[metric.key] = difference(
            aligned - base, aligned_R - base_R, confidence=confidence, higher_is_better=metric.higher_is_better
        )
    return intervals, differences


def _win_rate(wins: Array, settings: BootstrapSettings) -> Difference:
    rate = float(np.nanmean(wins))
    resampled_R = resampled_means(wins, resample_indices(len(wins), resamples=settings.resamples, seed=settings.seed))
    tested = difference(rate - 0.5, resampled_R - 0.5, confidence=settings.confidence, higher_is_better=True)
    return Difference(rate, tested.low + 0.5, tested.high + 0.5, tested.p_better, tested.p_two_sided)


def verdict(metric: Metric, change: Difference, *, no_change: float = 0.0) -> str:
    """`better`, `worse`, or `unclear` when the interval of the paired difference holds `no_change`."""
    if change.low <= no_change <= change.high:
        return "unclear"
    return "better" if (change.low > no_change) == metric.higher_is_better else "worse"
