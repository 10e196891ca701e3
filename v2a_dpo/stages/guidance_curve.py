"""Part of the evaluate stage: base and aligned at several guidance scales, not at one chosen point.

Guidance alone repairs much of what alignment repairs, so one scale would flatter either of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import join
from v2a_dpo.evaluation.inputs import EvaluationInputs, System
from v2a_dpo.evaluation.metrics import SYSTEMS, BootstrapSettings, Comparison, compare
from v2a_dpo.evaluation.systems import SystemClips
from v2a_dpo.stages.generate import generate
from v2a_dpo.stages.score import score

#: Enough for an interval in a figure; the main result has its own number.
_CURVE_RESAMPLES = 500


@dataclass(frozen=True)
class Models:
    """The two generators' folders and the test clips' conditions."""

    base: str
    aligned: str
    conditions: str


def guidance_curve(
    inputs: EvaluationInputs, models: Models, *, real: SystemClips, clips: str, scorers: str, output: str
) -> list[dict[str, Any]]:
    """One flat record a guidance scale and system: every metric's value, `_low` and `_high`, on the first clips.

    Candidates and scores are made by the ordinary stages in `output`, and found there by the next run.
    """
    params = inputs.params
    shards = Dataset.open(models.conditions, "conditions").shards
    limit = max(1, math.ceil(params.evaluate.curve_clips / max(1, len(shards))))
    settings = replace(BootstrapSettings.of(params), resamples=_CURVE_RESAMPLES, fd_resamples=_CURVE_RESAMPLES // 5)
    records: list[dict[str, Any]] = []
    for scale in params.evaluate.guidance_curve:
        systems = {}
        for name in SYSTEMS:
            folder = join(output, f"{name}-{scale:g}")
            made: System = (join(folder, "candidates"), join(folder, "scores"))
            generate(
                params,
                conditions=models.conditions,
                generator=models.base if name == "base" else models.aligned,
                output=made[0],
                candidates=1,
                guidance_scale=scale,
                limit=limit,
                progress=inputs.progress,
            )
            score(params, clips=clips, candidates=made[0], scorers=scorers, output=made[1], progress=inputs.progress)
            systems[name] = inputs.system(made, join(folder, "features"))
        records += _records(scale, _compared(inputs, real, systems, settings))
    return records


def _compared(
    inputs: EvaluationInputs, real: SystemClips, systems: dict[str, SystemClips], settings: BootstrapSettings
) -> Comparison:
    tried = set(systems["base"].clip_ids) | set(systems["aligned"].clip_ids)
    expected = [clip_id for clip_id in inputs.clip_ids if clip_id in tried]
    paired = inputs.pair(real, systems, expected).clip_ids
    return compare(real.select(paired), {name: system.select(paired) for name, system in systems.items()}, settings)


def _records(scale: float, comparison: Comparison) -> list[dict[str, Any]]:
    records = []
    for name in SYSTEMS:
        record: dict[str, Any] = {"guidance_scale": scale, "system": name, "clips": comparison.clips}
        for key, found in comparison.intervals[name].items():
            record |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
        records.append(record)
    return records
