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

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
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


def evaluated_clips(real: SystemClips, system: SystemClips) -> SystemClips:
    """All that the metrics need of `system`; the rows of the real audio must be paired with it.

    The columns are PER_CLIP_VALUES `[N]`, NaN where a clip has none (`inception_contribution` against the real audio's
    marginal), `passt_embedding` and `real_passt_embedding` for FD, and `panns_logits` for the Inception Score.
    """
    columns = system.columns
    real_logits = real.columns["panns_logits"]
    evaluated = {
        "kl_panns": kl_divergences(real_logits, columns["panns_logits"]),
        "kl_passt": kl_divergences(real.columns["passt_logits"], columns["passt_logits"]),
        "inception_contribution": inception_contributions(columns["panns_logits"], marginal(real_logits)),
        "ib_score": 100.0 * columns["imagebind"].astype(np.float64),
        "desync_s": columns["desync"].astype(np.float64),
        "clap_score": columns["clap"].astype(np.float64),
        "rater_quality": columns["quality"].astype(np.float64),
        "passt_embedding": columns["passt_embedding"],
        "panns_logits": columns["panns_logits"],
        "real_passt_embedding": real.columns["passt_embedding"],
    }
    return SystemClips(system.clip_ids, evaluated)


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
    failed_clips = {name: frozenset(failed[name] if failed else ()) for name in systems}
    real_embedding = systems[reference].columns["real_passt_embedding"]
    count = len(real_embedding)
    indices = resample_indices(count, resamples=settings.resamples, seed=settings.seed)
    values: dict[str, dict[str, tuple[float, Array]]] = {name: {} for name in systems}
    counts = dict.fromkeys(SET_METRICS, count)
    quality = {}
    for key in PER_CLIP:
        # A clip that one system has no number for would make the means incomparable.
        present = np.logical_and.reduce([np.isfinite(system.columns[key]) for system in systems.values()])
        numbers = {name: np.where(present, system.columns[key], np.nan) for name, system in systems.items()}
        if present.any():
            counts[key] = int(present.sum())
            for name, numbers_N in numbers.items():
                values[name][key] = (float(np.nanmean(numbers_N)), resampled_means(numbers_N, indices))
            if key == "rater_quality":
                quality = numbers
    embeddings = [system.columns["passt_embedding"] for system in systems.values()]
    distances = resampled_frechet_distances(
        embeddings, real_embedding, resample_counts(indices[: settings.fd_resamples])
    )
    for (name, system), resampled in zip(systems.items(), distances, strict=True):
        logits = system.columns["panns_logits"]
        values[name]["fd_passt"] = (frechet_distance(system.columns["passt_embedding"], real_embedding), resampled)
        values[name]["inception_score"] = (inception_score(logits).mean, resampled_inception_scores(logits, indices))
    others = [name for name in systems if name != reference]
    by_all = frozenset.intersection(*failed_clips.values())
    return Comparison(
        count,
        reference,
        {name: _intervals(values[name], settings) for name in systems},
        {name: _differences(values[name], values[reference], settings) for name in others},
        {name: _win_rate(quality, failed_clips, name, reference, settings) for name in others if quality},
        counts=counts,
        failed={name: len(clip_ids - by_all) for name, clip_ids in failed_clips.items()},
        bootstrap=settings,
    )


def _intervals(values: Mapping[str, tuple[float, Array]], settings: BootstrapSettings) -> dict[str, Interval]:
    return {
        metric.key: interval(*values[metric.key], confidence=settings.confidence)
        for metric in METRICS
        if metric.key in values
    }


def _differences(
    system: Mapping[str, tuple[float, Array]],
    reference: Mapping[str, tuple[float, Array]],
    settings: BootstrapSettings,
) -> dict[str, Difference]:
    differences = {}
    for metric in METRICS:
        if metric.key in system:
            (value, value_R), (other, other_R) = system[metric.key], reference[metric.key]
            differences[metric.key] = difference(
                value - other,
                value_R - other_R,
                confidence=settings.confidence,
                higher_is_better=metric.higher_is_better,
            )
    return differences


def _win_rate(
    quality: Mapping[str, Array],
    failed: Mapping[str, frozenset[str]],
    system: str,
    reference: str,
    settings: BootstrapSettings,
) -> WinRate:
    """Of each clip 1, 1/2 or 0 where `system` wins, draws or loses, NaN for an unrated one."""
    compared = (np.sign(quality[system] - quality[reference]) + 1) / 2
    lost, won = len(failed[system] - failed[reference]), len(failed[reference] - failed[system])
    wins = np.concatenate([compared, np.zeros(lost), np.ones(won)])
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
